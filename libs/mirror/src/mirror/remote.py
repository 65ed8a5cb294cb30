"""The publisher's server: what is newest, how to get it, and the bytes, all bounded and none of it believed."""

from __future__ import annotations

import contextlib
import functools
import json
import re
import ssl
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, Self

import httpx
import msgpack

from mirror.address import Address, is_loopback, same_origin
from mirror.format.manifest import Manifest, parse
from mirror.listing import first_step, read_listing
from mirror.offer import Offer, garbage, read_count, read_id
from mirror.problems import BeingMade, NotOffered, Refused, Unavailable

_MSGPACK = "application/x-msgpack"
_ANSWER_AT_MOST = 4 << 20
"""Bytes of an answer that is no pack; a manifest has some kilobytes."""
_REDIRECTS = 5
_LONGEST_WAIT = 3600.0
"""Seconds of ``Retry-After`` that are believed."""
_LATER = {408, 425, 429, 500, 502, 503, 504}
_GONE = {401, 403, 404, 410}
_BEING_MADE = ("pack-not-ready", "too-many-packs", "pack-cache-full")
"""Codes of a refusal of ``fetch`` which say that the pack comes if it is asked for again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """Seconds: to connect, for one read, for a whole answer; and the slowest pack that is worth waiting for."""

    connect: float = 10.0
    read: float = 30.0
    answer: float = 60.0
    slowest: float = 1024.0
    """Bytes a second, over each time of ``window`` seconds."""
    window: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Newest:
    """What the server calls its newest snapshot. ``manifest``: that of it, whose signature is not checked yet;
    ``packs``: those of a bucket, and what they are applied to."""

    snapshot_id: str
    manifest: Manifest | None
    manifest_bytes: bytes
    packs: Sequence[tuple[str | None, Offer]]


@dataclass(frozen=True, slots=True)
class Body:
    """A pack on its way. ``start``: the byte at which it begins; ``total``: bytes of the whole, if announced."""

    start: int
    total: int | None
    validator: str | None
    chunks: Iterator[bytes]


class PlaceExpired(Exception):
    """The pack's URL is no longer good; the server gives another."""


class Remote:
    """One catalog on its server. Use as a context manager; not for several threads at once."""

    def __init__(self, *, address: Address, token: str | None = None, patience: Patience | None = None) -> None:
        self._address = address
        self._token = token
        self._patience = patience or Patience()
        self._newest: tuple[str, str, Newest] | None = None
        self._packs: tuple[str, Sequence[tuple[str | None, Offer]]] | None = None
        self._client = httpx.Client(
            headers={"User-Agent": "music-cloud-mirror", "Accept-Encoding": "identity"},
            timeout=httpx.Timeout(self._patience.read, connect=self._patience.connect),
            follow_redirects=False,
            verify=_tls(),
            # Proxies of the environment are for the way to others.
            trust_env=not is_loopback(httpx.URL(address.url).host),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._client.close()

    @property
    def listed(self) -> bool:
        """Whether packs are offered from the list that came with the newest snapshot: nobody is asked for one."""
        return self._packs is not None

    def newest(self) -> Newest:
        """The newest snapshot. Raises Unavailable, NotOffered, Refused, ManifestError."""
        try:
            return self._refs(f"{self._address.url}/refs")
        except NotOffered:
            with contextlib.suppress(NotOffered):
                return self._refs(f"{self._address.url}/refs.json")
            raise

    def _refs(self, url: str) -> Newest:
        headers = {"Accept": "application/json"}
        if self._newest and self._newest[0] == url:
            headers["If-None-Match"] = self._newest[1]
        with self._ask("GET", url, headers=headers) as response:
            if response.status_code == 304 and self._newest:
                return self._newest[2]
            found = _newest(self._answer(response))
            etag = response.headers.get("ETag")
            self._newest = (url, etag, found) if etag else None
        self._packs = (url, found.packs) if url.endswith(".json") else None
        return found

    def offer(self, *, want: str, have: Sequence[str]) -> Offer | None:
        """Ask for what leads from one of ``have`` to ``want``, or nearer; None: nothing does, they are the same.

        Raises as :meth:`newest` does; BeingMade where the same question will be answered later.
        """
        if self._packs is not None:
            base, packs = self._packs
            step = first_step(packs, want=want, have=have[0] if have else None)
            if step is None:
                raise NotOffered("no-pack", "The publisher's bucket has no pack that leads to its newest snapshot.")
            return replace(step, url=self._address.follow(step.url, base=base))
        with self._ask(
            "POST",
            f"{self._address.url}/fetch",
            headers={"Accept": _MSGPACK, "Content-Type": _MSGPACK},
            content=msgpack.packb({"want": [want], "have": list(have)}),
        ) as response:
            base = str(response.url)
            if response.status_code == 503 and self._is_being_made(response):
                raise BeingMade(
                    "pack-not-ready",
                    "The publisher's server is still making the pack. Ask again later.",
                    retry_after=_retry_after(response),
                )
            answer = self._answer(response)
        place = answer.get("mpack_url")
        if place is None:
            return None
        if not isinstance(place, str):
            raise garbage()
        return Offer(
            want=want,
            url=self._address.follow(place, base=base),
            pack_id=read_id(answer.get("mpack_id")),
            blob_count=read_count(answer.get("blob_count")),
            size=None if answer.get("size") is None else read_count(answer["size"]),
        )

    @contextlib.contextmanager
    def pack(self, url: str, *, start: int = 0, validator: str | None = None) -> Iterator[Body]:
        """Read a pack from byte ``start`` on, or all of it where the server cannot resume.

        Raises PlaceExpired, Unavailable, Refused; also while the chunks are read.
        """
        headers = {"Accept": "application/octet-stream, */*"}
        if start:
            headers["Range"] = f"bytes={start}-"
            if validator:
                headers["If-Range"] = validator
        with self._ask("GET", url, headers=headers) as response:
            status = response.status_code
            if status == 416 and start:
                with self.pack(url) as body:
                    yield body
                return
            if status in _GONE:
                raise PlaceExpired
            if status not in (200, 206):
                raise self._problem(response)
            _no_encoding(response)
            begins, total = _extent(response, start)
            validator = response.headers.get("ETag")
            if validator and validator.startswith("W/"):
                validator = None
            yield Body(begins, total, validator, self._chunks(response))

    def _chunks(self, response: httpx.Response) -> Iterator[bytes]:
        began, got = time.monotonic(), 0
        try:
            for chunk in response.iter_raw():
                # However late it came: what is here is not fetched again.
                yield chunk
                got += len(chunk)
                passed = time.monotonic() - began
                if passed >= self._patience.window:
                    if got < self._patience.slowest * passed:
                        raise Unavailable(
                            "server-slow", "The pack comes too slowly; what came is kept for the next try."
                        )
                    began, got = time.monotonic(), 0
        except httpx.HTTPError as error:
            raise _unreachable(error) from None

    @contextlib.contextmanager
    def _ask(
        self, method: str, url: str, *, headers: Mapping[str, str], content: bytes | None = None
    ) -> Iterator[httpx.Response]:
        """Send one request, through a few redirects; credentials go to the catalog's own server alone."""
        for _ in range(_REDIRECTS + 1):
            own = {"Authorization": f"Bearer {self._token}"} if self._token and self._is_catalog(url) else {}
            try:
                request = self._client.build_request(method, url, headers={**headers, **own}, content=content)
                response = self._client.send(request, stream=True)
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                raise _unreachable(error) from None
            try:
                if response.status_code not in (301, 302, 303, 307, 308):
                    yield response
                    return
                if method != "GET" and response.status_code not in (307, 308):
                    raise Refused("redirect", "The server answers a question with a redirect that would lose it.")
                url = self._address.follow(response.headers.get("Location", ""), base=url)
            finally:
                response.close()
        raise Refused("redirect", f"The server redirects more than {_REDIRECTS} times.")

    def _is_catalog(self, url: str) -> bool:
        """Whether a URL is below the catalog's own: packs that the server itself serves lie elsewhere and need none."""
        own = httpx.URL(self._address.url)
        return same_origin(url, self._address.url) and httpx.URL(url).path.startswith(f"{own.path}/")

    def _answer(self, response: httpx.Response) -> Mapping[str, Any]:
        """The map of a successful answer, read whole."""
        if response.status_code != 200:
            raise self._problem(response)
        return self._content(response)

    def _is_being_made(self, refusal: httpx.Response) -> bool:
        try:
            code = self._content(refusal).get("code")
        except Refused:
            code = None  # a proxy shows a page of its own instead
        return code in _BEING_MADE or (code is None and _retry_after(refusal) is not None)

    def _content(self, response: httpx.Response) -> Mapping[str, Any]:
        """The map that an answer holds, whatever its status."""
        _no_encoding(response)
        deadline = time.monotonic() + self._patience.answer
        data = bytearray()
        try:
            for chunk in response.iter_raw():
                data += chunk
                if len(data) > _ANSWER_AT_MOST:
                    raise Refused(
                        "answer-too-large", "The server's answer does not end. Is this URL that of a catalog?"
                    )
                if time.monotonic() > deadline:
                    raise Unavailable("server-slow", "The server's answer comes too slowly.")
        except httpx.HTTPError as error:
            raise _unreachable(error) from None
        try:
            packed = response.headers.get("Content-Type", "").partition(";")[0].strip() == _MSGPACK
            answer = msgpack.unpackb(bytes(data)) if packed else json.loads(data)
        except (ValueError, RecursionError, msgpack.UnpackException):
            raise garbage() from None
        if not isinstance(answer, dict):
            raise garbage()
        return answer

    def _problem(self, response: httpx.Response) -> Exception:
        status = response.status_code
        if status in (401, 403, 404):
            return NotOffered(
                "no-such-catalog",
                "The server knows no such catalog or snapshot. Check the URL; a private catalog needs its token "
                + ("(the one that was sent is not accepted)." if self._token else "(--token-file)."),
            )
        if status in _LATER:
            return Unavailable(
                "server-not-ready",
                f"The server asks to come again later (status {status}).",
                retry_after=_retry_after(response),
            )
        return Refused("answer", f"The server answers with status {status}, which is not of this protocol.")


@functools.cache
def _tls() -> ssl.SSLContext:
    """One for the process: to read the certificates that are trusted takes longer than to ask for what is new."""
    return httpx.create_ssl_context()


def _newest(answer: Mapping[str, Any]) -> Newest:
    id, sent = read_id(answer.get("snapshot_id")), answer.get("manifest")
    packs = read_listing(answer.get("packs"))
    if sent is None:
        return Newest(snapshot_id=id, manifest=None, manifest_bytes=b"", packs=packs)
    try:
        data = json.dumps(sent, ensure_ascii=False, indent=2).encode()
    except ValueError:
        raise garbage() from None
    manifest = parse(data)
    if manifest.snapshot_id != id:
        raise garbage()
    return Newest(snapshot_id=id, manifest=manifest, manifest_bytes=data, packs=packs)


def _extent(response: httpx.Response, start: int) -> tuple[int, int | None]:
    """(first byte, bytes of the whole) of a successful answer."""
    if response.status_code == 206:
        match = re.fullmatch(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})", response.headers.get("Content-Range", ""))
        if match is None or int(match[1]) != start or int(match[2]) + 1 != int(match[3]):
            raise Refused("answer", "The server answers with another part of the pack than was asked for.")
        return start, int(match[3])
    length = response.headers.get("Content-Length", "")
    return 0, int(length) if re.fullmatch(r"\d{1,18}", length) else None


def _no_encoding(response: httpx.Response) -> None:
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise Refused("answer", "The server compresses its answer though it was asked not to.")


def _retry_after(response: httpx.Response) -> float | None:
    """Seconds, from either form of the header."""
    text = response.headers.get("Retry-After", "")
    try:
        if re.fullmatch(r"\d{1,9}", text):
            seconds = float(text)
        else:
            seconds = (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError, IndexError):
        return None
    return min(max(seconds, 0.0), _LONGEST_WAIT)


def _unreachable(error: Exception) -> Unavailable:
    """The library's words can hold the URL, whose signature is a secret: only the kind is told."""
    if isinstance(error, httpx.TimeoutException):
        return Unavailable("server-slow", "The server does not answer in time.")
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return Unavailable(
            "certificate", "The server's certificate is not one that this machine trusts. Nothing was sent."
        )
    return Unavailable("server-unreachable", f"The server cannot be reached, or hung up ({type(error).__name__}).")
