"""The bus keeps its promises on a real server: facts, replay, job state."""

from __future__ import annotations

import asyncio

import pytest

from common.bus import Bus, FactWriter, JobsFollower, Replay, SubjectTaken, WrongLastSequence
from common.bus.facts import message_id
from common.contracts.envelope import decode
from common.contracts.facts import SongListed
from common.contracts.names import JobState
from common.contracts.streams import CATALOG
from common.contracts.work import SongDownload
from common.errors import BusUnavailable, ConfigurationError
from common.settings import Settings
from tests.support.jobs import make_job, set_state
from tests.support.nats import NatsServer


def song(number: int, name: str = "a song") -> SongListed:
    return SongListed(song_id=number, platform="local", remote_id=f"{number}.flac", name=name)


async def read_all(
    bus: Bus, after: int = 0, consumer: str = "reader", upto: int | None = None
) -> list[tuple[str, int]]:
    """Everything after a sequence, until the stream's end."""
    replay = Replay(bus, stream=CATALOG, consumer="reader")
    end = upto or (await replay.stream_state()).last_sequence
    seen: list[tuple[str, int]] = []
    async for batch in replay.batches(after=after, max_messages=100):
        seen += [(stored.subject, stored.sequence) for stored in batch]
        if seen and seen[-1][1] >= end:
            break
    return seen


async def test_a_fact_gets_the_next_revision_and_replaces_the_last(bus: Bus) -> None:
    facts = FactWriter(bus)
    await facts.publish(song(1, "first"), cause="one")
    await facts.publish(song(1, "second"), cause="two")

    last = await bus.last_message(CATALOG, "song.listed.1", SongListed)
    assert last is not None
    assert (last.data.name, last.data.revision) == ("second", 2)
    assert len(await read_all(bus)) == 1


async def test_the_same_cause_is_one_fact_and_another_cause_is_never_swallowed(bus: Bus) -> None:
    facts = FactWriter(bus)
    first = await facts.publish(song(1), cause="stored")
    again = await facts.publish(song(1), cause="stored")
    await facts.publish(song(1).model_copy(update={"removed": True}), cause="removed")
    await facts.publish(song(1), cause="stored again")

    last = await bus.last_message(CATALOG, "song.listed.1", SongListed)
    assert first == again
    assert last is not None
    assert (last.data.removed, last.data.revision) == (False, 3)


async def test_a_writer_that_read_an_old_state_is_refused(bus: Bus) -> None:
    sequence = await bus.publish("song.listed.1", song(1), msg_id="a")
    await bus.publish("song.listed.1", song(1), msg_id="b", expect_last=sequence)

    with pytest.raises(WrongLastSequence):
        await bus.publish("song.listed.1", song(1), msg_id="c", expect_last=sequence)


async def test_an_item_is_queued_once(bus: Bus) -> None:
    item = SongDownload(job_id=1, source="local", song_id=7, remote_id="x", name="x")
    await bus.publish(item.subject, item, msg_id=message_id(item.subject, "one"))

    with pytest.raises(SubjectTaken):
        await bus.publish(item.subject, item, msg_id=message_id(item.subject, "two"))


async def test_replay_gives_every_message_in_order_and_goes_on_live(bus: Bus) -> None:
    facts = FactWriter(bus)
    await facts.publish_many([song(number) for number in range(2500)], cause="all")
    seen = await read_all(bus)
    assert [sequence for _, sequence in seen] == list(range(1, 2501))

    async def later() -> None:
        await facts.publish_many([song(number) for number in range(2500, 2600)], cause="more")

    task = asyncio.create_task(later())
    assert len(await read_all(bus, after=2500, upto=2600)) == 100
    await task


async def test_replay_survives_kill_of_the_server_without_gap_or_repeat(bus: Bus, nats_server: NatsServer) -> None:
    facts = FactWriter(bus)
    await facts.publish_many([song(number) for number in range(1000)], cause="all")
    sequences: list[int] = []
    killed = False
    async with asyncio.timeout(60):
        async for batch in Replay(bus, stream=CATALOG, consumer="reader").batches(after=0, max_messages=100):
            sequences += [stored.sequence for stored in batch]
            if not killed and len(sequences) >= 300:
                killed = True
                nats_server.kill()
                nats_server.restart()
            if sequences and sequences[-1] == 1000:
                break
    assert sequences == list(range(1, 1001))


async def test_a_publication_outlives_a_restart_of_the_server(bus: Bus, nats_server: NatsServer) -> None:
    nats_server.kill()
    publication = asyncio.create_task(FactWriter(bus).publish(song(1), cause="x"))
    await asyncio.to_thread(nats_server.restart)

    await publication
    assert len(await read_all(bus)) == 1


async def test_the_job_state_is_followed_and_read_exactly(bus: Bus) -> None:
    follower = JobsFollower(bus)
    await follower.start()
    await make_job(bus, job_id=3)
    await set_state(bus, 3, JobState.PAUSE_REQUESTED)

    state = await follower.refresh()
    job = state.job(3)
    assert job is not None
    assert (job.state, job.takes_items) == (JobState.PAUSE_REQUESTED, False)
    assert follower.state.revision == 2


async def test_a_wrong_password_is_said_and_not_shown(settings: Settings) -> None:
    wrong = settings.model_copy(update={"nats_password": Settings(nats_password="not-the-password").nats_password})

    with pytest.raises(ConfigurationError) as caught:
        await Bus.connect(wrong, service="test", instance="two")
    assert "not-the-password" not in caught.value.message


async def test_no_server_is_said_with_its_address_and_no_credential(settings: Settings) -> None:
    nowhere = settings.model_copy(update={"nats_url": "nats://someone:hidden@127.0.0.1:1"})

    with pytest.raises(BusUnavailable) as caught:
        await Bus.connect(nowhere, service="test", instance="two")
    assert "127.0.0.1:1" in caught.value.message
    assert "hidden" not in caught.value.message


async def test_what_is_stored_can_be_decoded_by_its_type(bus: Bus) -> None:
    await FactWriter(bus).publish(song(1, "名前"), cause="x", job_id=4)
    stored = await bus.last(CATALOG, "song.listed.1")

    assert stored is not None
    envelope = decode(stored.data, SongListed)
    assert (envelope.type, envelope.job_id, envelope.producer, envelope.data.name) == (
        "song.listed",
        4,
        "test.one",
        "名前",
    )
