"""What people chose is known to the downloader without a question per song, whatever happens to the bus."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from common.bus import Bus
from common.bus.streams import ensure_streams
from common.contracts.facts import SongPinned
from common.settings import Settings
from downloader.adapters import choices
from downloader.adapters.choices import Choices
from downloader.ports import NO_CHOICE, Choice
from tests.support.nats import NatsServer, current_server

PINNED = Choice(match=("archive", "a:1"), banned=frozenset({("feed", "http://a/b:c")}))


async def pin(bus: Bus, song_id: int, *, revision: int = 1, removed: bool = False) -> None:
    fact = SongPinned(
        song_id=song_id,
        match_source="archive",
        match_remote_id="a:1",
        banned=("feed:http://a/b:c",),
        revision=revision,
        removed=removed,
    )
    await bus.publish(fact.subject, fact, msg_id=f"pin {song_id} {revision}")


@asynccontextmanager
async def following(bus: Bus) -> AsyncIterator[Choices]:
    follower, stop = Choices(bus), asyncio.Event()
    task = asyncio.create_task(follower.run(stop))
    yield follower
    stop.set()
    await task


async def until(condition: Callable[[], Awaitable[bool]], *, seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.02)


async def listed(follower: Choices, song_id: int) -> bool:
    return follower._listed.is_set() and song_id in follower._songs


@pytest.fixture(params=["machine", "current"])
async def any_bus(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bus]:
    """As the downloader sees it: on the machine's own server, and on a current one."""
    server = NatsServer(tmp_path / "bus", program=current_server() if request.param == "current" else None)
    server.start()
    owner = await Bus.connect(server_settings(server, server.user), service="test", instance="one")
    await ensure_streams(owner)
    async with asyncio.TaskGroup() as group:
        for song_id in range(1, 2_501):
            group.create_task(pin(owner, song_id))
    await owner.close()
    bus = await Bus.connect(server_settings(server, "downloader"), service="downloader", instance="one")
    yield bus
    await bus.close()
    server.stop()


def server_settings(server: NatsServer, user: str) -> Settings:
    return Settings.model_validate({"nats_url": server.url, "nats_user": user, "nats_password": server.passwords[user]})


async def test_thousands_of_choices_are_listed(any_bus: Bus) -> None:
    async with following(any_bus) as follower:
        await until(lambda: listed(follower, 2_500))
        assert follower._songs == set(range(1, 2_501))
        assert await follower.of(7) == PINNED
        assert await follower.of(9_999) == NO_CHOICE


async def test_a_choice_is_heard_at_once_and_a_withdrawn_one_is_none(bus: Bus) -> None:
    async with following(bus) as follower:
        await until(lambda: _is_listed(follower))
        await pin(bus, 7)
        await until(lambda: listed(follower, 7))
        assert await follower.of(7) == PINNED
        await pin(bus, 7, revision=2, removed=True)
        assert await follower.of(7) == NO_CHOICE


async def _is_listed(follower: Choices) -> bool:
    return follower._listed.is_set()


async def test_before_they_are_listed_each_song_is_asked_for(bus: Bus) -> None:
    await pin(bus, 7)
    assert await Choices(bus).of(7) == PINNED
    assert await Choices(bus).of(8) == NO_CHOICE


async def test_what_was_chosen_while_the_bus_was_away_is_listed_when_it_is_back(
    bus: Bus, settings: Settings, nats_server: NatsServer
) -> None:
    async with following(bus) as follower:
        await until(lambda: _is_listed(follower))
        nats_server.stop()
        nats_server.start()
        other = await Bus.connect(settings, service="test", instance="two")
        await pin(other, 7)
        await other.close()

        async def knows() -> bool:
            return await follower.of(7) == PINNED

        await until(knows, seconds=30)
        await until(lambda: listed(follower, 7))


async def test_a_stream_that_is_gone_keeps_nobody_from_following_the_next(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choices, "_LIST_ANEW", 0.1)
    monkeypatch.setattr(choices, "_LOOK_AGAIN", 0.05)
    await pin(bus, 7)
    async with following(bus) as follower:
        await until(lambda: listed(follower, 7))
        await bus.js.delete_stream("CATALOG")
        await asyncio.sleep(0)
        await until(lambda: _in_doubt(follower))
        await ensure_streams(bus)
        assert await follower.of(7) == NO_CHOICE
        await pin(bus, 8)
        follower._songs.discard(8)  # as if it were restored, and not heard
        await until(lambda: listed(follower, 8))
        assert await follower.of(8) == PINNED


async def _in_doubt(follower: Choices) -> bool:
    return follower._doubt.is_set()
