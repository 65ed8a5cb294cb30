"""Bad input over HTTP: each gives a reason that a person understands, and leaves nothing behind."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from common.errors import MusicCloudError, PermanentError, TransientError
from downloader.errors import Rejected
from sources.port import HttpCandidate
from tests.integration.downloader.harness import Pipeline, make_song
from tests.support.audio import make_audio
from tests.support.http_server import Behavior, ScriptedServer

HTML = b"<!DOCTYPE html>\n<html><head><title>Please log in</title></head><body>" + b"x" * 5000 + b"</body></html>"


def candidate(url: str, *, allow_private: bool = True) -> HttpCandidate:
    return HttpCandidate(source="feed", url=url, allow_private=allow_private)


def fail(pipeline: Pipeline, url: str, *, allow_private: bool = True, **fields: object) -> MusicCloudError:
    """Store what is at ``url``; return the error that it must give."""
    with pytest.raises(MusicCloudError) as caught:
        pipeline.run(pipeline.request(make_song(**fields), candidate(url, allow_private=allow_private)))  # type: ignore[arg-type]
    error = caught.value
    assert pipeline.files() == []
    assert str(pipeline.library) not in error.message
    assert error.message.endswith((".", ")")), "a sentence"
    return error


@pytest.fixture
def flac(tmp_path: Path) -> bytes:
    return make_audio(tmp_path / "made.flac", seconds=2.0, title="T", artist="A").read_bytes()


def test_a_good_file_is_stored(pipeline: Pipeline, server: ScriptedServer, flac: bytes) -> None:
    url = server.serve_file("/a.flac", flac)
    fact = pipeline.complete(pipeline.request(make_song(), candidate(url)))
    assert pipeline.files() == ["feed/Singer/Singer - Name.flac"] == [fact.locator]
    assert (pipeline.library / fact.locator).read_bytes() == flac
    assert fact.size == len(flac)
    assert fact.format.codec == "flac"
    assert fact.format.duration_seconds == 2.0
    assert fact.tags.title == "T"
    assert pipeline.leftovers() == []


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "content-empty"),
        (HTML, "content-html"),
        (b'{"error": "not found"}', "content-json"),
        (b"Sorry, this file is gone.\n", "content-text"),
        (b"#EXTM3U\nhttp://radio.example/live\n", "content-playlist"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "content-not-audio"),
        (bytes(range(256)) * 20, "content-unknown"),
        (b"fLaC" + bytes(2000), "content-broken"),
        (b"\xff\xfb\x90\x00" + b"\x55" * 3000, "content-broken"),
        (b"ID3\x04\x00\x00\x7f\x7f\x7f\x7f" + b"\x11" * 100, "content-broken"),
        (b"OggS\x00\x02" + bytes(22) + b"\x01\x1e\x01vorbis" + bytes(100), "content-truncated"),
        (b"\x00\x00\x00\x18ftypM4A " + bytes(40), "content-broken"),
    ],
)
def test_what_is_no_audio_is_refused(pipeline: Pipeline, server: ScriptedServer, body: bytes, code: str) -> None:
    error = fail(pipeline, server.serve_file("/song.mp3", body, content_type="audio/mpeg"))
    assert error.code == code
    assert isinstance(error, PermanentError)
    assert pipeline.leftovers() == []


@pytest.mark.parametrize("ext", ["flac", "mp3", "ogg", "opus", "wav"])
def test_a_file_that_is_cut_off_is_refused(
    pipeline: Pipeline, server: ScriptedServer, tmp_path: Path, ext: str
) -> None:
    whole = make_audio(tmp_path / f"whole.{ext}", ext=ext, seconds=4.0).read_bytes()
    error = fail(pipeline, server.serve_file("/song", whole[: len(whole) * 3 // 5], content_type="audio/mpeg"))
    assert error.code == "content-truncated", error.message


@pytest.mark.parametrize("ext", ["flac", "mp3", "ogg", "opus", "wav"])
def test_the_extension_comes_from_the_content(
    pipeline: Pipeline, server: ScriptedServer, tmp_path: Path, ext: str
) -> None:
    whole = make_audio(tmp_path / f"whole.{ext}", ext=ext, seconds=1.0, title="T", artist="A", album="L").read_bytes()
    url = server.serve_file("/lying.txt", whole, content_type="text/html")
    fact = pipeline.complete(pipeline.request(make_song(), candidate(url)))
    assert fact.locator.endswith(f".{ext}")
    assert fact.format.ext == ext
    assert (fact.tags.title, fact.tags.artists, fact.tags.album) == ("T", ("A",), "L")
    assert fact.format.duration_seconds == pytest.approx(1.0, abs=0.1)


def test_damaged_sound_is_found_by_its_checksum(pipeline: Pipeline, server: ScriptedServer, flac: bytes) -> None:
    damaged = bytearray(flac)
    for place in range(len(flac) // 2, len(flac) // 2 + 40):
        damaged[place] ^= 0xFF
    assert fail(pipeline, server.serve_file("/a.flac", bytes(damaged))).code in ("content-broken", "content-truncated")


def test_refused_content_is_remembered_by_all_copies_and_force_overrides(
    server: ScriptedServer, tmp_path: Path, flac: bytes, database_url: str
) -> None:
    pipeline, other = (Pipeline(tmp_path, database_url=database_url) for _ in range(2))
    cut = flac[: len(flac) // 2]
    first = fail(pipeline, server.serve_file("/a.flac", cut))
    again = fail(other, server.serve_file("/other.flac", cut), remote_id="two")
    assert again.code == first.code
    assert "before" in again.message
    forced = fail(other, server.url("/a.flac"), remote_id="three", force=True)
    assert "before" not in forced.message
    pipeline.close()
    other.close()


def test_a_song_of_another_length_is_refused_unless_forced(
    pipeline: Pipeline, server: ScriptedServer, flac: bytes
) -> None:
    url = server.serve_file("/a.flac", flac)
    error = fail(pipeline, url, duration_seconds=240.0)
    assert isinstance(error, Rejected)
    assert error.code == "duration-mismatch"
    song = make_song(duration_seconds=240.0, force=True)
    assert pipeline.complete(pipeline.request(song, candidate(url))).locator in pipeline.files()
    near = make_song("near", duration_seconds=4.0)
    assert pipeline.complete(pipeline.request(near, candidate(url))).locator in pipeline.files()


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (404, PermanentError, "source-file-missing"),
        (410, PermanentError, "source-file-missing"),
        (401, PermanentError, "access-refused"),
        (403, PermanentError, "access-refused"),
        (500, TransientError, "server-error"),
        (503, TransientError, "server-busy"),
        (429, TransientError, "server-busy"),
    ],
)
def test_what_a_status_means(
    pipeline: Pipeline, server: ScriptedServer, status: int, kind: type[Exception], code: str
) -> None:
    url = server.serve("/a", Behavior(status=status, body=b"no", headers={"Retry-After": "7"}))
    error = fail(pipeline, url)
    assert isinstance(error, kind)
    assert error.code == code
    if isinstance(error, TransientError) and status in (429, 503):
        assert error.retry_after == 7.0


def test_a_length_that_lies_is_tried_again_and_then_has_its_reason(
    pipeline: Pipeline, server: ScriptedServer, flac: bytes
) -> None:
    url = server.serve("/a", Behavior(body=flac, announce=len(flac) + 5000))
    error = fail(pipeline, url)
    assert isinstance(error, TransientError)
    assert error.code == "connection-lost"
    assert str(len(flac) + 5000) in error.message
    too_short = server.serve("/b", Behavior(body=flac, announce=len(flac) // 2))
    assert fail(pipeline, too_short, remote_id="b").code == "content-truncated"


def test_a_server_that_stalls_is_given_up(pipeline: Pipeline, server: ScriptedServer, flac: bytes) -> None:
    error = fail(pipeline, server.serve("/a", Behavior(body=flac, stall_after=2000)))
    assert isinstance(error, TransientError)
    assert error.code == "server-stalled"


def test_a_slow_server_that_makes_progress_is_not_given_up(
    pipeline: Pipeline, server: ScriptedServer, tmp_path: Path
) -> None:
    body = make_audio(tmp_path / "slow.wav", ext="wav", seconds=2.0).read_bytes()
    url = server.serve("/a", Behavior(body=body, pause=0.15, chunk=len(body) // 12 + 1))
    assert pipeline.complete(pipeline.request(make_song(), candidate(url))).size == len(body)
    assert len([done for done, _, _ in pipeline.seen if done]) >= 3


def test_nobody_listening_is_tried_again(pipeline: Pipeline, server: ScriptedServer) -> None:
    port = server.port
    server.stop()
    assert isinstance(fail(pipeline, f"http://127.0.0.1:{port}/a"), TransientError)


def test_private_addresses_are_refused_directly_and_by_redirect(
    pipeline: Pipeline, server: ScriptedServer, flac: bytes
) -> None:
    url = server.serve_file("/a.flac", flac)
    assert fail(pipeline, url, allow_private=False).code == "address-refused"
    other = ScriptedServer()
    try:
        hidden = other.serve_file("/secret", flac)
        error = fail(pipeline, server.redirect("/away", hidden), remote_id="two")
        assert error.code == "address-refused"
        assert other.requests == []
    finally:
        other.stop()


def test_redirects_are_followed_and_limited(pipeline: Pipeline, server: ScriptedServer, flac: bytes) -> None:
    server.serve_file("/real", flac)
    url = server.redirect("/moved", "/real", status=301)
    assert pipeline.complete(pipeline.request(make_song(), candidate(url))).size == len(flac)
    loop = server.redirect("/loop", "/loop")
    with pytest.raises(PermanentError) as caught:
        pipeline.run(pipeline.request(make_song("loop"), candidate(loop)))
    assert caught.value.code == "too-many-redirects"


def test_a_file_that_is_too_large_is_refused_also_when_its_length_is_not_announced(
    tmp_path: Path, server: ScriptedServer, flac: bytes
) -> None:
    small = Pipeline(tmp_path, max_size=4000)
    assert fail(small, server.serve_file("/a", flac)).code == "file-too-large"
    assert fail(small, server.serve("/b", Behavior(body=flac, announce=-1)), remote_id="b").code == "file-too-large"
    assert small.leftovers() == []
    small.close()


def test_a_body_without_length_is_stored(pipeline: Pipeline, server: ScriptedServer, flac: bytes) -> None:
    url = server.serve("/a", Behavior(body=flac, announce=-1))
    assert pipeline.complete(pipeline.request(make_song(), candidate(url))).size == len(flac)


def test_nothing_offered_has_its_reason(pipeline: Pipeline) -> None:
    with pytest.raises(PermanentError) as caught:
        pipeline.run(pipeline.request(make_song()))
    assert caught.value.code == "no-candidate"


@pytest.mark.parametrize(
    "name", ["../../../outside", "a\0b", "x" * 300, "周" * 150, "\u202egnp.flac", "..", "CON", ".spool", "  "]
)
def test_hostile_names_stay_inside_the_library(
    pipeline: Pipeline, server: ScriptedServer, tmp_path: Path, flac: bytes, name: str
) -> None:
    url = server.serve_file("/a", flac)
    fact = pipeline.complete(pipeline.request(make_song(name=name, singers=(name,)), candidate(url)))
    assert pipeline.files() == [fact.locator]
    assert {path.name for path in tmp_path.iterdir()} <= {"library", "state", "made.flac", "hypothesis"}
    for part in fact.locator.split("/"):
        assert len(part.encode()) <= 255
        assert not part.startswith(".")


def test_missing_tags_are_filled_from_the_listing(pipeline: Pipeline, server: ScriptedServer, tmp_path: Path) -> None:
    for ext in ("flac", "mp3", "ogg", "opus"):
        bare = make_audio(tmp_path / f"bare.{ext}", ext=ext).read_bytes()
        song = make_song(ext, name=f"Bare {ext}", singers=("A", "B"), album="L")
        fact = pipeline.complete(pipeline.request(song, candidate(server.serve_file(f"/{ext}", bare))))
        assert (fact.tags.title, fact.tags.artists, fact.tags.album) == (f"Bare {ext}", ("A", "B"), "L")
        stored = (pipeline.library / fact.locator).read_bytes()
        assert fact.size == len(stored)
        assert stored != bare
        assert fact.sha256 == hashlib.sha256(stored).hexdigest()
    assert pipeline.leftovers() == []
