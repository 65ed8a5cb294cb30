"""A download goes on where it broke off: after an error, an interruption, and kill -9."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from common.errors import PermanentError, TransientError
from downloader.errors import SongBusy, Stopped
from sources.port import HttpCandidate
from tests.integration.downloader.harness import Pipeline, make_song
from tests.support.audio import make_audio
from tests.support.http_server import Behavior, ScriptedServer

PROCESS = """
import sys
from pathlib import Path
from sources.port import HttpCandidate
from tests.integration.downloader.harness import Pipeline, make_song
pipeline = Pipeline(Path(sys.argv[1]), stall_timeout=30.0)
request = pipeline.request(make_song(), HttpCandidate(source="feed", url=sys.argv[2], allow_private=True))
pipeline.run(request)
"""


@pytest.fixture
def wav(tmp_path: Path) -> bytes:
    """3.5 MB, so that it is worth going on with."""
    return make_audio(tmp_path / "made.wav", ext="wav", seconds=40.0).read_bytes()


def candidate(url: str) -> HttpCandidate:
    return HttpCandidate(source="feed", url=url, allow_private=True)


def test_a_broken_download_goes_on_in_the_next_try(pipeline: Pipeline, server: ScriptedServer, wav: bytes) -> None:
    broken = Behavior(body=wav, etag='"v1"', send=2_000_000)
    url = server.serve("/a", broken, Behavior(body=wav, etag='"v1"'))
    with pytest.raises(TransientError):
        pipeline.run(pipeline.request(make_song(), candidate(url)))
    assert pipeline.spool.part(make_song().song_id).stat().st_size > 1_000_000
    fact = pipeline.complete(pipeline.request(make_song(), candidate(url)))
    assert (pipeline.library / fact.locator).read_bytes() == wav
    second = server.requests_to("/a")[1].headers
    assert second["range"].startswith("bytes=")
    assert second["if-range"] == '"v1"'
    assert pipeline.leftovers() == []


def test_a_date_serves_where_there_is_no_strong_etag(pipeline: Pipeline, server: ScriptedServer, wav: bytes) -> None:
    date = "Sat, 21 Nov 2026 00:00:00 GMT"
    url = server.serve(
        "/a",
        Behavior(body=wav, etag='W/"weak"', last_modified=date, send=2_000_000),
        Behavior(body=wav, etag='W/"weak"', last_modified=date),
    )
    with pytest.raises(TransientError):
        pipeline.run(pipeline.request(make_song(), candidate(url)))
    pipeline.complete(pipeline.request(make_song(), candidate(url)))
    assert server.requests_to("/a")[1].headers["if-range"] == date


def test_another_version_is_fetched_from_its_start(
    pipeline: Pipeline, server: ScriptedServer, wav: bytes, tmp_path: Path
) -> None:
    other = make_audio(tmp_path / "other.wav", ext="wav", seconds=41.0, frequency=220).read_bytes()
    url = server.serve("/a", Behavior(body=wav, etag='"v1"', send=2_000_000), Behavior(body=other, etag='"v2"'))
    with pytest.raises(TransientError):
        pipeline.run(pipeline.request(make_song(), candidate(url)))
    fact = pipeline.complete(pipeline.request(make_song(), candidate(url)))
    assert (pipeline.library / fact.locator).read_bytes() == other


def test_a_part_that_does_not_fit_is_not_believed(pipeline: Pipeline, server: ScriptedServer, wav: bytes) -> None:
    wrong = Behavior(
        status=206, body=wav[5:], etag='"v1"', headers={"Content-Range": f"bytes 5-{len(wav) - 1}/{len(wav)}"}
    )
    url = server.serve("/a", Behavior(body=wav, etag='"v1"', send=2_000_000), wrong, Behavior(body=wav, etag='"v1"'))
    with pytest.raises(TransientError):
        pipeline.run(pipeline.request(make_song(), candidate(url)))
    fact = pipeline.complete(pipeline.request(make_song(), candidate(url)))
    assert (pipeline.library / fact.locator).read_bytes() == wav


def test_without_a_validator_nothing_is_continued(pipeline: Pipeline, server: ScriptedServer, wav: bytes) -> None:
    url = server.serve("/a", Behavior(body=wav, send=2_000_000), Behavior(body=wav))
    with pytest.raises(TransientError):
        pipeline.run(pipeline.request(make_song(), candidate(url)))
    assert pipeline.leftovers() == []
    pipeline.complete(pipeline.request(make_song(), candidate(url)))
    assert "range" not in server.requests_to("/a")[1].headers


def test_a_server_without_ranges_sends_it_all_again(pipeline: Pipeline, server: ScriptedServer, wav: bytes) -> None:
    url = server.serve(
        "/a",
        Behavior(body=wav, etag='"v1"', ranges=False, send=2_000_000),
        Behavior(body=wav, etag='"v1"', ranges=False),
    )
    with pytest.raises(TransientError):
        pipeline.run(pipeline.request(make_song(), candidate(url)))
    fact = pipeline.complete(pipeline.request(make_song(), candidate(url)))
    assert (pipeline.library / fact.locator).read_bytes() == wav


def test_a_file_that_is_gone_meanwhile_leaves_nothing(pipeline: Pipeline, server: ScriptedServer, wav: bytes) -> None:
    url = server.serve("/a", Behavior(body=wav, etag='"v1"', send=2_000_000), Behavior(status=404))
    with pytest.raises(TransientError):
        pipeline.run(pipeline.request(make_song(), candidate(url)))
    with pytest.raises(PermanentError):
        pipeline.run(pipeline.request(make_song(), candidate(url)))
    assert pipeline.leftovers() == []


def test_stopping_keeps_the_part_and_canceling_removes_it(
    pipeline: Pipeline, server: ScriptedServer, wav: bytes
) -> None:
    url = server.serve("/a", Behavior(body=wav, etag='"v1"', stall_after=2_000_000))
    song = make_song()
    pipeline.watch = pipeline.watch.__class__(
        progress=lambda done, total, note: pipeline.canceled.set() if done > 1_000_000 else None,
        canceled=pipeline.canceled.is_set,
    )
    with pytest.raises(Stopped):
        pipeline.run(pipeline.request(song, candidate(url)))
    assert pipeline.spool.part(song.song_id).exists()
    pipeline.store.abandon(song.song_id)
    assert pipeline.leftovers() == []


def start_process(root: Path, url: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", PROCESS, str(root), url], cwd=Path(__file__).parents[3])


def wait_until(condition: object, *, timeout: float = 20.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "it did not come to that in time"
        time.sleep(0.02)


def test_kill_in_the_middle_of_a_file(pipeline: Pipeline, server: ScriptedServer, wav: bytes, tmp_path: Path) -> None:
    url = server.serve("/a", Behavior(body=wav, etag='"v1"', stall_after=2_000_000), Behavior(body=wav, etag='"v1"'))
    song = make_song()
    process = start_process(tmp_path, url)
    part = pipeline.spool.part(song.song_id)
    wait_until(lambda: part.exists() and part.stat().st_size > 1_100_000)
    held = pipeline.spool._locks.acquire(song.song_id, patience=0.0, canceled=lambda: False)
    assert held is None, "another copy has it in hand"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    fact = pipeline.complete(pipeline.request(song, candidate(url)))
    assert (pipeline.library / fact.locator).read_bytes() == wav
    assert int(server.requests_to("/a")[1].headers["range"].removeprefix("bytes=").rstrip("-")) > 1_000_000
    assert pipeline.files() == [fact.locator]


def test_a_part_from_before_a_power_cut_is_not_believed(pipeline: Pipeline, server: ScriptedServer, wav: bytes) -> None:
    url = server.serve("/a", Behavior(body=wav, etag='"v1"', send=2_000_000), Behavior(body=wav, etag='"v1"'))
    with pytest.raises(TransientError):
        pipeline.run(pipeline.request(make_song(), candidate(url)))
    record = pipeline.spool.root / f"{make_song().song_id}.json"
    record.write_text(record.read_text().replace(pipeline.spool._boot, "another-boot"))
    pipeline.complete(pipeline.request(make_song(), candidate(url)))
    assert "range" not in server.requests_to("/a")[1].headers


def test_a_torn_record_is_no_record(pipeline: Pipeline, server: ScriptedServer, wav: bytes) -> None:
    url = server.serve_file("/a", wav)
    (pipeline.spool.root / f"{make_song().song_id}.json").write_bytes(b'{"state": "plac')
    pipeline.complete(pipeline.request(make_song(), candidate(url)))
    assert pipeline.leftovers() == []


def test_a_song_that_another_copy_has_in_hand_waits(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("downloader.adapters.spool.LOCK_PATIENCE", 0.1)
    lock = pipeline.spool.lock(7, canceled=lambda: False)
    with pytest.raises(SongBusy):
        pipeline.spool.lock(7, canceled=lambda: False)
    lock.release()
    pipeline.spool.lock(7, canceled=lambda: False).release()


def test_old_leftovers_are_cleaned_and_new_ones_kept(pipeline: Pipeline) -> None:
    for song in (1, 2):
        pipeline.spool.part(song).write_bytes(b"x")
    os.utime(pipeline.spool.part(1), (0, 0))
    assert pipeline.spool.clean() == 1
    assert pipeline.leftovers() == ["2.part"]
