"""The example that strangers start from: it follows the real stack, over a restart of the bus."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import nats
import pytest

from common.bus import Bus, FactWriter
from common.bus.streams import ensure_streams
from common.contracts.facts import PlaylistCollected, PlaylistHeader, SongListed
from tests.support.audio import make_audio
from tests.support.nats import NatsServer
from tests.support.stack import SERVICES, Stack

EXAMPLE = Path(__file__).parents[3] / "examples" / "subscriber" / "subscriber.py"


@pytest.fixture
def said(tmp_path: Path, nats_server: NatsServer) -> Iterator[Callable[[], list[str]]]:
    """What the example has printed."""
    output = tmp_path / "said"
    environment = {**os.environ, "NATS_URL": nats_server.url, "NATS_PASSWORD": nats_server.passwords["reader"]}
    with output.open("wb") as file, (tmp_path / "errors").open("wb") as errors:
        process = subprocess.Popen([sys.executable, str(EXAMPLE)], env=environment, stdout=file, stderr=errors)
    yield lambda: output.read_text().splitlines()
    assert process.poll() is None, (tmp_path / "errors").read_text()
    process.terminate()
    process.wait(10)


async def until(condition: Callable[[], bool], what: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, what()
        await asyncio.sleep(0.05)


def song(number: int, **fields: object) -> SongListed:
    return SongListed.model_validate(
        {"song_id": number, "platform": "local", "remote_id": f"{number}.flac", "name": f"Song {number}", **fields}
    )


def page(number: int, *, version: int, pages: int, songs: list[int]) -> PlaylistCollected:
    header = PlaylistHeader(name="歌单", song_count=3) if number == 0 else None
    return PlaylistCollected(
        playlist_id=5,
        platform="local",
        remote_id="list",
        version=version,
        page=number,
        pages=pages,
        header=header,
        entries=tuple(enumerate(songs)),
    )


async def test_it_follows_facts_pages_and_removals_over_a_restart_of_the_server(
    bus: Bus, nats_server: NatsServer, said: Callable[[], list[str]]
) -> None:
    writer = FactWriter(bus)
    await writer.publish(song(1), cause="a")
    await until(lambda: said() == ['song 1 "Song 1"'], said)
    # A set counts when it is whole: page 0 comes last.
    await writer.publish(page(1, version=1, pages=2, songs=[3]), cause="b")
    await writer.publish(page(0, version=1, pages=2, songs=[1, 2]), cause="c")
    await until(lambda: said()[1:] == [f"playlist 5 {json.dumps('歌单')} 3 songs"], said)
    nats_server.kill()
    nats_server.restart()
    await writer.publish(song(1, removed=True), cause="d")
    await writer.publish(page(0, version=2, pages=1, songs=[1]), cause="e")
    await until(lambda: said()[2:] == ["song 1 is gone", f"playlist 5 {json.dumps('歌单')} 1 songs"], said)
    # A withdrawn playlist has the version that it had, and so has one that comes back.
    await writer.publish(page(0, version=2, pages=1, songs=[1]).model_copy(update={"removed": True}), cause="f")
    await until(lambda: said()[4:] == ["playlist 5 is gone"], said)
    await writer.publish(page(0, version=2, pages=1, songs=[1]), cause="g")
    await until(lambda: said()[5:] == [f"playlist 5 {json.dumps('歌单')} 1 songs"], said)
    # The stream of a bus that was set up anew begins again, and so do its revisions.
    await bus.js.delete_stream("CATALOG")
    await ensure_streams(bus)
    await writer.publish(song(1), cause="h")
    await until(lambda: said()[6:] == ['song 1 "Song 1"'], said)


async def test_it_hears_the_whole_stack_and_the_owner_finds_every_service(
    tmp_path: Path, nats_server: NatsServer
) -> None:
    for number in range(3):
        make_audio(tmp_path / "music" / f"{number}.wav", ext="wav", seconds=0.2, title=f"Title {number}")
    stack = Stack(tmp_path, nats_server, IMPORT_MODE="copy", LOCAL_MEDIA_IMPORT_PATH=str(tmp_path / "music"))
    environment = {**os.environ, "NATS_URL": nats_server.url, "NATS_PASSWORD": nats_server.passwords["reader"]}
    output = tmp_path / "said"
    with output.open("wb") as file:
        example = subprocess.Popen([sys.executable, str(EXAMPLE)], env=environment, stdout=file)
    try:
        stack.start_all()
        job = await asyncio.to_thread(lambda: stack.wait_job(stack.job()))
        assert job == "completed", stack.log_ends()
        await until(lambda: all(f'"Title {number}"' in output.read_text() for number in range(3)), output.read_text)
        await until(lambda: "playlist" in output.read_text(), output.read_text)
        found: set[str] = set()
        owner = await nats.connect(nats_server.url, user="operator", password=nats_server.password)
        answers = await owner.subscribe(inbox := owner.new_inbox())
        await owner.publish("$SRV.PING", reply=inbox)
        while found != set(SERVICES):
            found.add(json.loads((await answers.next_msg(timeout=10)).data)["name"])
        await owner.close()
        # A right that is missing is only seen in the logs, or as something that never happens.
        assert "ermissions violation" not in stack.log_ends()
        for log in stack.logs.glob("*.log"):
            assert "ermissions violation" not in log.read_text(), log.name
    finally:
        example.terminate()
        example.wait(10)
        await asyncio.to_thread(stack.stop)
