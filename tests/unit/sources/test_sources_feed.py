"""Playlist feeds: files and URLs, relative locations, credentials, and servers that misbehave."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.contracts.work import SongDownload
from common.errors import ConfigurationError, MusicCloudError, PermanentError, TransientError
from common.settings import Settings
from sources.feed import FeedSource, create
from sources.port import FileCandidate, HttpCandidate, Playlist, Song
from sources.urls import FeedUrl, join, normalize
from tests.support.feed_server import FeedServer, feed_server
from tests.support.tagged import wav


class Nothing:
    def unchanged(self, fingerprints: Mapping[str, str]) -> Mapping[str, Song]:
        return {}


def silent(done: int, total: int | None = None) -> None:
    return


@pytest.fixture
def server() -> Iterator[FeedServer]:
    with feed_server() as running:
        yield running


def feed(*feeds: str, **settings: object) -> FeedSource:
    return create(Settings(feeds=",".join(feeds), stall_seconds=1.2, **settings))  # type: ignore[arg-type]


def read(source: FeedSource, number: int = 0) -> Playlist:
    refs = list(source.playlists("feeds", progress=silent))
    return source.read(refs[number].remote_id, known=Nothing(), progress=silent)


def request(remote_id: str) -> SongDownload:
    return SongDownload(job_id=1, source="feed", song_id=1, remote_id=remote_id, name="x")


def test_a_feed_with_relative_and_absolute_locations(server: FeedServer) -> None:
    url = server.serve(
        "/lists/my%20mix.m3u",
        "#EXTM3U\n#EXTINF:215,Singer - Song\na b/ü.mp3?x=1#frag\n/root.ogg\nHTTP://Other.Example:80/c.mp3\n"
        "ftp://x/y.mp3\nfile:///etc/passwd\nhttp://[bad\nC:\\music\\x.mp3\n",
    )
    source = feed(url)
    playlist = read(source)
    assert [song.remote_id for song in playlist.songs] == [
        f"{server.url}/lists/a%20b/%C3%BC.mp3?x=1",
        f"{server.url}/root.ogg",
        "http://other.example/c.mp3",
    ]
    first, second, _ = playlist.songs
    assert (first.name, first.singers, first.duration_seconds, first.ext) == ("Song", ("Singer",), 215.0, "mp3")
    assert (second.name, second.metadata_status, second.ext) == ("root", "pending", "ogg")
    assert playlist.ref.name == "my mix" and playlist.ref.url == url
    assert len(playlist.problems) == 4


def test_relative_locations_follow_a_redirect(server: FeedServer) -> None:
    server.serve("/deep/list.m3u", "#EXTM3U\nx.mp3\n")
    (song,) = read(feed(server.redirect("/short", "/deep/list.m3u"))).songs
    assert song.remote_id == f"{server.url}/deep/x.mp3"


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        ('{"playlist":{"title":"T","track":[{"location":["a.mp3"],"title":"N","creator":"S"}]}}', "text/plain"),
        (
            "<playlist><title>T</title><trackList><track><location>a.mp3</location><title>N</title>"
            "<creator>S</creator></track></trackList></playlist>",
            "application/octet-stream",
        ),
    ],
)
def test_formats_are_recognised_by_their_content(server: FeedServer, body: str, content_type: str) -> None:
    playlist = read(feed(server.serve("/list", body, content_type)))
    (song,) = playlist.songs
    assert (playlist.ref.name, song.name, song.singers) == ("T", "N", ("S",))


def test_bad_feeds_say_what_is_wrong(server: FeedServer) -> None:
    cases = {
        server.serve("/html", "<!DOCTYPE html><html>Log in</html>"): (PermanentError, "playlist-is-html"),
        server.serve("/words", "hello there", "text/plain"): (PermanentError, "playlist-unknown-format"),
        server.serve("/big", b"#EXTM3U\n" + b"#" * 2_000_000): (PermanentError, "answer-too-large"),
        server.serve("/gzip", b"x", "audio/x-mpegurl", **{"Content-Encoding": "gzip"}): (
            PermanentError,
            "answer-encoded",
        ),
        f"{server.url}/missing": (PermanentError, "source-file-missing"),
        server.stall("/stall", b"#EXTM3U\n"): (TransientError, "server-stalled"),
        server.redirect("/private", "http://192.168.77.1/x.m3u"): (PermanentError, "address-refused"),
    }
    for url, (kind, code) in cases.items():
        with pytest.raises(MusicCloudError) as error:
            read(feed(url, feed_max_mib=1))
        assert (type(error.value), error.value.code) == (kind, code), url


def test_a_public_name_never_leads_to_the_local_network_unless_allowed(
    server: FeedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    import socket

    real = socket.getaddrinfo
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda host, port, *args, **kwargs: real("127.0.0.1", port, *args, **kwargs)
    )
    server.serve("/x.m3u", "#EXTM3U\na.mp3\n")
    url = f"http://music.example:{server.port}/x.m3u"
    with pytest.raises(PermanentError) as error:
        read(feed(url))
    assert error.value.code == "address-refused" and "ALLOW_PRIVATE_HOSTS" in error.value.message
    assert len(read(feed(url, allow_private_hosts="music.example")).songs) == 1


def test_user_and_password_are_sent_to_their_own_origin_and_shown_nowhere(server: FeedServer) -> None:
    server.serve("/list.m3u", "#EXTM3U\na.mp3\nhttp://elsewhere.example/b.mp3\nhttp://u:p@third.example/c.mp3\n")
    source = feed(f"http://me%40x:s3cr%3At@127.0.0.1:{server.port}/list.m3u#part")
    playlist = read(source)
    expected = "Basic " + base64.b64encode(b"me@x:s3cr:t").decode()
    assert server.seen[0][1]["Authorization"] == expected
    assert playlist.ref.remote_id == f"{server.url}/list.m3u"
    shown = repr(
        [
            playlist,
            list(source.playlists("feeds", progress=silent)),
            source.resolve(request(playlist.songs[0].remote_id)),
        ]
    )
    assert "s3cr" not in shown and expected not in shown and "u:p" not in shown
    own, elsewhere, third = (source.resolve(request(song.remote_id))[0] for song in playlist.songs)
    assert isinstance(own, HttpCandidate) and own.headers == {"Authorization": expected} and own.allow_private
    assert isinstance(elsewhere, HttpCandidate) and elsewhere.headers == {} and not elsewhere.allow_private
    assert isinstance(third, HttpCandidate) and third.url == "http://third.example/c.mp3" and third.headers == {}
    assert any("user name or password" in problem for problem in playlist.problems)


def test_a_file_as_feed(tmp_path: Path) -> None:
    wav(tmp_path / "lists" / "own.wav")
    wav(tmp_path / "secret.wav")
    file = tmp_path / "lists" / "my list.m3u8"
    file.write_text("#EXTM3U\nhttp://x.example/a.mp3\nown.wav\n../secret.wav\n/etc/passwd.mp3\ngone.mp3\n")
    source = feed(str(file))
    playlist = read(source)
    ids = [song.remote_id for song in playlist.songs]
    assert ids[0] == "http://x.example/a.mp3"
    assert ids[1].startswith("file:") and ids[1].endswith("/own.wav") and ids[2].endswith("/gone.mp3")
    assert len(playlist.problems) == 2 and playlist.ref.name == "my list"
    assert str(tmp_path) not in repr(playlist)
    (candidate,) = source.resolve(request(ids[1]))
    assert isinstance(candidate, FileCandidate) and candidate.path == (tmp_path / "lists" / "own.wav").resolve()
    for bad in (ids[1].replace("own.wav", "../secret.wav"), ids[2], "file:0000000000/own.wav"):
        with pytest.raises(PermanentError):
            source.resolve(request(bad))


def test_the_feeds_setting_is_checked_at_start_without_showing_it() -> None:
    for bad in ("ftp://user:hidden@x/y.m3u", "http://", "https://:80/"):
        with pytest.raises(ConfigurationError) as error:
            feed(bad)
        assert "FEEDS" in error.value.message and "hidden" not in error.value.message


def test_no_feeds_is_not_configured() -> None:
    source = feed()
    assert not source.health().configured and list(source.pools()) == []


def test_a_missing_file_is_not_available(tmp_path: Path) -> None:
    source = feed(str(tmp_path / "gone.m3u"))
    assert source.health().configured and not source.health().available
    assert str(tmp_path) not in source.health().message


@given(st.text(max_size=60))
def test_any_location_joins_or_is_refused(location: str) -> None:
    try:
        url = join("http://base.example/dir/list.m3u", location)
    except PermanentError:
        return
    assert normalize(url) == url
    assert url.isascii() and "#" not in url and "@" not in url.partition("://")[2].partition("/")[0]
    assert FeedUrl.parse(url).credential is None
