"""What each user of the bus may say and hear, on the real server: who is not named is refused."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import nats
import nats.errors
import pytest
from nats.aio.client import Client
from nats.js.api import ConsumerConfig
from nats.js.errors import APIError

from common.bus import Replay
from common.bus.connection import Bus
from common.bus.readers import ReaderDesk
from common.bus.streams import ensure_streams
from common.contracts.facts import SongListed
from common.contracts.readers import READERS
from common.secret_files import ACCOUNTS
from common.settings import Settings
from tests.support.nats import NatsServer, current_server

NOBODY: set[str] = set()
WORKERS = {"collector", "downloader", "uploader"}
SERVICES = {"console", "exporter", "origin", *WORKERS}
OUTSIDERS = {"reader"}
GUARDED = [user for user in ACCOUNTS if user != "operator"]
"""Everybody but the owner, who may do everything."""
READING = {reader.service for reader in READERS}
LAST = "said.by.nobody"
CLEARED = {"WORK", "DEAD"}
STREAMS = ("CATALOG", "WORK", "STATUS", "LOG", "DEAD", "KV_JOBS")

MAY_SAY: dict[str, list[tuple[str, set[str]]]] = {
    "each fact has its writers, and nobody else states it": [
        ("pool.defined.1", {"collector"}),
        ("song.listed.1", {"collector"}),
        ("playlist.collected.local.1.0", {"collector"}),
        ("file.stored.library.1.main", {"downloader", "uploader"}),
        ("song.described.1", {"downloader"}),
        ("song.pinned.1", {"console"}),
        ("backend.defined.library", {"console"}),
        ("snapshot.published.main", {"exporter"}),
    ],
    "only the console makes jobs, and only planners make items": [
        ("$KV.JOBS.active", {"console"}),
        ("job.plan.requested.1.download", {"console"}),
        ("pool.collect.requested.1.local.7", {"console", "collector"}),
        ("playlist.sync.requested.1.local.7", {"console", "collector"}),
        ("song.download.requested.1.local.7", {"console", "collector"}),
        ("file.upload.requested.1.objects.7", {"console", "collector", "uploader"}),
    ],
    "the state of an item is told by who plans or does it": [
        ("item.1.sync.local.7", {"console", "collector"}),
        ("item.1.download.local.7", {"console", "collector", "downloader"}),
        ("item.1.upload.objects.7", {"console", "collector", "uploader"}),
        ("dead.song.download.requested.1.local.7", {"downloader"}),
        ("dead.job.plan.requested.1.sync", {"collector"}),
        ("dead.file.upload.requested.1.objects.7", {"uploader"}),
        ("dead.0.catalog.exporter.7", {"exporter"}),
    ],
    "nobody speaks in another's name": [
        *((f"hb.{user}.one", {user} - OUTSIDERS) for user in GUARDED),
        *((f"log.{user}.1", {user} & WORKERS) for user in GUARDED),
        *((reader.reset_subject, {reader.service}) for reader in READERS),
        # The console answers readers who ask for their consumer.
        *((f"_INBOX_{user}.x", {"console"} if user in READING else NOBODY) for user in GUARDED),
    ],
    "nobody asks services for anything but the owner, and the console what was found": [
        ("svc.downloader.matches", {"console"}),
        ("svc.downloader.one.state", NOBODY),
        ("$SRV.PING", NOBODY),
        ("$SRV.STATS.downloader", NOBODY),
        ("svc.console.one.state", NOBODY),
    ],
    "nobody deletes, purges, copies or restores a stream": [
        *((f"$JS.API.STREAM.DELETE.{stream}", NOBODY) for stream in STREAMS),
        *((f"$JS.API.STREAM.SNAPSHOT.{stream}", NOBODY) for stream in STREAMS),
        *((f"$JS.API.STREAM.RESTORE.{stream}", NOBODY) for stream in STREAMS),
        # A canceled job leaves nothing in the queue, and a dead letter goes when a person deals with it.
        *((f"$JS.API.STREAM.PURGE.{stream}", {"console"} if stream in CLEARED else NOBODY) for stream in STREAMS),
        *((f"$JS.API.STREAM.MSG.DELETE.{stream}", {"console"} if stream in CLEARED else NOBODY) for stream in STREAMS),
    ],
    "only the console makes streams, and only ours": [
        *((f"$JS.API.STREAM.CREATE.{stream}", {"console"}) for stream in STREAMS),
        *((f"$JS.API.STREAM.UPDATE.{stream}", {"console"}) for stream in STREAMS),
        ("$JS.API.STREAM.CREATE.MINE", NOBODY),
        ("$JS.API.SERVER.REMOVE", NOBODY),
        ("$JS.API.ACCOUNT.PURGE.MUSIC", NOBODY),
    ],
    "only the console makes consumers: those of WORK, and the fixed ones": [
        ("$JS.API.CONSUMER.DURABLE.CREATE.WORK.j1-download-local", {"console"}),
        ("$JS.API.CONSUMER.DELETE.WORK.j1-download-local", {"console"}),
        *((f"$JS.API.CONSUMER.CREATE.{stream}", NOBODY) for stream in STREAMS),
        *((f"$JS.API.CONSUMER.CREATE.{stream}.mine.>", NOBODY) for stream in STREAMS),
        ("$JS.API.CONSUMER.DURABLE.CREATE.CATALOG.mine", NOBODY),
        ("$JS.API.CONSUMER.DURABLE.CREATE.KV_JOBS.mine", NOBODY),
        *((f"$JS.API.CONSUMER.DURABLE.CREATE.{one.stream}.{one.name}", {"console"}) for one in READERS),
        *((f"$JS.API.CONSUMER.DELETE.{one.stream}.{one.name}", {"console"}) for one in READERS),
    ],
    "nobody takes from another's consumer": [
        *((f"$JS.API.CONSUMER.MSG.NEXT.{one.stream}.{one.name}", {one.service}) for one in READERS),
        ("$JS.API.CONSUMER.MSG.NEXT.CATALOG.mine", NOBODY),
        ("$JS.API.CONSUMER.MSG.NEXT.WORK.j1-download-local", WORKERS),
        ("$JS.ACK.WORK.j1-download-local.1.1.1.1.0", WORKERS),
        ("$JS.ACK.CATALOG.uploader.1.1.1.1.0", {"uploader"}),
    ],
    "outsiders read facts and states, and no work": [
        ("$JS.API.DIRECT.GET.CATALOG", OUTSIDERS),
        ("$JS.API.DIRECT.GET.STATUS", OUTSIDERS),
        ("$JS.API.DIRECT.GET.CATALOG.song.listed.1", {"console", "exporter", *WORKERS, *OUTSIDERS}),
        ("$JS.API.DIRECT.GET.KV_JOBS.$KV.JOBS.active", SERVICES),
        ("$JS.API.STREAM.MSG.GET.WORK", {"console"}),
        ("$JS.API.STREAM.MSG.GET.CATALOG", NOBODY),
        ("$JS.API.STREAM.INFO.WORK", SERVICES),
    ],
}
MAY_HEAR: dict[str, list[tuple[str, set[str]]]] = {
    "nobody listens to everything": [(">", NOBODY), ("$JS.>", NOBODY), ("$JS.API.>", NOBODY), ("$JS.ACK.>", NOBODY)],
    "nobody hears work but through a consumer": [
        (subject, NOBODY)
        for subject in ("job.plan.requested.>", "song.download.requested.>", "file.upload.requested.>", "dead.>")
    ],
    "nobody reads another's answers": [
        *((f"_INBOX_{user}.>", {user}) for user in GUARDED),
        ("_INBOX_operator.>", NOBODY),
        # Theirs is another account: the same name, and not the same letter-box.
        ("_INBOX.>", OUTSIDERS),
    ],
    "outsiders hear facts and states, services the jobs, the console heartbeats": [
        ("song.listed.>", OUTSIDERS),
        ("song.pinned.*", {"downloader", *OUTSIDERS}),
        ("playlist.collected.>", OUTSIDERS),
        ("snapshot.published.>", OUTSIDERS),
        ("item.>", OUTSIDERS),
        ("$KV.JOBS.>", SERVICES),
        ("hb.>", {"console"}),
        ("consumer.reset.*.*", {"console"}),
    ],
}
SAYINGS = [pytest.param(rows, id=promise) for promise, rows in MAY_SAY.items()]
HEARINGS = [pytest.param(rows, id=promise) for promise, rows in MAY_HEAR.items()]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """One server for the whole table."""
    server = NatsServer(tmp_path_factory.mktemp("users") / "nats")
    server.start()
    yield server
    server.stop()


async def connect(server: NatsServer, user: str, refusals: list[str] | None = None) -> Client:
    """A client; what the server refuses is added to ``refusals``."""

    async def on_error(error: Exception) -> None:
        if refusals is not None:
            refusals.append(str(error))

    return await nats.connect(
        server.url,
        user=user,
        password=server.passwords[user],
        inbox_prefix=f"_INBOX_{user}",
        error_cb=on_error,
        allow_reconnect=False,
    )


async def refused(refusals: list[str]) -> set[str]:
    """The subjects that were refused, once the last one is among them."""
    async with asyncio.timeout(5):
        while not any(f'"{LAST}"' in refusal for refusal in refusals):
            await asyncio.sleep(0.01)
    return {refusal.split('"')[1] for refusal in refusals} - {LAST}


@pytest.mark.parametrize("user", GUARDED)
@pytest.mark.parametrize("rows", SAYINGS)
async def test_says_only_what_is_his_to_say(shared: NatsServer, rows: list[tuple[str, set[str]]], user: str) -> None:
    refusals: list[str] = []
    client = await connect(shared, user, refusals)
    for subject, _ in (*rows, (LAST, NOBODY)):
        await client.publish(subject, b"")
    # The server's words about a refusal arrive in lower case.
    assert await refused(refusals) == {subject.lower() for subject, allowed in rows if user not in allowed}
    await client.close()


@pytest.mark.parametrize("user", GUARDED)
@pytest.mark.parametrize("rows", HEARINGS)
async def test_hears_only_what_is_his_to_hear(shared: NatsServer, rows: list[tuple[str, set[str]]], user: str) -> None:
    refusals: list[str] = []
    client = await connect(shared, user, refusals)
    for subject, _ in (*rows, (LAST, NOBODY)):
        await client.subscribe(subject)
    assert await refused(refusals) == {subject.lower() for subject, allowed in rows if user not in allowed}
    await client.close()


@pytest.fixture
async def reader(nats_server: NatsServer, bus: Bus) -> AsyncIterator[Client]:
    """An outsider, and two songs in the catalog."""
    for number in (7, 8):
        fact = SongListed(song_id=number, platform="local", remote_id=f"{number}.flac", name=f"N{number}", revision=1)
        await bus.publish(fact.subject, fact, msg_id=f"song {number}")
    client = await connect(nats_server, "reader")
    yield client
    await client.close()


async def test_an_outsider_walks_the_catalog_and_hears_what_comes(reader: Client, bus: Bus) -> None:
    found, sequence = [], 0
    while True:
        request = json.dumps({"seq": sequence + 1, "next_by_subj": ">"}).encode()
        answer = await reader.request("$JS.API.DIRECT.GET.CATALOG", request, timeout=2)
        headers = answer.headers or {}
        if "Nats-Sequence" not in headers:
            assert headers["Status"] == "404"
            break
        sequence = int(headers["Nats-Sequence"])
        found.append(headers["Nats-Subject"])
    assert found == ["song.listed.7", "song.listed.8"]
    last = await reader.request("$JS.API.DIRECT.GET.CATALOG.song.listed.7", timeout=2)
    assert b'"N7"' in last.data
    live = await reader.subscribe("song.listed.>")
    await reader.flush()
    fact = SongListed(song_id=9, platform="local", remote_id="c.flac", name="N9", revision=1)
    await bus.publish(fact.subject, fact, msg_id="live")
    message = await live.next_msg(timeout=2)
    assert (message.subject, b'"N9"' in message.data) == ("song.listed.9", True)


@pytest.mark.parametrize("subject", ["song.listed.77", "snapshot.published.main", "$KV.JOBS.active", "item.1.sync.a.1"])
async def test_an_answer_cannot_be_led_to_where_an_outsider_may_not_write(
    reader: Client, bus: Bus, subject: str
) -> None:
    await reader.publish("$JS.API.DIRECT.GET.CATALOG", b'{"seq": 1}', reply=subject)
    await reader.request("$JS.API.DIRECT.GET.CATALOG.song.listed.7", timeout=2)
    for stream, messages in (("CATALOG", 2), ("STATUS", 0), ("KV_JOBS", 0)):
        assert (await bus.js.stream_info(stream)).state.messages == messages


async def test_an_answer_that_a_service_leads_elsewhere_is_not_believed(nats_server: NatsServer, bus: Bus) -> None:
    """NATS lets it happen among users of one account; what comes of it has no content for any reader."""
    downloader = await connect(nats_server, "downloader")
    await downloader.request("file.stored.library.1.main", b'{"type": "snapshot.published"}', timeout=2)
    await downloader.publish("$JS.API.DIRECT.GET.CATALOG.file.stored.library.1.main", reply="snapshot.published.main")
    found: dict[str, bytes] = {}
    async with asyncio.timeout(5):
        async for batch in Replay(bus, consumer="test").batches(after=0, max_wait=0.1):
            found |= {message.subject: message.data for message in batch}
            if len(found) == 2:
                break
    assert found == {"file.stored.library.1.main": b'{"type": "snapshot.published"}', "snapshot.published.main": b""}
    await downloader.close()


async def test_an_outsider_does_not_see_the_answers_to_others(reader: Client, nats_server: NatsServer) -> None:
    seen = await reader.subscribe("_INBOX.>")
    await reader.flush()
    owner = await nats.connect(nats_server.url, user="operator", password=nats_server.password)
    assert (await owner.request("$JS.API.STREAM.INFO.WORK", timeout=2)).data
    await owner.close()
    with pytest.raises(nats.errors.TimeoutError):
        await seen.next_msg(timeout=0.2)


async def test_an_outsider_makes_no_consumer(reader: Client) -> None:
    with pytest.raises((nats.errors.TimeoutError, nats.errors.NoRespondersError, APIError)):
        await reader.jetstream(timeout=0.3).add_consumer("CATALOG", ConsumerConfig(durable_name="mine"))


async def test_a_consumer_is_reset_for_its_owner_and_for_nobody_else(nats_server: NatsServer, bus: Bus) -> None:
    exporter, downloader = await connect(nats_server, "exporter"), await connect(nats_server, "downloader")
    told = await exporter.request("consumer.reset.exporter.exporter", b'{"after": 0}', timeout=2)
    assert json.loads(told.data) == {"pending": 0}
    created = (await bus.js.consumer_info("CATALOG", "exporter")).created
    with pytest.raises(nats.errors.TimeoutError):
        await downloader.request("consumer.reset.exporter.exporter", b'{"after": 0}', timeout=0.3)
    # The one who answers may write where the one who asks may not.
    await exporter.publish("consumer.reset.exporter.exporter", b'{"after": 0}', reply="song.pinned.5")
    assert "error" in json.loads((await exporter.request("consumer.reset.exporter.exporter", b"{}", timeout=2)).data)
    assert (await bus.js.stream_info("CATALOG")).state.messages == 0
    assert (await bus.js.consumer_info("CATALOG", "exporter")).created == created
    await exporter.close()
    await downloader.close()


async def test_the_console_makes_everything_that_it_needs_with_its_own_rights(
    nats_server: NatsServer, settings: Settings
) -> None:
    own = settings.model_copy(
        update={
            "nats_user": "console",
            "nats_password": Settings(nats_password=nats_server.passwords["console"]).nats_password,
        }
    )
    bus = await Bus.connect(own, service="console", instance="one")
    await ensure_streams(bus)
    await ReaderDesk(bus).start()
    uploader = await connect(nats_server, "uploader")
    assert json.loads((await uploader.request("consumer.reset.uploader.uploader", b'{"after": 0}', timeout=2)).data)
    await bus.js.add_consumer(
        "WORK", ConsumerConfig(durable_name="j1-download-local", filter_subject="song.download.>")
    )
    await bus.js.purge_stream("WORK", subject="song.download.>")
    await bus.js.delete_consumer("WORK", "j1-download-local")
    await uploader.close()
    await bus.close()


@pytest.mark.parametrize("program", ["machine", "current"])
async def test_the_downloader_answers_whoever_asks_it_once_and_nobody_else(tmp_path: Path, program: str) -> None:
    server = NatsServer(tmp_path / "nats", program=current_server() if program == "current" else None)
    server.start()
    refusals: list[str] = []
    console, downloader = await connect(server, "console"), await connect(server, "downloader", refusals)
    questions = await downloader.subscribe("svc.downloader.matches")
    letters = await console.subscribe("_INBOX_console.>")
    await downloader.flush()
    await console.flush()
    await console.publish("svc.downloader.matches", b"{}", reply="_INBOX_console.question")
    question = await questions.next_msg(timeout=5)
    await downloader.publish("_INBOX_console.unasked", b"not this")
    await question.respond(b"this")
    await question.respond(b"nor this")
    await downloader.publish(LAST, b"")
    assert await refused(refusals) == {"_inbox_console.unasked", "_inbox_console.question"}
    assert (await letters.next_msg(timeout=5)).data == b"this"
    await console.publish("_INBOX_console.last", b"last")
    assert (await letters.next_msg(timeout=5)).data == b"last", "and nothing between"
    # A subject that it must not write to is none that it is asked from: only the console and the owner ask.
    uploader_refusals: list[str] = []
    uploader = await connect(server, "uploader", uploader_refusals)
    await uploader.publish("svc.downloader.matches", b"{}", reply="snapshot.published.main")
    await uploader.publish(LAST, b"")
    assert await refused(uploader_refusals) == {"svc.downloader.matches"}
    for client in (console, downloader, uploader):
        await client.close()
    server.stop()
