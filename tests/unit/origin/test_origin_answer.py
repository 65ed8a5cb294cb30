"""Which part of a file answers a request, and with which headers."""

from __future__ import annotations

from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from origin.ports import FileFacts
from origin.service.answer import Answer, answer, byte_range, disposition, etag

FACTS = FileFacts(size=1000, modified_ns=1_700_000_000_123_456_789, number=7)
MODIFIED = b"Tue, 14 Nov 2023 22:13:20 GMT"


def ask(method: str = "GET", facts: FileFacts = FACTS, **headers: bytes) -> Answer:
    asked = {name.replace("_", "-").encode(): value for name, value in headers.items()}
    return answer(method, asked, facts, "qq/a/song.flac")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("bytes=0-0", (0, 1)),
        ("bytes=0-", (0, 1000)),
        ("bytes=10-19", (10, 10)),
        ("BYTES = 10 - 19 ", (10, 10)),
        ("bytes=990-2000", (990, 10)),
        ("bytes=-10", (990, 10)),
        ("bytes=-5000", (0, 1000)),
        ("bytes=1000-", (0, 0)),
        ("bytes=1000-1001", (0, 0)),
        ("bytes=-0", (1000, 0)),
        ("bytes=20-10", None),
        ("bytes=-", None),
        ("bytes=", None),
        ("bytes=a-b", None),
        ("bytes=0-1,5-6", None),
        ("items=0-1", None),
        ("bytes=0x1-2", None),
        ("bytes=٣-٤", None),
        ("bytes=" + "9" * 5000 + "-", None),
        ("", None),
    ],
)
def test_one_range_is_understood_and_all_else_is_the_whole_file(text: str, expected: tuple[int, int] | None) -> None:
    assert byte_range(text, 1000) == expected


@given(st.text(max_size=40), st.integers(0, 10_000))
def test_no_header_leads_outside_the_file(text: str, size: int) -> None:
    for candidate in (text, f"bytes={text}"):
        found = byte_range(candidate, size)
        assert found is None or (found[0] >= 0 and found[1] >= 0 and found[0] + found[1] <= size)


def test_the_whole_file() -> None:
    reply = ask()

    assert (reply.status, reply.start, reply.length) == (200, 0, 1000)
    headers = dict(reply.headers)
    assert headers[b"content-length"] == b"1000"
    assert headers[b"content-type"] == b"audio/flac"
    assert headers[b"accept-ranges"] == b"bytes"
    assert headers[b"last-modified"] == MODIFIED
    assert headers[b"cache-control"] == b"private"
    assert headers[b"x-content-type-options"] == b"nosniff"
    assert headers[b"content-disposition"] == b'inline; filename="song.flac"'


def test_a_range_and_one_outside() -> None:
    part = ask(range=b"bytes=100-199")
    outside = ask(range=b"bytes=1000-")

    assert (part.status, part.start, part.length) == (206, 100, 100)
    assert dict(part.headers)[b"content-range"] == b"bytes 100-199/1000"
    assert (outside.status, dict(outside.headers)[b"content-range"]) == (416, b"bytes */1000")
    assert ask("HEAD", range=b"bytes=100-199").status == 200
    assert ask(facts=FileFacts(size=0, modified_ns=0, number=1), range=b"bytes=0-").status == 416


def test_the_tag_changes_with_the_content_and_only_then() -> None:
    assert etag(FACTS) == etag(FileFacts(size=1000, modified_ns=FACTS.modified_ns, number=7))
    others = [
        FileFacts(size=1001, modified_ns=FACTS.modified_ns, number=7),
        FileFacts(size=1000, modified_ns=FACTS.modified_ns + 1, number=7),
        FileFacts(size=1000, modified_ns=FACTS.modified_ns, number=8),
    ]
    assert len({etag(FACTS), *map(etag, others)}) == 4
    assert etag(FACTS).startswith('"')


def test_what_the_client_has_is_not_sent_again() -> None:
    tag = etag(FACTS).encode()
    for known in (tag, b'"other", ' + tag, b"W/" + tag, b"*"):
        assert ask(if_none_match=known).status == 304
    assert ask(if_none_match=b'"other"', if_modified_since=MODIFIED).status == 200
    assert ask(if_modified_since=MODIFIED).status == 304
    assert ask(if_modified_since=b"Tue, 14 Nov 2023 22:13:19 GMT").status == 200
    for nonsense in (b"yesterday", b"", b"\xff", b"Tue, 99 Nov 2023 22:13:20 GMT"):
        assert ask(if_modified_since=nonsense).status == 200
    assert b"content-length" not in dict(ask(if_none_match=b"*").headers)


def test_a_range_counts_only_for_the_file_that_the_client_has_a_part_of() -> None:
    for same in (etag(FACTS).encode(), MODIFIED):
        assert ask(range=b"bytes=5-9", if_range=same).status == 206
    for other in (b'"other"', b"W/" + etag(FACTS).encode(), b"Tue, 14 Nov 2023 22:13:21 GMT", b""):
        assert ask(range=b"bytes=5-9", if_range=other).status == 200


@given(st.text(min_size=1).filter(lambda name: "/" not in name))
def test_any_name_makes_a_header_that_holds_it_and_nothing_more(name: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError:
        return
    header = disposition(f"secret-folder/{name}")

    assert header.isascii() and header.decode().isprintable()
    assert b"secret-folder" not in header
    plain = header.partition(b'filename="')[2].partition(b'"')[0].decode()
    assert "\\" not in plain
    starred = header.partition(b"filename*=UTF-8''")[2].decode()
    assert (unquote(starred) if starred else plain) == name
