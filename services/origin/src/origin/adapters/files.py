"""Reading files so that the event loop never waits for a disk.

What the kernel has in memory is read at once (``RWF_NOWAIT``); only what must come from the disk costs a thread.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from common.storage.beneath import open_beneath
from common.storage.port import FileMissing
from origin.ports import FileFacts

_WARM_SECONDS = 30.0
"""A file opened so lately has its name in the kernel's memory, so that opening it again does not wait."""
_WARM_FILES = 4096


class FolderFiles:
    """Files below the folders of the file system backends."""

    def __init__(self, *, folders: Mapping[str, Path], threads: int) -> None:
        self._folders = dict(folders)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="read")
        self._warm: dict[tuple[str, str], float] = {}

    async def open(self, backend: str, locator: str) -> DescriptorFile:
        """Open the file; as the port says."""
        folder = self._folders.get(backend)
        if folder is None:
            raise FileMissing("This backend is not served here.", code="backend-unknown")
        key, moment = (backend, locator), time.monotonic()
        if moment - self._warm.get(key, -_WARM_SECONDS) < _WARM_SECONDS:
            descriptor = open_beneath(folder, locator)
        else:
            loop = asyncio.get_running_loop()
            opening = loop.run_in_executor(self._pool, open_beneath, folder, locator)
            try:
                descriptor = await asyncio.shield(opening)
            except asyncio.CancelledError:
                opening.add_done_callback(_close_result)
                raise
            self._warm.pop(key, None)
            self._warm[key] = moment
            if len(self._warm) > _WARM_FILES:
                del self._warm[next(iter(self._warm))]
        return DescriptorFile(descriptor, self._pool)

    def close(self) -> None:
        """Let the threads go; does not wait for a disk."""
        self._pool.shutdown(wait=False, cancel_futures=True)


class DescriptorFile:
    """One open file."""

    def __init__(self, descriptor: int, pool: ThreadPoolExecutor) -> None:
        self._descriptor = descriptor
        self._pool = pool
        self._reading: asyncio.Future[memoryview] | None = None
        found = os.fstat(descriptor)
        self.facts = FileFacts(size=found.st_size, modified_ns=found.st_mtime_ns, number=found.st_ino)

    def read_cached(self, offset: int, length: int) -> memoryview | None:
        """As the port says; None also on file systems that cannot tell."""
        buffer = bytearray(length)
        try:
            count = os.preadv(self._descriptor, [buffer], offset, os.RWF_NOWAIT)
        except OSError:  # EAGAIN: not in memory; EOPNOTSUPP: this file system cannot tell
            return None
        return memoryview(buffer)[:count] if count else None

    async def read(self, offset: int, length: int) -> memoryview:
        """As the port says, in a thread."""
        self._reading = asyncio.get_running_loop().run_in_executor(self._pool, self._read, offset, length)
        data = await asyncio.shield(self._reading)
        self._reading = None
        return data

    def close(self) -> None:
        """Close the descriptor; after the thread that still reads from it, if the request was given up."""
        if self._reading is not None and not self._reading.done():
            self._reading.add_done_callback(self._close_late)
        else:
            os.close(self._descriptor)

    def _close_late(self, reading: asyncio.Future[memoryview]) -> None:
        if not reading.cancelled():
            reading.exception()  # it was given up: nobody else will look
        os.close(self._descriptor)

    def _read(self, offset: int, length: int) -> memoryview:
        buffer = bytearray(length)
        return memoryview(buffer)[: os.preadv(self._descriptor, [buffer], offset)]


def _close_result(opening: asyncio.Future[int]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        os.close(opening.result())
