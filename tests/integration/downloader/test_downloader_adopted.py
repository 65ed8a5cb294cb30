"""A file that came from an older catalog: it is found where it lies, and a better one keeps its ids."""

from __future__ import annotations

from pathlib import Path

from common.contracts.facts import AudioFormat, FileStored
from common.contracts.names import UNKNOWN_SHA256
from downloader.service.store import Already
from sources.port import FileCandidate
from tests.integration.downloader.harness import Pipeline, make_song
from tests.support.audio import make_audio


def test_an_adopted_file_is_not_fetched_and_an_upgrade_keeps_its_ids(pipeline: Pipeline, tmp_path: Path) -> None:
    path = make_audio(tmp_path / "music" / "a.flac")
    song = make_song("a.flac", source="local", fingerprint="f1")
    lies = make_audio(pipeline.library / "old place" / "晴天.mp3", ext="mp3")
    adopted = FileStored(
        backend="library",
        song_id=song.song_id,
        asset_id=41,
        location_id=42,
        locator="old place/晴天.mp3",
        sha256=UNKNOWN_SHA256,
        size=lies.stat().st_size,
        format=AudioFormat(ext="mp3", mime="audio/mpeg"),
    )
    candidate = FileCandidate(source="local", path=path, locator=path.name)

    result = pipeline.run(pipeline.request(song, candidate, known=adopted))
    assert isinstance(result, Already)
    assert result.fact == adopted

    forced = song.model_copy(update={"force": True})
    better = pipeline.complete(pipeline.request(forced, candidate, known=adopted, cause="try-2"))
    assert (better.asset_id, better.location_id) == (41, 42)
    assert better.sha256 != UNKNOWN_SHA256
    assert not lies.exists()
    assert len(pipeline.trash()) == 1
