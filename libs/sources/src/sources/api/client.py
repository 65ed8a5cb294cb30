"""JSON from one server: bounded in size and time, asked politely, validated."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from typing import TypeVar
from urllib.parse import quote, urlencode, urlsplit

from pydantic import ValidationError

from common.breaker import UNAVAILABLE, Breakers
from common.errors import ConfigurationError, MusicCloudError, PermanentError, TransientError, Unreachable, Waiting
from common.settings import Settings, split_list

from ..addresses import AddressPolicy, Origin, names_private_address
from ..http import GuardedHttp, check_status, iter_body, server_name
from ..urls import has_userinfo, normalize
from .fields import Answer, malformed
from .pace import Pace, rate_of

MAX_BYTES = 8 * 1024**2
"""Of one answer: a page of any list that we ask for is a tenth of it."""
PATIENCE = 3600.0
"""Seconds that items wait for a server that is away, as for those that give files."""
PROBLEM_SECONDS = 300.0
"""How long the last failure speaks for the server's health; asking it only for that would not be polite."""
A = TypeVar("A", bound=Answer)


class ApiClient:
    """One per source; safe to share between threads. ``deadline``: seconds for a whole answer."""

    def __init__(
        self,
        *,
        source: str,
        base_url: str,
        http: GuardedHttp,
        pace: Pace,
        deadline: float,
        access_hint: str,
        headers: Mapping[str, str] | None = None,
        breakers: Breakers | None = None,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        """``access_hint``: a sentence that says which setting to correct when access is refused."""
        self.source = source
        self.base_url = base_url.rstrip("/")
        self.origin = Origin.of(base_url)
        self.pace = pace
        self._http = http
        self.deadline = deadline
        self._access_hint = access_hint
        self._headers = {"Accept": "application/json", **(headers or {})}
        self._breakers = breakers or Breakers(patience=PATIENCE)
        self._max_bytes = max_bytes
        self._problem: tuple[str, float] | None = None

    @property
    def problem(self) -> str | None:
        """Why the server could not be used when it was last asked, if that is not long ago."""
        problem = self._problem
        return problem[0] if problem and time.monotonic() - problem[1] < PROBLEM_SECONDS else None

    def allows_private(self, url: str) -> bool:
        """Whether a person named this address of the local network: it is where the API lies."""
        return Origin.of(url) == self.origin and names_private_address(self.origin.host)

    def url(self, path: str, query: Iterable[tuple[str, str]] = (), *, base: str | None = None) -> str:
        """An address of the server; ``path`` is encoded already."""
        asked = urlencode(list(query), quote_via=quote)
        return f"{base or self.base_url}{path}" + (f"?{asked}" if asked else "")

    def get(self, model: type[A], path: str, query: Iterable[tuple[str, str]] = (), *, base: str | None = None) -> A:
        """Ask, and read the answer as ``model``.

        Raises :class:`TransientError` (away, busy, too slow, no JSON), :class:`PermanentError` (access
        refused, not there, too large, another shape), Waiting, Unreachable.
        """
        try:
            answer = self.parse(model, self._read(self.url(path, query, base=base)))
        except MusicCloudError as error:
            self.noted(error)
            raise
        self._problem = None
        return answer

    def noted(self, error: MusicCloudError) -> None:
        """Remember what an error says of the server; one about a single thing says that it answers."""
        of_server = error.code in UNAVAILABLE or error.code in _OF_SERVER or isinstance(error, (Waiting, Unreachable))
        self._problem = (error.message, time.monotonic()) if of_server else None

    def parse(self, model: type[A], content: bytes) -> A:
        """The answer in ``content``. Raises as :meth:`get`."""
        try:
            # Not pydantic's own reader: one half of a surrogate pair in one title would cost the whole answer.
            return model.model_validate(json.loads(content))
        except (ValidationError, RecursionError):
            raise malformed() from None
        except ValueError:
            what = "a web page" if content.lstrip()[:1] == b"<" else "something that is not complete JSON"
        raise TransientError(
            f"{self.origin.host[:100]} answers with {what} instead of data. Check its address, or wait.",
            code="answer-not-json",
        )

    def refused(self) -> PermanentError:
        """The error for credentials that the server does not take."""
        return PermanentError(f"{self.origin.host[:100]} refuses access. {self._access_hint}", code="access-refused")

    def busy(self, message: str, *, seconds: float) -> MusicCloudError:
        """The error for a server that says within a good answer that it wants to be left alone for so long."""
        error = TransientError(message, code="server-busy", retry_after=seconds)
        self.noted(error)
        return self._breakers.failed(server_name(self.origin), error)

    def _read(self, url: str) -> bytes:
        self.pace.take()
        end = time.monotonic() + self.deadline
        late = TransientError(
            f"{self.origin.host[:100]} did not answer completely within {self.deadline:g} seconds.",
            code="server-stalled",
        )

        def over() -> bool:
            return time.monotonic() > end

        content = bytearray()
        try:
            with self._http.open(
                url, headers=self._headers, allow_private=self.allows_private(url), canceled=over
            ) as response:
                if response.status in (401, 403):
                    response.discard()
                    raise self.refused()
                check_status(response)
                if response.encoded:
                    raise PermanentError(
                        "The server compresses the answer although it was asked not to.", code="answer-encoded"
                    )
                for part in iter_body(response, limit=self._max_bytes, chunk=64 * 1024):
                    content += part
                    if over():
                        response.close()
                        raise late
        except TransientError as error:
            raise (late if error.code == "stopped" else error) from None
        return bytes(content)


_OF_SERVER = frozenset(
    {"access-refused", "server-error", "answer-not-json", "certificate-invalid", "host-not-found", "tls-failed"}
)


def make_client(
    settings: Settings,
    *,
    source: str,
    base_url: str,
    setting: str,
    rate: float,
    access_hint: str = "",
    headers: Mapping[str, str] | None = None,
) -> ApiClient:
    """The client of a source, from the shared settings.

    ``setting`` names the one that holds ``base_url``; ``rate``: requests a second unless SOURCE_RATES says
    otherwise. Raises :class:`ConfigurationError`.
    """
    policy = AddressPolicy.from_setting(
        allow_private_addresses=settings.allow_private_addresses,
        allow_private_hosts=split_list(settings.allow_private_hosts),
    )
    deadline = settings.source_timeout_seconds
    breakers = Breakers(patience=PATIENCE)
    http = GuardedHttp(
        policy=policy,
        connect_timeout=min(10.0, deadline),
        stall_timeout=min(deadline, settings.stall_seconds / 2),
        user_agent=user_agent(settings),
        breakers=breakers,
    )
    return ApiClient(
        source=source,
        base_url=base_address(base_url, setting),
        http=http,
        pace=Pace(source=source, rate=rate_of(settings, source, rate)),
        deadline=deadline,
        access_hint=access_hint,
        headers=headers,
        breakers=breakers,
    )


def base_address(text: str, setting: str) -> str:
    """The address of a server, as a person set it. Raises :class:`ConfigurationError`."""
    try:
        url = normalize(text)
    except PermanentError as error:
        raise ConfigurationError(f"{setting} cannot be used: {error.message}") from None
    if has_userinfo(text) or urlsplit(url).query:
        raise ConfigurationError(f"{setting} is to hold the server's address alone, without user name or query.")
    return url.rstrip("/")


def user_agent(settings: Settings) -> str:
    """Who asks, and where its owner can be reached: what public archives ask every program to say."""
    contact = "".join(char for char in settings.source_contact if char.isascii() and char.isprintable())[:200]
    return f"music-cloud/0.1 ({contact})" if contact else "music-cloud/0.1"
