"""Collecting a folder, end to end over the bus: what is published, what is asked for, what is left alone."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import psycopg
import pytest

from common.bus.facts import FactWriter
from common.catalog.ids import playlist_id, song_id
from common.contracts.facts import PlaylistCollected, PoolDefined, SongListed
from common.contracts.names import BackendKind, ItemState, JobType, Stage
from common.contracts.status import ItemStatus, Reason
from common.contracts.work import FileUpload, SongDownload
from tests.support.audio import make_audio
from tests.support.collecting import Collecting, eventually
from tests.support.disks import fill, small_disk
from tests.support.tagged import wav


def folder(root: Path) -> Path:
    wav(root / "Abba" / "one.wav", title="One", artist="Abba", album="First")
    wav(root / "Abba" / "two.wav", title="Two", artist="Abba")
    wav(root / "Björk" / "mörk.wav")
    (root / "mix.m3u").write_text("#EXTM3U\n#EXTINF:3,Nobody - Gone\nAbba/gone.wav\nAbba/one.wav\n../etc/passwd.mp3\n")
    return root


@pytest.fixture
def collector_database(database_url: str) -> str:
    """Every test here runs on SQLite and on PostgreSQL."""
    return database_url


async def test_a_folder_is_listed_and_its_songs_asked_for(collecting: Collecting, tmp_path: Path) -> None:
    root = folder(tmp_path / "music")
    async with collecting.running(local_media_import_path=root):
        job = await collecting.job()

        songs = {song.remote_id: song for song in await collecting.facts(SongListed)}
        assert sorted(songs) == ["Abba/gone.wav", "Abba/one.wav", "Abba/two.wav", "Björk/mörk.wav"]
        assert (songs["Abba/one.wav"].name, songs["Abba/one.wav"].singers) == ("One", ("Abba",))
        assert songs["Abba/one.wav"].metadata_status == "complete"
        assert (songs["Björk/mörk.wav"].name, songs["Björk/mörk.wav"].metadata_status) == ("mörk", "pending")
        assert (songs["Abba/gone.wav"].name, songs["Abba/gone.wav"].singers) == ("Gone", ("Nobody",))
        pages = {page.remote_id: page for page in await collecting.facts(PlaylistCollected)}
        assert sorted(pages) == ["Abba/", "Björk/", "mix.m3u"]
        mix = pages["mix.m3u"]
        assert mix.header is not None and mix.header.song_count == 2
        assert "outside the folder" in (mix.header.notice or "")
        assert mix.entries == (
            (0, song_id("local", "Abba/gone.wav")),
            (1, song_id("local", "Abba/one.wav")),
        )
        (pool,) = await collecting.facts(PoolDefined)
        assert set(pool.playlist_ids) == {playlist_id("local", name) for name in pages}
        assert await collecting.asked(job) == sorted(songs)
        sync = (await collecting.states(job, Stage.SYNC))["mix"]
        assert sync.state is ItemState.SUCCEEDED
        assert sync.result["problems"] == ["Entry 3 points outside the folder, and was left out."]


async def test_collecting_again_publishes_no_fact_and_asks_for_what_is_missing(
    collecting: Collecting, tmp_path: Path
) -> None:
    root = folder(tmp_path / "music")
    async with collecting.running(local_media_import_path=root):
        await collecting.job()
        await collecting.store(song_id("local", "Abba/one.wav"))
        before = await collecting.last_sequence()
        again = await collecting.job()
        assert await collecting.last_sequence() == before
        assert await collecting.asked(again) == ["Abba/gone.wav", "Abba/two.wav", "Björk/mörk.wav"]

        wav(root / "Abba" / "three.wav", title="Three", artist="Abba")
        third = await collecting.job()
        assert await collecting.last_sequence() == before + 2  # the song, and the page that lists it
        assert "Abba/three.wav" in await collecting.asked(third)


async def test_the_record_is_rebuilt_when_its_database_is_gone(
    collecting: Collecting, tmp_path: Path, database_url: str
) -> None:
    root = folder(tmp_path / "music")
    async with collecting.running(local_media_import_path=root):
        await collecting.job()
        await collecting.store(song_id("local", "Abba/one.wav"))
    if database_url:
        with psycopg.connect(database_url, autocommit=True) as server:
            server.execute("DROP SCHEMA collector CASCADE")
    else:
        for file in (tmp_path / "data" / "state").iterdir():
            file.unlink()
    before = await collecting.last_sequence()
    async with collecting.running():
        job = await collecting.job()
        assert await collecting.last_sequence() == before
        assert await collecting.asked(job) == ["Abba/gone.wav", "Abba/two.wav", "Björk/mörk.wav"]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_a_full_disk_is_said_and_collecting_goes_on_when_there_is_space(
    collecting: Collecting, tmp_path: Path
) -> None:
    root = folder(tmp_path / "music")
    with small_disk(tmp_path / "disk", size="3m") as disk:
        async with collecting.running(local_media_import_path=root, state_dir=disk) as runtime:
            filler = fill(disk)
            collected = asyncio.create_task(collecting.job())

            async def said() -> bool:
                return any("disk is full" in problem.message for problem in runtime.problems())

            await eventually(said, "the full disk is said")
            filler.unlink()
            job = await collected
            assert len(await collecting.asked(job)) == 4
            assert runtime.problems() == ()


async def test_download_only_asks_for_wanted_less_stored_less_given_up(collecting: Collecting, tmp_path: Path) -> None:
    root = folder(tmp_path / "music")
    one, two = song_id("local", "Abba/one.wav"), song_id("local", "Abba/two.wav")
    async with collecting.running(local_media_import_path=root) as runtime:
        first = await collecting.job()
        await collecting.store(one)
        await collecting.store(one, removed=True)
        await collecting.store(song_id("local", "Abba/gone.wav"))
        await fail(collecting, first.job_id, two, permanent=True)
        await fail(collecting, first.job_id, song_id("local", "Björk/mörk.wav"), permanent=False)

        async def only(expected: list[str]) -> bool:
            job = await collecting.job(JobType.DOWNLOAD_ONLY, stages=(Stage.DOWNLOAD,))
            return await collecting.asked(job) == expected

        await eventually(lambda: only(["Abba/one.wav", "Björk/mörk.wav"]), "the failed song is left out")
        # What a person mended is asked for again: the file changed, so its listing did.
        wav(root / "Abba" / "two.wav", title="Two, mended", artist="Abba")
        job = await collecting.job()
        assert await collecting.asked(job) == ["Abba/one.wav", "Abba/two.wav", "Björk/mörk.wav"]
        assert runtime.detail()["sources"] == [
            {"name": "local", "configured": True, "available": True, "message": ""},
            {
                "name": "feed",
                "configured": False,
                "available": False,
                "message": "No feeds are set. Set FEEDS to collect from playlists.",
            },
        ]


async def test_a_file_that_changed_at_its_source_is_asked_for_again(collecting: Collecting, tmp_path: Path) -> None:
    root = tmp_path / "music"
    file = wav(root / "a.wav", title="A", artist="B")
    async with collecting.running(local_media_import_path=root):
        await collecting.job()
        (listed,) = await collecting.facts(SongListed)
        await collecting.store(listed.song_id, fingerprint=listed.fingerprint)
        assert await collecting.asked(await collecting.job()) == []
        os.utime(file, ns=(1, 1))
        assert await collecting.asked(await collecting.job()) == ["a.wav"]


async def test_collect_only_then_sync_only_reads_what_was_never_read(collecting: Collecting, tmp_path: Path) -> None:
    root = folder(tmp_path / "music")
    async with collecting.running(local_media_import_path=root):
        await collecting.job(JobType.COLLECT_ONLY)
        assert await collecting.facts(PlaylistCollected) == []
        await collecting.job(JobType.SYNC_ONLY, stages=(Stage.SYNC,))
        assert len(await collecting.facts(PlaylistCollected)) == 3
        job = await collecting.job(JobType.SYNC_ONLY, stages=(Stage.SYNC,))
        assert len(await collecting.states(job, Stage.SYNC)) == 3


async def test_upload_only_finds_what_lacks_a_copy(collecting: Collecting, tmp_path: Path) -> None:
    root = folder(tmp_path / "music")
    async with collecting.running(local_media_import_path=root):
        await collecting.store(1, sha256="1" * 64)
        await collecting.store(2, sha256="2" * 64)
        await collecting.store(2, sha256="2" * 64, backend="objects", kind=BackendKind.OBJECT_STORAGE)
        await collecting.store(3, sha256="3" * 64, backend="local")
        await collecting.store(3, sha256="0" * 64, backend="objects", kind=BackendKind.OBJECT_STORAGE)
        await collecting.store(4, removed=True)
        job = await collecting.job(JobType.UPLOAD_ONLY, stages=(Stage.UPLOAD,), upload_backend="objects")
        states = await collecting.states(job, Stage.UPLOAD)
        items = [FileUpload.model_validate(status.request) for status in states.values()]
        assert {(item.song_id, item.from_backend) for item in items} == {(1, "library"), (3, "local")}
        assert items[0].stored["sha256"] == items[0].sha256


async def test_a_list_of_ten_thousand_tracks_comes_in_pages_with_page_0_last(
    collecting: Collecting, tmp_path: Path
) -> None:
    feed = tmp_path / "long.m3u"
    feed.write_text("#EXTM3U\n" + "".join(f"http://music.example/{n}.mp3\n" for n in range(10_001)))
    async with collecting.running(feeds=str(feed)):
        await collecting.job(JobType.COLLECT_ONLY, sources=("feed",))
        await collecting.job(JobType.SYNC_ONLY, stages=(Stage.SYNC,), sources=("feed",))
        pages = await collecting.facts(PlaylistCollected)
        assert len(pages) == 21 and pages[-1].page == 0
        assert {page.version for page in pages} == {1} and {page.pages for page in pages} == {21}
        assert sum(len(page.entries) for page in pages) == 10_001
        assert len(await collecting.facts(SongListed)) == 10_001


async def test_a_set_of_pages_that_was_cut_off_is_published_whole_again(collecting: Collecting, tmp_path: Path) -> None:
    feed = tmp_path / "long.m3u"
    feed.write_text("#EXTM3U\n" + "".join(f"http://music.example/{n}.mp3\n" for n in range(600)))
    async with collecting.running(feeds=str(feed)):
        await collecting.job(sources=("feed",))
        page = next(page for page in await collecting.facts(PlaylistCollected) if page.page == 1)
        cut_off = page.model_copy(update={"version": 2, "entries": page.entries[:3]})
        await FactWriter(collecting.bus).publish(cut_off, cause="a collector that was killed")
        await collecting.job(sources=("feed",))
        pages = await collecting.facts(PlaylistCollected)
        assert [(page.page, page.version, len(page.entries)) for page in pages] == [(1, 3, 100), (0, 3, 500)]


async def fail(collecting: Collecting, job_id: int, song: int, *, permanent: bool) -> None:
    """Say, as the work loop does, that a download failed."""
    listed = next(one for one in await collecting.facts(SongListed) if one.song_id == song)
    request = SongDownload(
        job_id=job_id,
        source=listed.platform,
        givers=(listed.platform,),
        **listed.model_dump(
            include={
                "song_id",
                "remote_id",
                "name",
                "singers",
                "album",
                "duration_seconds",
                "ext",
                "size",
                "fingerprint",
            }
        ),
    )
    status = ItemStatus(
        job_id=job_id,
        stage=Stage.DOWNLOAD,
        lane=request.lane,
        key=request.key,
        title=request.title,
        state=ItemState.FAILED,
        permanent=permanent,
        reason=Reason(code="not-audio", message="It is not audio."),
        request=request.model_dump(mode="json", exclude_defaults=True),
    )
    await collecting.bus.publish(status.subject, status, msg_id=f"fail {job_id} {song}")


async def test_one_fact_writer_and_one_collector_do_not_collide(collecting: Collecting, tmp_path: Path) -> None:
    """A song that somebody else has listed under the same key meanwhile is listed once more, not lost."""
    root = tmp_path / "music"
    wav(root / "a.wav", title="A", artist="B")
    async with collecting.running(local_media_import_path=root):
        await FactWriter(collecting.bus).publish(
            SongListed(song_id=song_id("local", "a.wav"), platform="local", remote_id="a.wav", name="old"),
            cause="adopt",
        )
        await collecting.job()
        (listed,) = await collecting.facts(SongListed)
        assert (listed.name, listed.revision) == ("A", 2)


async def test_a_job_with_a_scope_reads_and_asks_for_its_playlists_only(collecting: Collecting, tmp_path: Path) -> None:
    music = tmp_path / "music"
    for album in ("one", "two"):
        make_audio(music / album / "song.flac", title=album, artist="A")
    async with collecting.running(local_media_import_path=music):
        scope = (playlist_id("local", "one/"),)
        full = await collecting.job(playlist_scope=scope)
        assert await collecting.asked(full) == ["one/song.flac"]
        assert set(await collecting.states(full, Stage.SYNC)) == {"one"}

        await collecting.job(JobType.SYNC_ONLY, stages=(Stage.SYNC,))
        backlog = await collecting.job(JobType.DOWNLOAD_ONLY, stages=(Stage.DOWNLOAD,), playlist_scope=scope)
        assert await collecting.asked(backlog) == ["one/song.flac"]
        nobody = await collecting.job(download_sources=("feed",))
        assert await collecting.asked(nobody) == []


async def test_a_job_of_single_pools_reads_and_asks_for_theirs_only(collecting: Collecting, tmp_path: Path) -> None:
    music = tmp_path / "music"
    make_audio(music / "album" / "song.flac", title="one", artist="A")
    feed = tmp_path / "feed.m3u"
    feed.write_text("https://music.example.org/other.flac\n")
    both = ("local", "feed")
    async with collecting.running(local_media_import_path=music, feeds=str(feed), sources="local,feed"):
        await collecting.job(sources=both)
        pools = {pool.platform: pool.pool_id for pool in await collecting.facts(PoolDefined)}
        scope = (pools["feed"],)
        full = await collecting.job(sources=both, pool_scope=scope)
        assert await collecting.asked(full) == ["https://music.example.org/other.flac"]
        stages = (Stage.DOWNLOAD,)
        backlog = await collecting.job(JobType.DOWNLOAD_ONLY, stages=stages, sources=both, pool_scope=scope)
        assert await collecting.asked(backlog) == ["https://music.example.org/other.flac"]
        nothing = await collecting.job(JobType.DOWNLOAD_ONLY, stages=stages, sources=both, pool_scope=(7,))
        assert await collecting.asked(nothing) == [], "an unknown pool is none, not all"
