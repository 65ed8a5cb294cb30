"""Replay of a stream whose messages are replaced while it is read."""

from __future__ import annotations

import asyncio
import random

from common.bus import Bus
from common.bus.replay import Replay
from common.contracts.streams import STATUS


async def test_messages_that_were_replaced_are_not_waited_for(bus: Bus) -> None:
    """The server counts them as pending: who waits for those seems to lag, and makes its consumer anew for nothing."""
    replay = Replay(bus, stream=STATUS, consumer="reader")
    chance = random.Random(1)
    read: set[int] = set()

    async def follow() -> None:
        async for batch in replay.batches(after=0):
            read.update(message.sequence for message in batch)

    following = asyncio.create_task(follow())
    for _ in range(12):
        for _ in range(30):
            subjects = [
                f"item.1.download.local.{chance.randrange(20)}" for _ in range(chance.choice([1, 2, 5, 30, 200]))
            ]
            await asyncio.gather(*(bus.nc.request(subject, b"x", timeout=2) for subject in subjects))
            await asyncio.sleep(chance.choice([0, 0.001, 0.01]))
        last = (await bus.js.stream_info(STATUS)).state.last_seq
        async with asyncio.timeout(2.5):  # half of what a lost answer would take
            while last not in read or replay.pending:
                await asyncio.sleep(0.02)
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
