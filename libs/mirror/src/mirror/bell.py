"""Hearing ``snapshot.published`` on the publisher's bus, which only says that there is something to ask for."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from mirror.address import is_loopback
from mirror.problems import SettingsProblem

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg

SUBJECT = "snapshot.published.>"
_RETRY = 10.0
_CONNECT = 5


class BusBell:
    """Rings for every announcement, and after every reconnection, because some may have been missed.

    It runs in a thread of its own. What is announced is not looked at: the server is asked, and its answer checked.
    """

    def __init__(
        self,
        *,
        url: str,
        user: str | None,
        password: str | None,
        allow_plain: bool,
        report: Callable[[str], None],
        subject: str = SUBJECT,
    ) -> None:
        """``report`` gets a sentence when the bus is lost or found. Raises SettingsProblem."""
        check_bus_url(url, allow_plain=allow_plain)
        self.rung = threading.Event()
        self._url, self._user, self._password, self._subject = url, user, password, subject
        self._report = report
        self._said: str | None = None
        self._closed = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._done: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._main, name="bell", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the connection."""
        loop, done = self._loop, self._done
        if loop is not None and done is not None and not loop.is_closed():
            loop.call_soon_threadsafe(done.set)
        self._thread.join(2 * _CONNECT)

    def _main(self) -> None:
        asyncio.run(self._run())

    async def _run(self) -> None:
        self._loop, self._done = asyncio.get_running_loop(), asyncio.Event()
        listening = asyncio.create_task(self._listen())
        await self._done.wait()
        listening.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await listening

    async def _listen(self) -> None:
        """Until this is cancelled."""
        import nats.errors
        from nats.aio.client import Client

        while True:
            self._closed.clear()
            client = Client()
            try:
                await asyncio.wait_for(self._connect(client), 2 * _CONNECT)
                await client.subscribe(self._subject, cb=self._rang)
                await client.flush(_CONNECT)
                self.rung.set()
                await self._closed.wait()
            except (OSError, TimeoutError, nats.errors.Error):
                self._say("The bus does not answer; trying again.")
            finally:
                await client.close()
            await asyncio.sleep(_RETRY)

    async def _connect(self, client: Client) -> None:
        async def found() -> None:
            self._say("The bus is there again.")
            self.rung.set()

        async def lost() -> None:
            self._say("The bus is away; the server is asked from time to time instead.")

        async def closed() -> None:
            self._closed.set()

        async def failed(error: Exception) -> None:
            words = str(error).lower()
            if "authorization" in words:
                self._say("The bus does not let us in: check user and password.")
            elif "permissions" in words:
                self._say(f"The bus does not let this account hear {self._subject}.")

        await client.connect(
            self._url,
            user=self._user,
            password=self._password,
            name="music-cloud-mirror",
            max_reconnect_attempts=-1,
            reconnect_time_wait=1,
            connect_timeout=_CONNECT,
            ping_interval=20,
            max_outstanding_pings=2,
            reconnected_cb=found,
            disconnected_cb=lost,
            error_cb=failed,
            closed_cb=closed,
        )

    async def _rang(self, _: Msg) -> None:
        self.rung.set()

    def _say(self, sentence: str) -> None:
        """Once, until there is something else to say."""
        if sentence != self._said and not (self._done and self._done.is_set()):
            self._said = sentence
            self._report(sentence)


def check_bus_url(url: str, *, allow_plain: bool) -> None:
    """Refuse what would show credentials to others. Raises SettingsProblem."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        parts, host = urlsplit(""), ""
    if parts.scheme not in ("nats", "tls", "ws", "wss") or not host:
        raise SettingsProblem("bus-url", "The bus is named by tls://HOST:4222 or, on this machine, nats://HOST:4222.")
    if parts.username or parts.password:
        raise SettingsProblem(
            "url-credentials", "Credentials do not belong into a URL. Give --nats-user and --nats-password-file."
        )
    if parts.scheme in ("nats", "ws") and not allow_plain and not is_loopback(host):
        raise SettingsProblem(
            "url-not-encrypted", "The bus of another machine is named by tls://; --allow-http allows it unencrypted."
        )
