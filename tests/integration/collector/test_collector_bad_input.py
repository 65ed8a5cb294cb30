"""Bad input and faults: each gives a reason on its own item, and the rest goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from common.catalog.ids import playlist_id, song_id
from common.contracts.facts import PlaylistCollected, SongListed
from common.contracts.names import ItemState, JobType, Stage
from common.contracts.work import JobPlan
from common.work import Planner
from tests.support.collecting import Collecting, eventually
from tests.support.feed_server import feed_server
from tests.support.jobs import make_job
from tests.support.tagged import wav


async def test_bad_playlists_fail_alone_with_their_reason(collecting: Collecting, tmp_path: Path) -> None:
    root = tmp_path / "music"
    wav(root / "good.wav", title="Good", artist="G")
    (root / "page.m3u").write_text("<!DOCTYPE html><html>Log in</html>")
    (root / "torn.xspf").write_text("<playlist><trackList><track>")
    (root / "huge.m3u").write_bytes(b"#EXTM3U\n" + b"#" * (17 * 1024 * 1024))
    (root / "leak.m3u").symlink_to("/etc/passwd")
    async with collecting.running(local_media_import_path=root):
        job = await collecting.job()
        states = await collecting.states(job, Stage.SYNC)
        assert {title: (one.state, one.reason.code if one.reason else "") for title, one in states.items()} == {
            "Folder": (ItemState.SUCCEEDED, ""),
            "page": (ItemState.FAILED, "playlist-is-html"),
            "torn": (ItemState.FAILED, "playlist-malformed"),
            "huge": (ItemState.FAILED, "playlist-too-large"),
            "leak": (ItemState.FAILED, "outside-folder"),
        }
        assert await collecting.asked(job) == ["good.wav"]


async def test_a_feed_that_is_suddenly_empty_or_broken_deletes_nothing(collecting: Collecting) -> None:
    with feed_server() as server:
        url = server.serve("/list.m3u", "#EXTM3U\n" + "".join(f"#EXTINF:1,A - S{n}\n{n}.mp3\n" for n in range(4)))
        async with collecting.running(feeds=url):
            await collecting.job(sources=("feed",))
            songs = [song_id("feed", f"{server.url}/{n}.mp3") for n in range(4)]
            await collecting.store(songs[0])

            async def page() -> PlaylistCollected:
                (found,) = await collecting.facts(PlaylistCollected)
                return found

            assert [song for _, song in (await page()).entries] == songs

            server.serve("/list.m3u", "#EXTM3U\n")
            empty = await collecting.job(sources=("feed",))
            kept = await page()
            assert [song for _, song in kept.entries] == songs
            assert kept.header is not None and kept.header.upstream == "empty"
            (status,) = (await collecting.states(empty, Stage.SYNC)).values()
            assert status.state is ItemState.SUCCEEDED and status.result["upstream"] == "empty"
            assert status.reason is not None and status.reason.code == "list-empty"
            assert len(await collecting.asked(empty)) == 3  # still asked for, of the last good list
            sequence = await collecting.last_sequence()

            server.serve("/list.m3u", "<html>503</html>")
            broken = await collecting.job(sources=("feed",))
            (status,) = (await collecting.states(broken, Stage.SYNC)).values()
            assert status.state is ItemState.FAILED and status.reason and status.reason.code == "playlist-is-html"
            server.serve("/list.m3u", "#EXTM3U\n")
            await collecting.job(sources=("feed",))
            assert await collecting.last_sequence() == sequence

            server.serve("/list.m3u", "#EXTM3U\n0.mp3\n1.mp3\n2.mp3\n")
            await collecting.job(sources=("feed",))
            back = await page()
            assert back.header is not None and back.header.upstream == "ok" and len(back.entries) == 3


async def test_a_folder_that_is_not_mounted_holds_its_lane_and_goes_on_by_itself(
    collecting: Collecting, tmp_path: Path
) -> None:
    root = tmp_path / "music"
    async with collecting.running(local_media_import_path=root) as runtime:
        job = await make_job(collecting.bus, job_id=1)
        await Planner(collecting.bus).put([JobPlan(job_id=1, stage=Stage.COLLECT)], cause="job 1", job_id=1)

        async def held() -> bool:
            return any("Mount it" in hold.reason.message for hold in runtime.heartbeat().holds)

        await eventually(held, "the lane is on hold")
        wav(root / "a.wav", title="A", artist="B")

        async def asked() -> bool:
            return await collecting.asked(job) == ["a.wav"]

        await eventually(asked, "the folder is collected once it is there")


async def test_a_folder_that_loses_its_mount_keeps_its_playlists(collecting: Collecting, tmp_path: Path) -> None:
    root = tmp_path / "music"
    for name in "abc":
        wav(root / name / "x.wav", title=name, artist="B")
    async with collecting.running(local_media_import_path=root):
        await collecting.job()
        root.rename(tmp_path / "elsewhere")
        root.mkdir()
        await collecting.job()
        job = await collecting.job(JobType.DOWNLOAD_ONLY, stages=(Stage.DOWNLOAD,))
        assert await collecting.asked(job) == ["a/x.wav", "b/x.wav", "c/x.wav"]


async def test_two_feeds_that_name_one_song_differently_settle(collecting: Collecting, tmp_path: Path) -> None:
    for name, title in (("one", "Singer - Song"), ("two", "song (official)")):
        (tmp_path / f"{name}.m3u").write_text(f"#EXTM3U\n#EXTINF:1,{title}\nhttp://x.example/a.mp3\n")
    async with collecting.running(feeds=f"{tmp_path}/one.m3u,{tmp_path}/two.m3u"):
        await collecting.job(sources=("feed",))
        sequence = await collecting.last_sequence()
        for _ in range(2):
            await collecting.job(sources=("feed",))
        assert await collecting.last_sequence() == sequence
        assert len(await collecting.facts(SongListed)) == 1


async def test_what_is_not_ours_on_the_catalog_is_ignored(collecting: Collecting, tmp_path: Path) -> None:
    root = tmp_path / "music"
    wav(root / "a.wav", title="A", artist="B")
    for subject in (
        "song.listed.1",
        f"playlist.collected.local.{playlist_id('local', './')}.0",
        "file.stored.x.1.main",
    ):
        await collecting.bus.js.publish(subject, b"\xffnot ours")
    async with collecting.running(local_media_import_path=root, sources="local"):

        async def published() -> bool:
            job = await collecting.job()
            return await collecting.asked(job) == ["a.wav"]

        await eventually(published, "it is collected all the same")


async def test_a_collector_that_is_killed_in_the_middle_loses_nothing(collecting: Collecting, tmp_path: Path) -> None:
    root = tmp_path / "music"
    names = [f"{directory:02}/{number}.wav" for directory in range(30) for number in range(10)]
    for name in names:
        wav(root / name, title=name, artist="B")
    environment = {
        **os.environ,
        **collecting.nats.account("collector"),
        "ROOT_DIR": str(tmp_path / "data"),
        "LOCAL_MEDIA_IMPORT_PATH": str(root),
        "SOURCES": "local",
        "LEASE_SECONDS": "2",
    }

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-m", "collector"], env=environment, stderr=subprocess.DEVNULL)

    process = start()
    try:
        job = await make_job(collecting.bus, job_id=1, ack_wait=2)
        await Planner(collecting.bus).put([JobPlan(job_id=1, stage=Stage.COLLECT)], cause="job 1", job_id=1)
        for least in (20, 120):

            async def some(least: int = least) -> bool:
                return await collecting.last_sequence() > least

            await eventually(some, f"{least} facts")
            process.send_signal(signal.SIGKILL)
            process.wait()
            process = start()
        await collecting.idle(job)
        process.terminate()
        assert process.wait(10) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    assert await collecting.asked(job) == sorted(names)
    assert sorted(song.remote_id for song in await collecting.facts(SongListed)) == sorted(names)
    pages = await collecting.facts(PlaylistCollected)
    assert len(pages) == 30 and all(len(page.entries) == 10 for page in pages)
