"""What people chose for songs: the facts ``song.pinned``, of which there are few."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time

import nats.errors
from nats.aio.msg import Msg

from common.bus import Bus
from common.contracts.envelope import UndecodableMessage
from common.contracts.facts import SongPinned
from common.contracts.streams import CATALOG
from common.telemetry import get_logger
from downloader.ports import NO_CHOICE, Choice

_SUBJECTS = f"{SongPinned.TYPE}.*"
_LOOK_AGAIN = 2.0
_LIST_ANEW = 600.0
"""Seconds. What a restored stream holds was never published, and so not heard."""
_PATIENCE = 5.0


class Choices:
    """Knows which songs have one, so that the others cost no question.

    Heard as they are published, and listed anew after each reconnection and now and then.
    """

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._songs: set[int] = set()
        self._listed = asyncio.Event()
        self._doubt = asyncio.Event()
        self._doubt.set()
        bus.on_reconnect(self._reconnected)

    async def of(self, song_id: int, *, ask: bool = False) -> Choice:
        """What a person chose for the song. ``ask`` the bus in any case. Raises BusUnavailable."""
        if not ask and self._listed.is_set() and song_id not in self._songs:
            return NO_CHOICE
        try:
            last = await self._bus.last_message(CATALOG, f"{SongPinned.TYPE}.{song_id}", SongPinned)
        except UndecodableMessage as error:
            get_logger().warning("a person's choice cannot be read", song=song_id, reason=str(error))
            return NO_CHOICE
        if last is None or last.data.removed:
            return NO_CHOICE
        pinned = last.data
        match = (pinned.match_source, pinned.match_remote_id)
        banned = (entry.partition(":") for entry in pinned.banned)
        return Choice(
            match=(match[0], match[1]) if match[0] and match[1] else None,
            banned=frozenset((source, remote_id) for source, _, remote_id in banned),
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Follow the choices until told to stop."""
        subscription = await self._bus.nc.subscribe(_SUBJECTS, cb=self._heard)
        listed_at = -_LIST_ANEW
        try:
            while not stop.is_set():
                if self._doubt.is_set() or time.monotonic() - listed_at > _LIST_ANEW:
                    self._doubt.clear()
                    try:
                        self._songs |= await self._list()
                    except (nats.errors.Error, TimeoutError, ValueError):
                        self._doubt.set()
                    else:
                        listed_at = time.monotonic()
                        if not self._doubt.is_set():  # else the connection was lost meanwhile
                            self._listed.set()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), _LOOK_AGAIN)
        finally:
            with contextlib.suppress(nats.errors.Error):
                await subscription.unsubscribe()

    async def _list(self) -> set[int]:
        """The songs of all choices that the bus holds, page by page."""
        found: set[int] = set()
        while True:
            request = {"subjects_filter": _SUBJECTS, "offset": len(found)}
            answer = await self._bus.nc.request(
                f"$JS.API.STREAM.INFO.{CATALOG}", json.dumps(request).encode(), timeout=_PATIENCE
            )
            content = json.loads(answer.data)
            if "error" in content:
                raise ValueError(content["error"].get("description", "refused"))
            page = {_song(subject) for subject in content["state"].get("subjects") or ()}
            if not page - found:
                return found - {0}
            found |= page
            if len(found) >= int(content.get("total") or 0):
                return found - {0}

    async def _heard(self, message: Msg) -> None:
        self._songs.add(_song(message.subject))

    async def _reconnected(self) -> None:
        self._listed.clear()  # until it is listed again, every song is asked for
        self._doubt.set()


def _song(subject: str) -> int:
    last = subject.rpartition(".")[2]
    return int(last) if last.isdecimal() else 0
