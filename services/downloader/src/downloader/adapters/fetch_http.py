"""Fetching over HTTP: resumed where it broke off, hashed as it arrives."""

from __future__ import annotations

import hashlib
import os
import re
import threading
import time
from pathlib import Path
from typing import Protocol

from common.errors import PermanentError, TransientError
from downloader.adapters.disk import Disk, disk_errors
from downloader.errors import DiskFull, Stopped
from downloader.ports import Fetched, FetchState, Spool, Watch
from downloader.service.sniff import HEAD_BYTES
from sources.http import GuardedHttp, check_status
from sources.port import HttpCandidate
from sources.wire import Response

BUFFER = 1024 * 1024
"""Bytes a thread reads at once: larger ones gain nothing measurable."""
_FIRST = 16 * 1024
_LEAST = 4 * 1024
_SLICE_SECONDS = 0.5
"""A read is as large as what arrives in this time, so that slow servers show progress too."""
RESUME_FROM = 1024 * 1024
"""Shorter files are fetched anew: noting how to go on costs more than it saves."""
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)$")


class _Hash(Protocol):
    def update(self, data: memoryview, /) -> None: ...

    def hexdigest(self) -> str: ...


class HttpFetcher:
    """Blocking; one call per thread at a time. ``max_size`` in bytes."""

    def __init__(self, *, http: GuardedHttp, spool: Spool, disk: Disk, max_size: int) -> None:
        self._http = http
        self._spool = spool
        self._disk = disk
        self._max_size = max_size
        self._threads = threading.local()

    def fetch(self, candidate: HttpCandidate, song_id: int, *, noted: FetchState | None, watch: Watch) -> Fetched:
        """Bring the whole body into the spool.

        Raises PermanentError (gone, refused, too large), TransientError (broken off, stalled, busy),
        DiskFull, Stopped. After the transient ones the part stays, where it can be continued.
        """
        digest = hashlib.sha256(candidate.url.encode()).hexdigest()
        state = noted if noted is not None and noted.url_digest == digest else None
        have = self._part_size(song_id) if state is not None else 0
        validator = _validator(state) if state is not None and have else None
        if validator is None:
            have = 0
        try:
            with self._ask(candidate, have, validator, watch) as response:
                if have and response.status == 206 and _continues(response, have, state):
                    return self._receive(response, song_id, have, watch, total=state.total if state else None)
                if have and response.status in (206, 416):
                    response.close()
                else:
                    return self._from_start(response, song_id, digest, watch)
            # It offers another part than the one that was asked for: everything anew.
            with self._ask(candidate, 0, None, watch) as response:
                return self._from_start(response, song_id, digest, watch)
        except TransientError:
            if not isinstance(self._spool.recall(song_id), FetchState):
                self._spool.drop_part(song_id)
            if watch.canceled():
                raise Stopped from None
            raise
        except (PermanentError, DiskFull):
            self._spool.forget(song_id)
            raise

    def _ask(self, candidate: HttpCandidate, have: int, validator: str | None, watch: Watch) -> Response:
        return self._http.open(
            candidate.url,
            headers=candidate.headers,
            range_from=have or None,
            if_range=validator,
            allow_private=candidate.allow_private,
            canceled=watch.canceled,
        )

    def _part_size(self, song_id: int) -> int:
        try:
            return self._spool.part(song_id).stat().st_size
        except FileNotFoundError:
            return 0

    def _from_start(self, response: Response, song_id: int, digest: str, watch: Watch) -> Fetched:
        check_status(response)
        if response.status != 200:
            raise TransientError("The server sent a part that nobody asked for.", code="bad-answer")
        total = response.length
        state = FetchState(
            url_digest=digest,
            etag=response.headers.get("ETag"),
            modified=response.headers.get("Last-Modified"),
            total=total,
        )
        if (total is None or total >= RESUME_FROM) and _validator(state) is not None:
            with disk_errors():
                # The old bytes go before the new note comes: a note never speaks for the bytes of another.
                self._spool.forget(song_id)
                self._spool.remember_fetch(song_id, state)
        else:
            self._spool.forget(song_id, only_record=True)
        return self._receive(response, song_id, 0, watch, total=total)

    def _receive(self, response: Response, song_id: int, have: int, watch: Watch, *, total: int | None) -> Fetched:
        if response.encoded:
            raise PermanentError(
                "The server sends the file compressed, although it was not asked to.", code="bad-answer"
            )
        self._check_size(total or 0)
        self._disk.require(max(0, (total or 0) - have))
        path = self._spool.part(song_id)
        with disk_errors():
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC) if have else self._make(path, song_id)
            try:
                sha = hashlib.sha256()
                head = bytearray()
                view = self._buffer()
                if have:
                    have = self._reread(fd, have, sha, head, view)
                size = self._copy(response, fd, have, sha, head, view, watch, total)
                os.fsync(fd)
            finally:
                os.close(fd)
        if total is not None and size != total:
            raise TransientError(f"The file ended after {size} of {total} bytes.", code="connection-lost")
        return Fetched(path=path, sha256=sha.hexdigest(), size=size, head=bytes(head))

    def _make(self, path: Path, song_id: int) -> int:
        """A new file; never one that was there, which might be a second name of somebody's own."""
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            return os.open(path, flags, 0o666)
        except FileExistsError:
            self._spool.drop_part(song_id)
            return os.open(path, flags, 0o666)

    def _copy(
        self,
        response: Response,
        fd: int,
        size: int,
        sha: _Hash,
        head: bytearray,
        view: memoryview,
        watch: Watch,
        total: int | None,
    ) -> int:
        ask = _FIRST
        watch.progress(size, total, "")
        before = time.monotonic()
        while count := response.read_into(view[:ask]):
            data = view[:count]
            sha.update(data)
            if len(head) < HEAD_BYTES:
                head += data[: HEAD_BYTES - len(head)]
            _write_all(fd, data)
            size += count
            watch.progress(size, total, "")
            if watch.canceled():
                raise Stopped
            if total is None:
                self._check_size(size)
            now = time.monotonic()
            took = now - before
            before = now
            ask = min(BUFFER, ask * 4) if took < _SLICE_SECONDS / 4 else max(_LEAST, int(count * _SLICE_SECONDS / took))
            ask = min(ask, BUFFER)
        return size

    def _reread(self, fd: int, have: int, sha: _Hash, head: bytearray, view: memoryview) -> int:
        """Hash what is there already, and stand at its end."""
        size = 0
        while size < have and (count := os.readv(fd, [view])):
            data = view[:count]
            sha.update(data)
            if len(head) < HEAD_BYTES:
                head += data[: HEAD_BYTES - len(head)]
            size += count
        return size

    def _check_size(self, size: int) -> None:
        if size > self._max_size:
            raise PermanentError(
                f"The file is larger than {self._max_size // 1024**2} MiB. Raise MAX_FILE_SIZE to take it.",
                code="file-too-large",
            )

    def _buffer(self) -> memoryview:
        """The thread's own buffer, made once."""
        if not hasattr(self._threads, "buffer"):
            self._threads.buffer = memoryview(bytearray(BUFFER))
        buffer: memoryview = self._threads.buffer
        return buffer


def _validator(state: FetchState) -> str | None:
    """What If-Range takes: a strong ETag, else a date. Without either the rest may belong to other bytes."""
    if state.etag and not state.etag.startswith("W/") and _is_header(state.etag):
        return state.etag
    return state.modified if state.modified and _is_header(state.modified) else None


def _is_header(text: str) -> bool:
    return len(text) <= 512 and text.isascii() and text.isprintable()


def _continues(response: Response, have: int, state: FetchState | None) -> bool:
    match = _CONTENT_RANGE.match((response.headers.get("Content-Range") or "").strip())
    if match is None or int(match[1]) != have:
        return False
    total = state.total if state else None
    etag = response.headers.get("ETag")
    if state is not None and state.etag and etag and etag != state.etag:
        return False
    return match[2] == "*" or total is None or int(match[2]) == total


def _write_all(fd: int, data: memoryview) -> None:
    while data:
        data = data[os.write(fd, data) :]
