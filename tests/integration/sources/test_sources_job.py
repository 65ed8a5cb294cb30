"""A whole job over another server: what it has comes into the library, and its password into nothing that is kept."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.audio import make_audio
from tests.support.nats import NatsServer
from tests.support.stack import Stack
from tests.support.supysonic import PASSWORD, USER, Supysonic, supysonic  # noqa: F401 - a fixture

SONGS = {"Weiße Nächte": "mp3", "夜曲": "flac", "Rain": "wav"}
HEX = PASSWORD.encode().hex()


@pytest.fixture
def stack(tmp_path: Path, nats_server: NatsServer, supysonic: Supysonic) -> Iterator[Stack]:  # noqa: F811
    for number, (title, ext) in enumerate(SONGS.items()):
        path = supysonic.music / "Ana" / f"{number}.{ext}"
        make_audio(path, ext=ext, title=title, artist="Ana", album="First", seconds=1, frequency=300 + number)
    supysonic.start()
    songs = supysonic.call("search3", ("query", ""))["searchResult3"]["song"]
    supysonic.call("createPlaylist", ("name", "Evening"), *(("songId", song["id"]) for song in songs))
    running = Stack(
        tmp_path,
        nats_server,
        SOURCES="subsonic,jamendo",
        LOG_LEVEL="debug",
        SUBSONIC_URL=supysonic.url,
        SUBSONIC_USER=USER,
        SUBSONIC_PASSWORD=PASSWORD,
        SUBSONIC_AUTH="password",  # the one whose addresses tell most
    )
    yield running
    running.stop()


def test_a_job_over_a_subsonic_server(stack: Stack, supysonic: Supysonic, tmp_path: Path) -> None:  # noqa: F811
    stack.start_all("console", "collector", "downloader")
    assert stack.wait_job(stack.job()) == "completed", stack.log_ends()
    files = {path.rpartition(" - ")[2].partition(".")[0]: stack.library / path for path in stack.files()}
    assert set(files) == set(SONGS)
    for number, (title, ext) in enumerate(SONGS.items()):
        original = next(supysonic.music.rglob(f"{number}.{ext}"))
        assert files[title].suffix == f".{ext}"
        assert hashlib.sha256(files[title].read_bytes()).digest() == hashlib.sha256(original.read_bytes()).digest()
    stack.stop()
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any("nats" in path.parts for path in kept) and any(path.suffix == ".log" for path in kept)
    for path in kept:
        content = path.read_bytes()
        assert PASSWORD.encode() not in content and HEX.encode() not in content, path
