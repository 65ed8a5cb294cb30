"""The source ``subsonic`` against a real server: supysonic, as Debian packages it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.contracts.work import SongDownload
from common.errors import MusicCloudError, PermanentError
from common.settings import Settings
from sources.addresses import AddressPolicy
from sources.http import GuardedHttp
from sources.port import HttpCandidate, SearchQuery
from sources.subsonic import SubsonicSource, create
from tests.support.audio import make_audio
from tests.support.source_apis import read, silent
from tests.support.supysonic import PASSWORD, USER, Supysonic
from tests.support.supysonic import supysonic as supysonic_server  # noqa: F401 - a fixture

SONGS = {"Weiße Nächte": "mp3", "夜曲": "flac", "Rain": "ogg"}


@pytest.fixture(scope="module")
def server(supysonic_server: Supysonic) -> Iterator[Supysonic]:  # noqa: F811
    for number, (title, ext) in enumerate(SONGS.items()):
        path = supysonic_server.music / "Ana" / "First" / f"{number}.{ext}"
        make_audio(path, ext=ext, title=title, artist="Ana", album="First", seconds=2, frequency=300 + number)
    supysonic_server.start()
    songs = {
        song["title"]: song["id"] for song in supysonic_server.call("search3", ("query", ""))["searchResult3"]["song"]
    }
    entries = [("songId", songs[title]) for title in ("Rain", "夜曲", "Weiße Nächte", "Rain")]
    supysonic_server.call("createPlaylist", ("name", "Evening"), *entries)
    supysonic_server.call("createPlaylist", ("name", "Morning"), *entries[:1])
    yield supysonic_server


def source_of(server: Supysonic, **changes: object) -> SubsonicSource:
    settings = {"subsonic_user": USER, "subsonic_password": PASSWORD, "subsonic_auth": "basic", **changes}
    return create(Settings(subsonic_url=server.url, **settings))  # type: ignore[arg-type]


def file_of(server: Supysonic, title: str) -> Path:
    return next(server.music.rglob(f"{list(SONGS).index(title)}.*"))


@pytest.mark.parametrize("auth", ["basic", "password"])
def test_playlists_come_with_their_songs_in_order(server: Supysonic, auth: str) -> None:
    source = source_of(server, subsonic_auth=auth)
    refs = {ref.name: ref for pool in source.pools() for ref in source.playlists(pool.external_id, progress=silent)}
    assert set(refs) == {"Evening", "Morning"}
    playlist = read(source, refs["Evening"].remote_id)
    assert [song.name for song in playlist.songs] == ["Rain", "夜曲", "Weiße Nächte", "Rain"]
    song = playlist.songs[1]
    assert (song.singers, song.album, song.ext, song.metadata_status) == (("Ana",), "First", "flac", "complete")
    assert song.size == file_of(server, "夜曲").stat().st_size and song.duration_seconds == pytest.approx(2, abs=1)
    assert playlist.songs[0].remote_id == playlist.songs[3].remote_id and playlist.problems == ()
    only = source_of(server, subsonic_playlists="Morning, nothing")
    assert [ref.name for ref in only.playlists("playlists", progress=silent)] == ["Morning"]


@pytest.mark.parametrize("auth", ["basic", "password"])
def test_a_song_is_found_by_name_and_singer_and_its_bytes_are_those_of_the_file(server: Supysonic, auth: str) -> None:
    source = source_of(server, subsonic_auth=auth)
    for title in SONGS:
        (found,) = source.search(SearchQuery(name=title, singers=("Ana",)), limit=5)
        assert found.name == title and source.refresh(found.remote_id) == found
        request = SongDownload(job_id=1, source="subsonic", song_id=1, remote_id=found.remote_id, name=title)
        wanted = hashlib.sha256(file_of(server, title).read_bytes()).hexdigest()
        for candidate in source.resolve(request):
            assert isinstance(candidate, HttpCandidate) and candidate.allow_private
            assert PASSWORD not in repr(candidate) and "Basic" not in repr(candidate) and USER not in repr(candidate)
            with (
                GuardedHttp(policy=AddressPolicy()) as http,
                http.open(candidate.url, headers=candidate.headers, allow_private=True) as response,
            ):
                assert hashlib.sha256(b"".join(response.stream())).hexdigest() == wanted
    assert source.search(SearchQuery(name="no such song"), limit=5) == ()


def test_a_server_that_takes_no_tokens_says_what_to_set(server: Supysonic) -> None:
    source = source_of(server, subsonic_auth="token")
    with pytest.raises(PermanentError) as error:
        list(source.playlists("playlists", progress=silent))
    assert error.value.code == "access-refused" and "SUBSONIC_AUTH" in error.value.message
    assert "SUBSONIC_AUTH" in source.health().message


@pytest.mark.parametrize("auth", ["basic", "password"])
def test_a_wrong_password_names_the_settings_and_never_itself(server: Supysonic, auth: str) -> None:
    source = source_of(server, subsonic_password="wrong-word", subsonic_auth=auth)
    with pytest.raises(PermanentError) as error:
        source.search(SearchQuery(name="Rain"), limit=1)
    assert error.value.code == "access-refused" and "SUBSONIC_PASSWORD" in error.value.message
    assert "wrong-word" not in error.value.message and not source.health().available


def test_what_is_gone_is_gone(server: Supysonic) -> None:
    source = source_of(server)
    nowhere = "00000000-0000-0000-0000-000000000000"
    assert source.refresh(nowhere) is None
    for remote_id in (nowhere, "not even an id"):
        with pytest.raises(MusicCloudError):
            read(source, remote_id)
    assert source.health().available
