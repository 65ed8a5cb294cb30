"""What the queue holds and no consumer delivers, as a server that was killed may leave it, is queued anew."""

from __future__ import annotations

import json

import pytest

from common.bus import Bus
from common.bus.errors import StreamMissing, SubjectTaken
from common.bus.streams import JOBS_STREAM, ensure_streams
from common.contracts.jobs import Lane, lane
from common.contracts.names import ItemState, Stage
from common.contracts.status import ItemStatus
from common.contracts.streams import WORK
from common.contracts.work import SongDownload
from console.adapters.jobs_store import BusJobsStore
from console.adapters.work_queue import BusWorkQueue

ITEM = SongDownload(job_id=1, source="feed", song_id=7, remote_id="https://h/7", name="song")
OWN = lane(1, Stage.DOWNLOAD, "feed", item_type=SongDownload.TYPE)
BLIND = lane(2, Stage.DOWNLOAD, "feed", item_type=SongDownload.TYPE)
"""A lane whose consumer cannot deliver the item."""


@pytest.fixture
async def queue(bus: Bus) -> BusWorkQueue:
    await ensure_streams(bus)
    queue = BusWorkQueue(bus, lease_seconds=60, max_in_flight=10)
    for each in (OWN, BLIND):
        await queue.ensure_lane(each)
    return queue


async def _sequence(bus: Bus) -> int:
    return int((await bus.js.get_last_msg(WORK, ITEM.subject)).seq or 0)


async def _deliver(bus: Bus, of: Lane) -> None:
    """Take the item from its consumer, and never answer."""
    inbox = bus.nc.new_inbox()
    subscription = await bus.nc.subscribe(inbox)
    request = json.dumps({"batch": 1, "expires": int(2e9)}).encode()
    await bus.nc.publish(f"$JS.API.CONSUMER.MSG.NEXT.{WORK}.{of.consumer}", request, reply=inbox)
    assert (await subscription.next_msg(timeout=2)).subject == ITEM.subject
    await subscription.unsubscribe()


async def test_an_item_that_its_consumer_will_deliver_is_left_in_its_place(bus: Bus, queue: BusWorkQueue) -> None:
    assert await queue.put_back(ITEM, OWN, cause="first", trace="t")
    before = await _sequence(bus)
    assert not await queue.put_back(ITEM, OWN, cause="second", trace="t", stranded=True)
    assert await _sequence(bus) == before


async def test_an_item_in_the_hands_of_a_worker_is_left_there(bus: Bus, queue: BusWorkQueue) -> None:
    assert await queue.put_back(ITEM, OWN, cause="first", trace="t")
    await _deliver(bus, OWN)
    before = await _sequence(bus)
    assert not await queue.put_back(ITEM, OWN, cause="second", trace="t")
    assert await _sequence(bus) == before
    assert await queue.put_back(ITEM, OWN, cause="third", trace="t", stranded=True), "longer than any lease"
    assert await _sequence(bus) > before


async def test_an_item_that_no_consumer_delivers_is_queued_anew(bus: Bus, queue: BusWorkQueue) -> None:
    assert await queue.put_back(ITEM, BLIND, cause="first", trace="t")
    before = await _sequence(bus)
    assert await queue.put_back(ITEM, BLIND, cause="second", trace="t")
    again = await _sequence(bus)
    assert again > before
    status = ItemStatus(
        job_id=1, stage=Stage.DOWNLOAD, lane="feed", key=ITEM.key, title="song", state=ItemState.QUEUED, request={}
    )
    await queue.ask_again(status, ITEM, BLIND, cause="third", trace="t")
    assert await _sequence(bus) > again
    with pytest.raises(SubjectTaken):
        await bus.publish(ITEM.subject, ITEM, msg_id="fourth", job_id=1, trace="t")


async def test_a_queue_that_is_gone_is_said_to_be_so(bus: Bus, queue: BusWorkQueue) -> None:
    await bus.js.delete_stream(WORK)
    with pytest.raises(StreamMissing):
        await queue.purge_lane(OWN)


async def test_a_job_state_that_the_bus_lost_is_written_anew_as_a_newer_one(bus: Bus) -> None:
    store = BusJobsStore(bus)
    for last_job_id in (1, 2):
        before = await store.write([], last_job_id=last_job_id)
    await bus.js.delete_stream(JOBS_STREAM)
    await ensure_streams(bus)
    assert (await store.write([], last_job_id=2)).revision > before.revision
