"""Answers that nobody wants, given to every source behind an API: bounded, refused with a reason, and then over."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from common.errors import MusicCloudError, PermanentError, TransientError, Waiting
from sources.api.source import MAX_RESULTS, MAX_SONGS
from sources.port import SearchQuery
from tests.support.feed_server import feed_server
from tests.support.source_apis import APIS, Api, Reply, read, running

QUERY = SearchQuery(name="Song 2", singers=("The Artist",))
SHORT = 0.4
"""Seconds for an answer that never ends; good ones have as long as ever."""


@pytest.fixture(params=APIS, ids=lambda kind: kind.NAME)
def api(request: pytest.FixtureRequest) -> Iterator[Api]:
    with running(request.param) as one:
        yield one


def refused(api: Api, source: Any, reply: Reply, *, deadline: float = 30.0) -> MusicCloudError:
    """The error of a search that is answered so; a list is refused for the same reason, and the next search works.

    ``deadline``: seconds that such an answer gets.
    """
    api.raw = reply
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(source.client, "deadline", deadline)
        with pytest.raises(MusicCloudError) as error:
            source.search(QUERY, limit=5)
        with pytest.raises(MusicCloudError) as other:
            read(source, api.LIST)
    assert other.value.code == error.value.code
    api.raw = None
    assert source.search(QUERY, limit=5), "one bad answer costs only its own item"
    assert source.health().available
    assert error.value.message.endswith(".") and "secret" not in error.value.message
    return error.value


def test_a_web_page_instead_of_data(api: Api) -> None:
    page = b"<!DOCTYPE html><title>Please log in</title>"
    error = refused(api, api.source(), Reply(body=page, content_type="text/html"))
    assert isinstance(error, TransientError) and error.code == "answer-not-json" and "web page" in error.message


@pytest.mark.parametrize("body", [b'{"data": [{"id": "1", "na', b"", b"\xff\xfe{}", b"{}trailing"])
def test_data_that_is_cut_off_or_no_text(api: Api, body: bytes) -> None:
    error = refused(api, api.source(), Reply(body=body))
    assert isinstance(error, TransientError) and error.code == "answer-not-json"


def test_an_answer_that_breaks_off(api: Api) -> None:
    error = refused(
        api, api.source(), Reply(body=b'{"data": [', announce=1000, drip=0.001, headers={"Connection": "close"})
    )
    assert isinstance(error, TransientError) and error.code in ("connection-lost", "server-stalled")


@pytest.mark.parametrize(
    "answer", [[], 7, "x", None, {"data": 7, "results": "x", "response": [], "query": [], "files": {}}]
)
def test_data_of_another_shape(api: Api, answer: object) -> None:
    whole: object = answer
    if isinstance(answer, dict):
        whole = {**answer, "headers": 1, "subsonic-response": 1, "metadata": [], "items": 1}
    error = refused(api, api.source(), Reply(body=json.dumps(whole).encode()))
    assert isinstance(error, PermanentError) and error.code == "answer-malformed"


def test_data_nested_without_end(api: Api) -> None:
    error = refused(api, api.source(), Reply(body=b'{"data":' + b"[" * 100_000))
    assert error.code in ("answer-not-json", "answer-malformed")


def test_ten_megabytes(api: Api) -> None:
    source = api.source()
    error = refused(api, source, Reply(body=b'{"data": "' + b"x" * 10 * 1024**2 + b'"}'))
    assert isinstance(error, PermanentError) and error.code == "answer-too-large"


def test_wrong_types_cost_only_their_own_entry(api: Api) -> None:
    source = api.source()
    bad: list[Any] = [
        None,
        7,
        "x",
        [],
        {},
        {"id": {}},
        *(api.entry(9, **{key: [{}] for key in api.entry(9)}) for _ in "a"),
    ]
    nonsense = api.entry(
        8, **{key: {"a": 1e999} for key in ("duration", "length", "size", "bitRate", "track", "year", "genre")}
    )
    api.songs = [*bad, api.entry(2), nonsense]
    names = [found.name for found in source.search(QUERY, limit=10)]
    assert "Song 2" in names
    playlist = read(source, api.LIST)
    assert "Song 2" in [song.name for song in playlist.songs]
    if api.NAME != "internet-archive":  # whose items hold files of all kinds
        assert any("Malformed" in sentence for sentence in playlist.problems)


def test_nothing_but_wrong_types_is_a_wrong_list(api: Api) -> None:
    source = api.source()
    api.songs = [None, 7, "x", [], {}]
    if api.NAME == "internet-archive":
        api.raw = Reply(body=b'{"response": {"docs": [1, 2]}}')
    with pytest.raises(PermanentError) as error:
        source.search(QUERY, limit=5)
    assert error.value.code == "answer-malformed"


def test_a_million_results(api: Api) -> None:
    source = api.source()
    one = json.dumps(api.entry(2)).encode()
    good = json.dumps(api.songs).encode()
    probe = source.search(SearchQuery(name="Song"), limit=5)
    assert len(probe) == 3
    # As many as fit into what is read at all; beyond that the answer is too large.
    api.songs = [api.entry(number) for number in range(1, min(8000, 7 * 1024**2 // len(one)))]
    results = source.search(SearchQuery(name="Song"), limit=10**6)
    assert len(results) == MAX_RESULTS and len({found.remote_id for found in results}) == MAX_RESULTS
    api.raw = Reply(body=good.replace(b"]", b"," + b",".join([b"0"] * 1_000_000) + b"]"))
    with pytest.raises(PermanentError) as error:
        source.search(QUERY, limit=5)
    assert error.value.code == "answer-malformed"


def test_control_characters(api: Api) -> None:
    source = api.source()
    ugly = "So\x00ng\u202e\ud800 \x1b[31m2\n" + "x" * 100_000
    about = dict.fromkeys(("title", "name", "artist", "album", "artist_name", "album_name", "genre", "date"), ugly)
    entry = api.entry(2)
    changes = {key: value for key, value in about.items() if key in entry}
    if api.NAME == "internet-archive":
        changes.pop("name")
        api.songs = [api.entry(2, **changes), api.entry(3, name="a\x00b.flac"), api.entry(4, name="../../x.flac")]
    else:
        ids = {"id": "a\x00b", "pageid": "a\nb"}
        api.songs = [api.entry(2, **changes), api.entry(3, **{key: ids[key] for key in ids if key in entry})]
    if api.NAME == "wikimedia-commons":
        api.songs[0] = entry
        entry["imageinfo"][0]["extmetadata"]["ObjectName"]["value"] = ugly
    found = source.search(SearchQuery(name="Song"), limit=10)
    assert len(found) == 1
    for text in (found[0].name, found[0].album or "", *found[0].singers, found[0].remote_id):
        assert text.isprintable() and len(text) <= 500
        text.encode()
    assert found[0].name.startswith("Song [31m2 x")


def test_identical_ids(api: Api) -> None:
    source = api.source()
    api.songs = [api.entry(2), api.entry(2), api.entry(2)]
    assert len(source.search(QUERY, limit=10)) == 1
    assert len({song.remote_id for song in read(source, api.LIST).songs}) == 1


def test_pages_without_end(api: Api) -> None:
    changes = {"internet_archive_max_items": 30}
    source = api.source(**changes)
    api.endless = True
    playlist = read(source, api.LIST)
    if api.NAME == "internet-archive":
        assert len({song.metadata["item"] for song in playlist.songs}) == 30
    else:
        assert len(playlist.songs) <= MAX_SONGS
    assert any("left out" in sentence for sentence in playlist.problems)
    assert api.api_requests <= 402


def test_the_same_page_without_end(api: Api) -> None:
    source = api.source()
    api.repeating = True
    if api.NAME == "subsonic":
        return  # its lists come whole
    playlist = read(source, api.LIST)
    assert 0 < len(playlist.songs) <= 300
    assert api.api_requests <= 110


def test_a_server_that_never_answers(api: Api) -> None:
    error = refused(api, api.source(source_timeout_seconds=30), Reply(stall=True), deadline=SHORT)
    assert isinstance(error, TransientError) and error.code == "server-stalled"
    assert "within 0.4 seconds" in error.message


def test_a_server_that_answers_so_slowly_that_it_never_ends(api: Api) -> None:
    reply = Reply(body=b'{"data": [' + b" " * 4_000_000, drip=0.0005)
    error = refused(api, api.source(source_timeout_seconds=30), reply, deadline=SHORT)
    assert isinstance(error, TransientError) and error.code == "server-stalled"
    assert "within 0.4 seconds" in error.message


def test_a_pause_that_is_asked_for_is_kept(api: Api) -> None:
    source = api.source()
    source.search(QUERY, limit=5)
    api.raw = Reply(status=429, headers={"Retry-After": "120"})
    with pytest.raises(Waiting) as first:
        source.search(QUERY, limit=5)
    assert first.value.seconds > 110
    api.raw = None
    asked = api.api_requests
    with pytest.raises(Waiting):
        read(source, api.LIST)
    assert api.api_requests == asked, "nobody is asked during the pause"
    assert not source.health().available and source.health().message


def test_access_refused(api: Api) -> None:
    source = api.source()
    api.raw = Reply(status=401)
    with pytest.raises(PermanentError) as error:
        source.search(QUERY, limit=5)
    assert error.value.code == "access-refused"
    hint = {"subsonic": "SUBSONIC_PASSWORD", "jamendo": "JAMENDO_CLIENT_ID", "wikimedia-commons": "SOURCE_CONTACT"}
    assert hint.get(api.NAME, "refuses access") in error.value.message
    assert not source.health().available


@pytest.mark.parametrize("to", ["http://10.1.2.3/x", "http://169.254.169.254/latest", "http://[::1]:1/", "ftp://x/y"])
def test_redirects_to_where_they_may_not_lead(api: Api, to: str) -> None:
    error = refused(api, api.source(), Reply(status=302, headers={"Location": to}))
    assert isinstance(error, PermanentError) and error.code in ("address-refused", "url-scheme")


def test_a_redirect_to_another_port_of_this_machine_is_not_followed(api: Api) -> None:
    with feed_server() as other:
        other.serve("/", b"{}")
        error = refused(api, api.source(), Reply(status=302, headers={"Location": other.url + "/"}))
        assert error.code == "address-refused" and other.seen == []


def test_a_server_that_fails(api: Api) -> None:
    error = refused(api, api.source(), Reply(status=500))
    assert isinstance(error, TransientError) and error.code == "server-error"


def test_compressed_although_not_asked_for(api: Api) -> None:
    error = refused(api, api.source(), Reply(body=b"\x1f\x8b", headers={"Content-Encoding": "gzip"}))
    assert isinstance(error, PermanentError) and error.code == "answer-encoded"
