"""Parts that a worker left behind: those of canceled items go, those that may be continued stay."""

from __future__ import annotations

import json
from pathlib import Path

from common.bus import Bus
from common.bus.facts import message_id
from common.contracts.names import ItemState, Stage
from common.contracts.status import ItemStatus
from downloader.adapters.leftovers import Leftovers
from downloader.adapters.spool import SpoolFolder
from downloader.ports import FetchState


async def tell(bus: Bus, song_id: int, state: ItemState) -> str:
    """Publish the last status of a song; return its subject."""
    status = ItemStatus(job_id=1, stage=Stage.DOWNLOAD, lane="feed", key=str(song_id), title="Song", state=state)
    await bus.publish(status.subject, status, msg_id=message_id(status.subject, state))
    return status.subject


def fetched(root: Path, song_id: int, item: str, *, noted: bool = True) -> None:
    """Half a song, as a process leaves it that dies."""
    spool = SpoolFolder(root)
    with spool.lock(song_id, canceled=lambda: False) as lock:
        lock.held_for(item)
        spool.part(song_id).write_bytes(b"half a song")
        if noted:
            spool.remember_fetch(song_id, FetchState(url_digest="x", etag='"1"'))


async def test_only_parts_of_canceled_items_and_those_without_a_record_are_removed(bus: Bus, tmp_path: Path) -> None:
    states = {1: ItemState.CANCELED, 2: ItemState.INTERRUPTED, 3: ItemState.FAILED, 4: ItemState.CANCELED}
    for song_id, state in states.items():
        fetched(tmp_path, song_id, await tell(bus, song_id, state))
    fetched(tmp_path, 5, "item.1.download.feed.5", noted=False)
    fetched(tmp_path, 6, "item.1.download.feed.6")
    (tmp_path / "7.part").write_bytes(b"half a song")
    (tmp_path / "7.json").write_text(json.dumps({"song": 7, "state": "fetching"}))
    spool = SpoolFolder(tmp_path)
    leftovers = Leftovers(bus=bus, spool=spool, every=1.0)
    with spool.lock(4, canceled=lambda: False):
        assert await leftovers.remove() == 2
    left = {path.stem for path in tmp_path.glob("*.part")}
    assert left == {"2", "3", "4", "6", "7"}, "in hand, never told of, or fit to be continued"
    assert not (tmp_path / "1.json").exists()
    assert await leftovers.remove() == 1
    assert isinstance(spool.recall(2), FetchState)
    spool.close()
