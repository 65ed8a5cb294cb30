"""The live settings on the bus: one KV entry, of which this is the only writer."""

from __future__ import annotations

import secrets

from common.bus.connection import Bus
from common.bus.settings_follower import SETTINGS_SUBJECT
from common.bus.streams import JOBS_STREAM
from common.contracts.envelope import UndecodableMessage, decode
from common.contracts.settings import LiveSettings


class BusSettings:
    """Writes the entry ``settings`` of the bucket JOBS. Raises BusUnavailable."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def announced(self) -> LiveSettings | None:
        """The entry as it stands; None where there is none that can be read."""
        stored = await self._bus.last(JOBS_STREAM, SETTINGS_SUBJECT)
        if stored is None:
            return None
        try:
            return decode(stored.data, LiveSettings).data
        except UndecodableMessage:
            return None

    async def announce(self, settings: LiveSettings) -> None:
        """Tell all services."""
        await self._bus.publish(SETTINGS_SUBJECT, settings, msg_id=secrets.token_hex(8))
