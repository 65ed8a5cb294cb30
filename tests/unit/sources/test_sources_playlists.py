"""Playlist files of every format: what is read, and what is refused with which words."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import PermanentError
from sources.playlists.model import MAX_ENTRIES, MAX_LOCATION, ParsedPlaylist, Problems, clean_text
from sources.playlists.sniff import parse_playlist

XSPF = b"""<?xml version="1.0" encoding="UTF-8"?>
<playlist version="1" xmlns="http://xspf.org/ns/0/">
  <title>Evening</title><annotation>Quiet</annotation><image>https://x.example/c.jpg</image>
  <trackList>
    <track><location>a/b%20c.mp3</location><title>Song</title><creator>Singer</creator>
      <album>Album</album><duration>215000</duration></track>
    <track><title>no location</title></track>
  </trackList>
</playlist>"""


def test_m3u_with_extinf() -> None:
    parsed = parse_playlist(
        b"#EXTM3U\r\n#PLAYLIST:Mix\r\n#EXTINF:215,Singer - Song - Live\r\na.mp3\r\n"
        b'#EXTINF:-1 tvg-id="x,y" group="g",Just a title\r\nhttp://h/b.mp3\r\n\r\nc.mp3\r\n'
        b"#EXTART:Other\r\n#EXTALB:Disc\r\n#EXTINF:10,A - B\r\nd.mp3\r\n"
    )
    assert parsed.title == "Mix"
    assert [(e.location, e.singers, e.title, e.album, e.duration_seconds) for e in parsed.entries] == [
        ("a.mp3", ("Singer",), "Song - Live", None, 215.0),
        ("http://h/b.mp3", (), "Just a title", None, None),
        ("c.mp3", (), None, None, None),
        ("d.mp3", ("Other",), "A - B", "Disc", 10.0),
    ]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_m3u_in_the_encodings_that_are_met(encoding: str) -> None:
    parsed = parse_playlist("#EXTM3U\n#EXTINF:1,Björk - Jóga\njoga.mp3\n".encode(encoding))
    assert (parsed.entries[0].singers, parsed.entries[0].title) == (("Björk",), "Jóga")
    assert parsed.entries[0].location == "joga.mp3"


def test_xspf() -> None:
    parsed = parse_playlist(XSPF)
    (entry,) = parsed.entries
    assert (parsed.title, parsed.description, parsed.image) == ("Evening", "Quiet", "https://x.example/c.jpg")
    assert (entry.location, entry.title, entry.singers, entry.album, entry.duration_seconds) == (
        "a/b%20c.mp3",
        "Song",
        ("Singer",),
        "Album",
        215.0,
    )
    assert parsed.problems == ("Track 2 has no usable location, and was left out.",)


def test_jspf() -> None:
    document = {
        "playlist": {
            "title": "Evening",
            "track": [
                {"location": ["http://h/a.mp3"], "title": "Song", "creator": "Singer", "duration": 1500},
                {"location": "b.mp3", "duration": 10**400},
                {"location": []},
                "not a track",
            ],
        }
    }
    parsed = parse_playlist(json.dumps(document).encode(), name="x.jspf")
    assert [(e.location, e.title, e.duration_seconds) for e in parsed.entries] == [
        ("http://h/a.mp3", "Song", 1.5),
        ("b.mp3", None, None),
    ]
    assert len(parsed.problems) == 2


@pytest.mark.parametrize(
    ("content", "content_type", "code"),
    [
        (b"<!DOCTYPE html><html><body>Log in</body></html>", "audio/x-mpegurl", "playlist-is-html"),
        (b"\n\n  <HTML lang=en>", "", "playlist-is-html"),
        (b"<?xml version='1.0'?><!DOCTYPE x><html/>", "", "playlist-is-html"),
        (XSPF[:-30], "", "playlist-malformed"),
        (b"<rss><channel/></rss>", "application/xspf+xml", "playlist-malformed"),
        (b'<!DOCTYPE x [<!ENTITY a "b">]><playlist>&a;</playlist>', "", "playlist-malformed"),
        (b"<playlist>" + b"<a>" * 100_000, "", "playlist-malformed"),
        (b'{"playlist": 3}', "", "playlist-malformed"),
        (b"[" * 100_000, "", "playlist-malformed"),
        (b"{nope", "", "playlist-malformed"),
        (b"ID3\x04\0\0\0", "audio/mpeg", "playlist-malformed"),
        (b"\x00\x01\x02", "audio/x-mpegurl", "playlist-malformed"),
        (b"just some words\nof a letter", "text/plain", "playlist-unknown-format"),
        (b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nseg.ts", "", "playlist-is-stream"),
    ],
)
def test_what_is_not_a_playlist_says_what_it_is(content: bytes, content_type: str, code: str) -> None:
    with pytest.raises(PermanentError) as error:
        parse_playlist(content, content_type=content_type)
    assert error.value.code == code


def test_an_empty_list_is_a_list() -> None:
    assert parse_playlist(b"", content_type="audio/x-mpegurl").entries == ()
    assert parse_playlist(b"#EXTM3U\n", content_type="").entries == ()
    assert parse_playlist(b"<playlist><trackList/></playlist>").entries == ()


def test_a_list_beyond_all_measure_is_refused() -> None:
    with pytest.raises(PermanentError) as error:
        parse_playlist(b"#EXTM3U\n" + b"a\n" * (MAX_ENTRIES + 1))
    assert error.value.code == "playlist-too-long"


def test_problems_are_bounded() -> None:
    problems = Problems(shown=2)
    for number in range(1000):
        problems.add(f"{number}")
    assert problems.sentences() == ("0", "1", "… and 998 more.")


def test_text_for_people_is_cleaned() -> None:
    assert clean_text("a\0b\u202ec\n  d\ud800") == "abc d"
    assert clean_text(" \x07 ") is None
    assert clean_text(3) is None
    assert len(clean_text("x" * 10_000) or "") == 500


def check(content: bytes, name: str = "") -> None:
    """Whatever comes in, the parser answers or refuses; what it answers can be put into a message."""
    try:
        parsed = parse_playlist(content, name=name)
    except PermanentError as error:
        assert error.code.startswith("playlist-") and error.message
        return
    assert isinstance(parsed, ParsedPlaylist)
    for entry in parsed.entries:
        assert 0 < len(entry.location) <= MAX_LOCATION and "\0" not in entry.location
        json.dumps([entry.title, entry.singers, entry.album, entry.duration_seconds], allow_nan=False).encode()
        for text in (entry.title, entry.album, *entry.singers):
            assert text is None or (text.encode("utf-8") and "\n" not in text)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=400), st.sampled_from(["", "x.m3u", "x.xspf", "x.jspf"]))
def test_any_bytes(content: bytes, name: str) -> None:
    check(content, name)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.text(max_size=40).map(lambda text: f"#EXTINF:{text}"),
            st.text(max_size=40),
            st.sampled_from(['#EXTINF:1 a="b', "#EXTINF:nan,x", "#EXTINF:1e999,x - ", "http://[", "#EXTART:", "a\0b"]),
        )
    )
)
def test_any_m3u_lines(lines: list[str]) -> None:
    check(("#EXTM3U\n" + "\n".join(lines)).encode("utf-8", "surrogatepass"))


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from(["location", "title", "creator", "duration", "album"]), JSON)), JSON)
def test_any_jspf(tracks: list[object], title: object) -> None:
    check(json.dumps({"playlist": {"title": title, "track": tracks, "image": title}}).encode())


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["location", "title", "duration", "x"]), st.text(max_size=20))))
def test_any_xspf(parts: list[tuple[str, str]]) -> None:
    track = "".join(f"<{name}>{text}</{name}>" for name, text in parts)
    check(f"<playlist><trackList><track>{track}</track></trackList></playlist>".encode("utf-8", "surrogatepass"))
