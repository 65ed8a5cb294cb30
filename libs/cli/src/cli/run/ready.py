"""Waiting until everything that was started can work, and saying what it waits for."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

import httpx

from common.errors import MusicCloudError

PATIENCE = 60.0
SAY_AFTER = 8.0
"""Seconds of silence after which we say what we wait for."""
_NOT_STARTED = "not started yet"


class NotReady(MusicCloudError):
    """Something did not become ready in time; the message says what and why."""

    code = "not-ready"


@dataclass(frozen=True, kw_only=True)
class Probe:
    """One service: the address of its health pages. ``must_work``: its problems count, not only its life."""

    name: str
    url: str
    must_work: bool = True

    def problem(self, client: httpx.Client) -> str | None:
        """Why it is not ready, in words; None when it is."""
        try:
            answer = client.get(f"{self.url}/readyz")
            content = answer.json()
        except (httpx.HTTPError, ValueError):
            return _NOT_STARTED
        if answer.status_code == 200 or not self.must_work:
            return None
        problems = content.get("problems") if isinstance(content, dict) else None
        return "; ".join(str(problem.get("message", "")) for problem in problems or ()) or "not ready yet"


def wait_for_port(port: int, *, check: Callable[[], None], patience: float = PATIENCE) -> None:
    """Wait until something listens there. ``check`` may raise. Raises :class:`NotReady`."""
    deadline = time.monotonic() + patience
    while True:
        check()
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1):
                return
        except OSError:
            if time.monotonic() > deadline:
                raise NotReady(f"The bus does not listen on port {port} after {patience:.0f} s.") from None
        time.sleep(0.05)


def wait_until_ready(
    probes: list[Probe], *, check: Callable[[], None], say: Callable[[str], None], patience: float = PATIENCE
) -> None:
    """Wait until all are ready. ``check`` is called often and may raise. Raises :class:`NotReady`."""
    started = time.monotonic()
    said: set[str] = set()
    with httpx.Client(timeout=2.0, trust_env=False) as client:
        waiting = list(probes)
        while True:
            check()
            reasons = {probe.name: reason for probe in waiting if (reason := probe.problem(client)) is not None}
            waiting = [probe for probe in waiting if probe.name in reasons]
            if not waiting:
                return
            waited = time.monotonic() - started
            if waited > patience:
                raise NotReady(
                    "Not ready after "
                    + f"{patience:.0f} s: "
                    + ", ".join(f"{name} ({reason})" for name, reason in reasons.items())
                )
            if waited > SAY_AFTER:
                for name, reason in reasons.items():
                    # Slow machines take their time to start six programs: that alone is no news.
                    if f"{name}{reason}" not in said and (reason != _NOT_STARTED or waited > 3 * SAY_AFTER):
                        said.add(f"{name}{reason}")
                        say(f"waiting for {name}: {reason}")
            time.sleep(0.1)
