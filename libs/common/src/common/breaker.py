"""A circuit breaker per server: one that does not answer, or asks for a pause, is left alone for a while.

What waits for it loses no try. The waits of all processes travel through the job state, so that every
copy keeps them, also over a restart.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from common.contracts.envelope import now
from common.contracts.status import Reason, ServerWait
from common.errors import MusicCloudError, TransientError, Unreachable, Waiting

THRESHOLD = 5
"""Failures in a row before a server counts as down: one broken song is not a broken server."""
FIRST_WAIT = 15.0
MAX_WAIT = 600.0
"""Seconds; a server that is down for hours is asked six times an hour."""
MAX_ASKED = 86_400.0
"""Seconds. A server that asks for more than a day is asked once a day."""
PROBE_PATIENCE = 60.0
"""Seconds after which a probe that never told its end no longer keeps the next one back."""
MAX_SERVERS = 500
"""A feed may name any number of servers; the one that failed longest ago is forgotten first."""
UNAVAILABLE = frozenset({"connection-failed", "server-stalled", "server-busy"})
"""Codes of errors that speak of the server, not of the song."""


@dataclass(kw_only=True)
class _Server:
    """``failures``: in a row. Open until ``until``; past it one request at a time finds out.

    ``given_up``: away for longer than all patience; its items no longer wait.
    """

    since: datetime
    failures: int = 0
    waits: int = 0
    until: datetime | None = None
    reason: Reason | None = None
    given_up: bool = False
    probe_started: float | None = None


class Breakers:
    """The servers that failed lately. Safe in threads."""

    def __init__(
        self,
        *,
        patience: float,
        shared: Callable[[], Iterable[ServerWait]] = tuple,
        clock: Callable[[], datetime] = now,
    ) -> None:
        """``patience``: seconds that items wait for one server; ``shared``: what other processes told."""
        self._patience = timedelta(seconds=patience)
        self._shared = shared
        self._clock = clock
        self._servers: dict[str, _Server] = {}
        self._answered: dict[str, datetime] = {}
        self._lock = threading.Lock()

    def check(self, server: str) -> None:
        """Raise Waiting while ``server`` is left alone, Unreachable when it has been away for too long."""
        moment = self._clock()
        with self._lock:
            known = self._adopt(server, moment)
            if known is None or known.until is None:
                return
            assert known.reason is not None
            left = known.until - moment
            if left <= timedelta() and not self._probing(known):
                known.probe_started = time.monotonic()  # whoever comes first finds out
                return
            if known.given_up:
                raise self._unreachable(server, known)
            raise self._waiting(server, known, left if left > timedelta() else timedelta(seconds=FIRST_WAIT))

    def succeeded(self, server: str) -> None:
        """It answered."""
        moment = self._clock()
        with self._lock:
            known = self._servers.get(server)
            if known is None or (known.until is not None and moment < known.until):
                return  # asked before it was to be left alone: that proves nothing
            del self._servers[server]
            if known.until is not None:
                # Others go on telling of the wait that is over.
                self._answered.pop(server, None)
                self._answered[server] = moment
                if len(self._answered) > MAX_SERVERS:
                    del self._answered[next(iter(self._answered))]

    def undecided(self, server: str) -> None:
        """It was asked, and what came of it tells neither that it is well nor that it is away."""
        with self._lock:
            if (known := self._servers.get(server)) is not None:
                known.probe_started = None

    def failed(self, server: str, error: TransientError) -> MusicCloudError:
        """It did not answer, or asked for a pause; the error that its item is to end with."""
        moment = self._clock()
        with self._lock:
            known = self._servers.get(server)
            if known is None:
                known = self._add(server, _Server(since=moment))
            was_open = known.until is not None
            known.failures += 1
            known.probe_started = None
            asked = error.retry_after
            if asked is None and known.failures < THRESHOLD and not was_open:
                return error
            known.given_up = moment - known.since > self._patience
            if known.until is None or moment >= known.until:
                known.waits += 1
            wait = MAX_WAIT if known.given_up else min(MAX_WAIT, FIRST_WAIT * 2.0 ** min(known.waits - 1, 10))
            until = moment + timedelta(seconds=max(wait, min(asked, MAX_ASKED)) if asked is not None else wait)
            known.until = until if known.until is None else max(known.until, until)
            known.reason = error.reason
            if known.given_up:
                return self._unreachable(server, known)
            if asked is None and not was_open:
                return error  # it was asked for real: this try counts
            return self._waiting(server, known, known.until - moment)

    def waits(self) -> tuple[ServerWait, ...]:
        """The servers that are left alone now, for the others."""
        moment = self._clock()
        with self._lock:
            return tuple(
                ServerWait(
                    server=name,
                    reason=known.reason,
                    since=known.since,
                    until=known.until,
                    given_up=known.given_up,
                )
                for name, known in self._servers.items()
                if known.until is not None and known.reason is not None and moment < known.until
            )

    def _adopt(self, server: str, moment: datetime) -> _Server | None:
        """What is known of the server, here or elsewhere."""
        known, answered = self._servers.get(server), self._answered.get(server)
        for wait in self._shared():
            if wait.server != server or (known is not None and known.until is not None and known.until >= wait.until):
                continue
            # Told long ago, and nobody has asked since: it says nothing of today.
            if moment - wait.until > timedelta(seconds=MAX_WAIT) or wait.until - moment > timedelta(seconds=MAX_ASKED):
                continue
            if answered is not None and wait.until <= answered:
                continue
            since = wait.since if answered is None else max(wait.since, answered)
            if known is None:
                known = self._add(server, _Server(since=since, failures=THRESHOLD, waits=1))
            known.since, known.until, known.reason = min(known.since, since), wait.until, wait.reason
            known.given_up = wait.given_up
        return known

    def _add(self, server: str, known: _Server) -> _Server:
        if len(self._servers) >= MAX_SERVERS:
            del self._servers[min(self._servers, key=lambda name: self._servers[name].since)]
        self._servers[server] = known
        return known

    def _probing(self, known: _Server) -> bool:
        return known.probe_started is not None and time.monotonic() - known.probe_started < PROBE_PATIENCE

    def _waiting(self, server: str, known: _Server, left: timedelta) -> Waiting:
        assert known.reason is not None
        return Waiting(f"Waiting for {server[:100]}: {known.reason.message}", seconds=max(1.0, left.total_seconds()))

    def _unreachable(self, server: str, known: _Server) -> Unreachable:
        hours = self._patience.total_seconds() / 3600
        long = f"{hours:g} hour{'s' if hours != 1 else ''}"
        assert known.reason is not None
        return Unreachable(
            f"{server[:100]} could not be used for more than {long} ({known.reason.message}) Retry when it is back."
        )
