"""Backup, restore and reseed against a real bus: nothing is lost, nothing is overwritten unasked."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import sqlite3
import sys
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from cli.backup.archive import read_entries
from cli.backup.check import check_archive
from cli.backup.errors import ArchiveDamaged, BackupFailed, NotEmpty, RestoreFailed, WrongPassphrase
from cli.backup.make import make_backup
from cli.backup.records import from_lines
from cli.backup.reseed import Reseed
from cli.backup.restore import MARKER, Restore
from cli.backup.settings import BackupSettings
from cli.backup.streams import read_stream
from common.bus import Bus, FactWriter
from common.bus.jobs import JOBS_SUBJECT
from common.bus.streams import JOBS_STREAM, ensure_streams
from common.contracts.envelope import decode
from common.contracts.facts import Fact, PoolDefined, SongDescribed, SongPinned
from common.contracts.jobs import ActiveJob, JobsState
from common.contracts.names import ItemState, JobState, JobType, Stage
from common.contracts.status import ItemStatus, Reason
from common.contracts.streams import CATALOG, STATUS, WORK
from common.contracts.work import SongDownload
from common.errors import ConfigurationError
from tests.support.catalog_facts import playlist, song, stored
from tests.support.nats import NatsServer

Held = dict[str, bytes]
JOBS_TABLE = "CREATE TABLE job_runs (id INTEGER PRIMARY KEY, status TEXT NOT NULL)"


@pytest.fixture
def place(nats_server: NatsServer, tmp_path: Path) -> BackupSettings:
    return BackupSettings(
        root_dir=tmp_path / "data",
        nats_url=nats_server.url,
        nats_user=nats_server.user,
        nats_password=nats_server.password,
        heartbeat_seconds=0.2,
    )


def silent(_: str) -> None:
    return None


async def back_up(place: BackupSettings, bus: Bus, to: Path, passphrase: str | None = None) -> Path:
    return (await make_backup(place, bus, to, passphrase=passphrase, say=silent))[0]


def restoring(place: BackupSettings, archive: Path, *, replace: bool = False, passphrase: str | None = None) -> Restore:
    return Restore(settings=place, archive=archive, passphrase=passphrase, replace=replace, say=silent)


async def held(bus: Bus, stream: str) -> Held:
    """The last message of every subject, in the stream's order."""
    return {record.subject: record.data async for batch in read_stream(bus, stream) for record in batch}


def status(job: int, key: str, state: ItemState, **fields: Any) -> ItemStatus:
    item = SongDownload(job_id=job, source="feed", song_id=int(key), remote_id=key, name=f"Song {key}")
    request = item.model_dump(mode="json", exclude_defaults=True)
    return ItemStatus(
        job_id=job, stage=Stage.DOWNLOAD, lane="feed", key=key, title=key, state=state, request=request, **fields
    )


async def tell(bus: Bus, *statuses: ItemStatus) -> None:
    for one in statuses:
        await bus.publish(one.subject, one, msg_id=f"{one.subject} {one.state}")


def ops_db(place: BackupSettings, jobs: Iterable[tuple[int, str]]) -> Path:
    """As much of the console's database as these commands look at."""
    file = place.state / "ops.db"
    file.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(file)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute(JOBS_TABLE)
        database.executemany("INSERT INTO job_runs VALUES (?, ?)", jobs)
        database.commit()
    return file


def destroy(place: BackupSettings, server: NatsServer) -> None:
    """The disk of everything but the library died."""
    server.kill()
    for folder in (place.root_dir, server.directory / "store"):
        if folder.exists():
            folder.rename(folder.with_name(f"{folder.name}-dead"))
    server.restart()


async def reconnected(place: BackupSettings) -> Bus:
    return await Bus.connect(place, service="test", instance="two")


def secret(place: BackupSettings, account: str, text: str) -> Path:
    file = place.root_dir / "secrets" / account / "secrets.env"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


async def test_everything_comes_back(place: BackupSettings, bus: Bus, nats_server: NatsServer, tmp_path: Path) -> None:
    writer = FactWriter(bus)
    await writer.publish_many([song(str(n)) for n in range(3000)], cause="a")
    await writer.publish(song("1", name="Newer"), cause="b")
    await tell(bus, status(1, "7", ItemState.FAILED, tries=5, reason=Reason(code="gone", message="Gone.")))
    await bus.publish(JOBS_SUBJECT, JobsState(revision=41, last_job_id=9), msg_id="j")
    await bus.js.create_key_value(bucket="PEOPLE")
    await (await bus.js.key_value("PEOPLE")).put("alice", b"\xff admin")
    ops_db(place, [(1, "completed_with_errors")])
    (place.state / "note.txt").write_text("mine")
    (place.state / "catalog.db").write_text("a projection")
    key = secret(place, "console", "CONSOLE_TOKEN=abc")
    facts, statuses = await held(bus, CATALOG), await held(bus, STATUS)

    archive = await back_up(place, bus, tmp_path / "to")
    await bus.close()
    destroy(place, nats_server)
    await restoring(place, archive).run()

    bus = await reconnected(place)
    assert list((await held(bus, CATALOG)).items()) == list(facts.items())
    assert await held(bus, STATUS) == statuses
    jobs = await bus.last_message(JOBS_STREAM, JOBS_SUBJECT, JobsState)
    assert jobs is not None and (jobs.data.revision, jobs.data.last_job_id) == (42, 9)
    assert (await (await bus.js.key_value("PEOPLE")).get("alice")).value == b"\xff admin"
    assert key.read_text() == "CONSOLE_TOKEN=abc" and key.stat().st_mode & 0o077 == 0
    assert (place.state / "note.txt").read_text() == "mine"
    assert not (place.state / "catalog.db").exists() and not (place.state / MARKER).exists()
    with closing(sqlite3.connect(place.state / "ops.db")) as database:
        assert database.execute("SELECT * FROM job_runs").fetchall() == [(1, "completed_with_errors")]
    await bus.close()


async def test_a_running_job_goes_on_with_its_tries(
    place: BackupSettings, bus: Bus, nats_server: NatsServer, tmp_path: Path
) -> None:
    told = [
        status(1, "1", ItemState.SUCCEEDED),
        status(1, "2", ItemState.RUNNING, tries=2),
        status(1, "3", ItemState.INTERRUPTED, interruptions=4),
        status(1, "4", ItemState.FAILED, tries=5),
        status(2, "5", ItemState.QUEUED, tries=1),
        status(3, "6", ItemState.QUEUED),
    ]
    await tell(bus, *told)
    running = ActiveJob(job_id=1, job_type=JobType.FULL, state=JobState.RUNNING, stages=(), sources=())
    await bus.publish(JOBS_SUBJECT, JobsState(revision=5, last_job_id=3, jobs=(running,)), msg_id="j")
    # Job 2 had ended and was reopened, job 3 was begun, both after the console's database was copied.
    ops_db(place, [(1, "running"), (2, "completed")])

    archive = await back_up(place, bus, tmp_path / "to")
    await bus.close()
    destroy(place, nats_server)
    await restoring(place, archive).run()

    bus = await reconnected(place)
    queued = (await bus.js.stream_info(WORK, subjects_filter=">")).state.subjects
    assert set(queued or ()) == {"song.download.requested.1.feed.2", "song.download.requested.1.feed.3"}
    back = {key: decode(data, ItemStatus).data for key, data in (await held(bus, STATUS)).items()}
    assert {key.split(".")[1] for key in back} == {"1", "2"}
    assert [back[one.subject] for one in told[:4]] == told[:4]
    asked_again = back[told[4].subject]
    assert asked_again.state is ItemState.FAILED and asked_again.tries == 1
    assert asked_again.reason is not None and "Retry it" in asked_again.reason.message
    jobs = await bus.last_message(JOBS_STREAM, JOBS_SUBJECT, JobsState)
    assert jobs is not None and jobs.data == JobsState(revision=6, last_job_id=3)
    await bus.close()


async def test_what_changes_meanwhile_is_in_it(place: BackupSettings, bus: Bus, tmp_path: Path) -> None:
    """Facts that are replaced while they are read are not lost between their old place and their new one."""
    writer = FactWriter(bus)
    await writer.publish_many([song(str(n)) for n in range(4000)], cause="a", fresh=True)
    stop = asyncio.Event()

    async def write() -> int:
        rounds = 0
        while not stop.is_set():
            rounds += 1
            await writer.publish_many([song(str(n), name=f"Round {rounds}") for n in range(100)], cause=f"r{rounds}")
            await asyncio.sleep(0.02)
        return rounds

    writing = asyncio.create_task(write())
    archive = await back_up(place, bus, tmp_path / "to")
    stop.set()
    found: set[str] = set()
    for entry in read_entries(archive, None, {}):
        if entry.name.startswith("streams/CATALOG/"):
            found |= {record.subject for record in from_lines(entry.content(), CATALOG)}
    assert len(found) == 4000
    assert await writing > 0


async def test_a_stack_in_use_is_not_overwritten(place: BackupSettings, bus: Bus, tmp_path: Path) -> None:
    await FactWriter(bus).publish(song("1"), cause="a")
    archive = await back_up(place, bus, tmp_path / "to")
    await FactWriter(bus).publish(song("2"), cause="a")
    before = await held(bus, CATALOG)

    with pytest.raises(NotEmpty, match="--replace"):
        await restoring(place, archive).run()
    assert await held(bus, CATALOG) == before
    assert not list(place.state.glob(".before-restore-*")) and not (place.state / MARKER).exists()

    async def beat() -> None:
        while True:
            await bus.nc.publish("hb.downloader.one", b"{}")
            await asyncio.sleep(0.05)

    beating = asyncio.create_task(beat())
    with pytest.raises(NotEmpty, match="downloader"):
        await restoring(place, archive, replace=True).run()
    beating.cancel()
    assert await held(bus, CATALOG) == before

    await restoring(place, archive, replace=True).run()
    assert set(await held(bus, CATALOG)) == {song("1").subject}
    (aside,) = place.state.glob(".before-restore-*/bus.tar.zst")
    assert check_archive(aside, None).streams[CATALOG]["messages"] == 2
    # The way back.
    await restoring(place, aside, replace=True).run()
    assert await held(bus, CATALOG) == before


async def test_onto_a_console_database_that_is_damaged(place: BackupSettings, bus: Bus, tmp_path: Path) -> None:
    ops_db(place, [(1, "completed")])
    archive = await back_up(place, bus, tmp_path / "to")
    damaged = b"SQLite format 3\x00" + b"\x07" * 9000
    (place.state / "ops.db").write_bytes(damaged)
    with pytest.raises(NotEmpty, match="--replace"):
        await restoring(place, archive).run()
    await restoring(place, archive, replace=True).run()
    with closing(sqlite3.connect(place.state / "ops.db")) as database:
        assert database.execute("SELECT id FROM job_runs").fetchall() == [(1,)]
    (aside,) = place.state.glob(".before-restore-*/*/ops.db")
    assert aside.read_bytes() == damaged


async def test_a_disk_that_refuses_is_one_sentence(place: BackupSettings, bus: Bus, tmp_path: Path) -> None:
    archive = await back_up(place, bus, tmp_path / "to")
    (tmp_path / "file").write_text("")
    with pytest.raises(RestoreFailed, match="same command again"):
        await restoring(place.model_copy(update={"state_dir": tmp_path / "file"}), archive).run()


async def test_a_damaged_archive_changes_nothing(place: BackupSettings, bus: Bus, tmp_path: Path) -> None:
    await FactWriter(bus).publish(song("1"), cause="a")
    key = secret(place, "console", "CONSOLE_TOKEN=old")
    archive = await back_up(place, bus, tmp_path / "to")
    content = archive.read_bytes()
    key.write_text("CONSOLE_TOKEN=new")
    before = await held(bus, CATALOG)
    for damaged in (content[:-200], content[:300] + bytes([content[300] ^ 4]) + content[301:]):
        archive.write_bytes(damaged)
        with pytest.raises(ArchiveDamaged):
            await restoring(place, archive, replace=True).run()
        assert await held(bus, CATALOG) == before and key.read_text() == "CONSOLE_TOKEN=new"
        assert not (place.state / MARKER).exists() and not list(place.state.glob(".before*"))


async def test_encrypted_with_another_passphrase_changes_nothing(
    place: BackupSettings, bus: Bus, tmp_path: Path
) -> None:
    await FactWriter(bus).publish(song("1"), cause="a")
    archive = await back_up(place, bus, tmp_path / "to", passphrase="correct horse battery")
    assert archive.name.endswith(".age.tar")
    with pytest.raises(WrongPassphrase):
        await restoring(place, archive, replace=True, passphrase="wrong horse battery").run()
    assert len(await held(bus, CATALOG)) == 1 and not (place.state / MARKER).exists()
    await restoring(place, archive, replace=True, passphrase="correct horse battery").run()
    assert len(await held(bus, CATALOG)) == 1


async def test_a_failed_backup_leaves_nothing(place: BackupSettings, bus: Bus, tmp_path: Path) -> None:
    file = ops_db(place, [(number, "running") for number in range(20_000)])
    content = bytearray(file.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 4096] = os.urandom(4096)
    file.write_bytes(content)
    with pytest.raises(BackupFailed, match=r"ops\.db"):
        await back_up(place, bus, tmp_path / "to")
    assert [one.name for one in (tmp_path / "to").iterdir()] == [".music-cloud-backup.lock"]


async def test_what_a_killed_backup_left_goes_with_the_next(place: BackupSettings, bus: Bus, tmp_path: Path) -> None:
    left, busy = (place.state / name for name in (".backup-killed", ".backup-under-way"))
    for folder in (left, busy):
        folder.mkdir(parents=True)
        (folder / "console.db").write_bytes(b"rows")
    other = os.open(busy, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(other, fcntl.LOCK_EX)
    await back_up(place, bus, tmp_path / "to")
    os.close(other)
    assert [path.name for path in place.state.glob(".backup-*")] == [busy.name]


async def test_killed_in_the_middle_and_run_again(
    place: BackupSettings, bus: Bus, nats_server: NatsServer, tmp_path: Path
) -> None:
    await FactWriter(bus).publish_many([song(str(n)) for n in range(12_000)], cause="a", fresh=True)
    ops_db(place, [(1, "completed")])
    secret(place, "operator", "NATS_PASSWORD=of-the-backup")
    facts = await held(bus, CATALOG)
    archive = await back_up(place, bus, tmp_path / "to")
    await bus.close()
    destroy(place, nats_server)
    environment = {
        **os.environ,
        **nats_server.settings,
        "ROOT_DIR": str(place.root_dir),
        "HEARTBEAT_SECONDS": "0.1",
        "MUSIC_CLOUD_ENV_FILE": "",
    }
    command = [sys.executable, "-m", "cli", "restore", str(archive)]
    process = await asyncio.create_subprocess_exec(*command, env=environment, cwd=tmp_path)
    bus = await reconnected(place)
    async with asyncio.timeout(60):
        while True:
            info = await bus.js.streams_info()
            if any(one.config.name == CATALOG and 0 < one.state.messages < 12_000 for one in info):
                break
            assert process.returncode is None, "it was done before it could be killed"
    process.send_signal(signal.SIGKILL)
    await process.wait()
    assert (place.state / MARKER).exists() and len(await held(bus, CATALOG)) < 12_000

    again = await asyncio.create_subprocess_exec(*command, env=environment, cwd=tmp_path)
    assert await again.wait() == 0
    assert list((await held(bus, CATALOG)).items()) == list(facts.items())
    assert not (place.state / MARKER).exists()
    assert (place.root_dir / "secrets/operator/secrets.env").read_text() == "NATS_PASSWORD=of-the-backup"
    # What the interrupted run had written is not taken for what was there before.
    assert not list(place.state.glob(".before-restore-*/state/ops.db"))
    await bus.close()


async def test_reseed_publishes_what_the_catalog_holds(
    place: BackupSettings, bus: Bus, nats_server: NatsServer, tmp_path: Path
) -> None:
    """There and back through the exporter's own tables."""
    from exporter.adapters.database import close_catalog, open_catalog
    from exporter.service.projection import Projection, read_batch

    facts: list[Fact] = [
        song("1", singers=("Earth, Wind & Fire", "B"), album="A", duration_seconds=1.5, metadata={"year": 1978}),
        song("2", singers=("A", "B"), ext="mp3", size=5, fingerprint="f", metadata_status="pending"),
        song("3", removed=True),
        stored("1", listing_fingerprint="x", candidate_source="feed"),
        stored("1", backend="objects"),
        *playlist("p", [str(n) for n in range(1200)], description="d"),
        PoolDefined(pool_id=4, platform="feed", pool_kind="user", external_id="e", name="Pool", playlist_ids=(1, 2)),
        SongDescribed(song_id=song("1").song_id, singers=("C", "D, E"), metadata={"label": "L"}),
        SongPinned(song_id=song("2").song_id, name="N", banned=("feed:9",), by="alice"),
    ]
    writer = FactWriter(bus)
    for fact in facts:
        await writer.publish(fact, cause="a")
    await writer.publish(song("2", singers=("A", "C")), cause="b")
    messages = [record async for batch in read_stream(bus, CATALOG) for record in batch]
    source = place.state / "catalog.db"
    connection = open_catalog(source)
    Projection(connection).apply(read_batch(messages))
    close_catalog(connection)
    before = {
        record.subject: decode(record.data, type(fact)).data
        for record in messages
        for fact in facts
        if record.subject == fact.subject
    }
    await bus.close()
    nats_server.kill()
    (nats_server.directory / "store").rename(tmp_path / "dead-store")
    nats_server.restart()

    bus = await reconnected(place)
    await ensure_streams(bus)
    # Collected anew before anybody noticed the loss.
    await FactWriter(bus).publish(song("2", name="Seen meanwhile"), cause="c")
    first = await Reseed(bus=bus, say=silent).run(source)
    after = await held(bus, CATALOG)
    assert first == {"published": len(before), "present": 0, "unreadable": 0}
    assert {key: decode(data, type(before[key])).data for key, data in after.items()} == before
    assert await Reseed(bus=bus, say=silent).run(source) == {"published": 0, "present": len(before), "unreadable": 0}
    assert await held(bus, CATALOG) == after

    # The exporter goes on with the rows that it has.
    connection = open_catalog(source)
    projection = Projection(connection)
    assert (projection.position().sequence, projection.position().stream_created) == (0, None)
    rows = connection.exec_driver_sql("SELECT * FROM songs ORDER BY id").fetchall()
    projection.apply(read_batch([record async for batch in read_stream(bus, CATALOG) for record in batch]))
    assert connection.exec_driver_sql("SELECT * FROM songs ORDER BY id").fetchall() == rows
    close_catalog(connection)
    await bus.close()


async def test_reseed_refuses_what_is_no_catalog_and_what_is_in_use(
    place: BackupSettings, bus: Bus, tmp_path: Path
) -> None:
    from exporter.adapters.database import DatabaseLock

    for name, content in (("old.db", b"SQLite format 3\x00"), ("text", b"hello")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ConfigurationError, match="adopt"):
            await Reseed(bus=bus, say=silent).run(tmp_path / name)
    lock = DatabaseLock(tmp_path / "text")
    with pytest.raises(ConfigurationError, match="Stop it"):
        await Reseed(bus=bus, say=silent).run(tmp_path / "text")
    lock.release()
