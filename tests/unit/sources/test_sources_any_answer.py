"""Whatever stands where in an answer: a source gives usable results or an error of ours, and never anything else."""

from __future__ import annotations

import contextlib
import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.errors import MusicCloudError
from sources.port import Found, SearchQuery, Song
from tests.support.source_apis import APIS, Api, Query, Reply, as_json, read, running

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.just("x" * 5000),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@pytest.fixture(scope="module", params=APIS, ids=lambda kind: kind.NAME)
def api(request: pytest.FixtureRequest) -> Iterator[Api]:
    with running(request.param) as one:
        yield one


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where something stands in an answer."""
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        yield from places(one, (*path, key))


def put(value: Any, path: tuple[Any, ...], other: Any) -> Any:
    """``value`` with something else in one place."""
    if not path:
        return other
    changed = copy.copy(value)
    changed[path[0]] = put(value[path[0]], path[1:], other)
    return changed


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_something_else_in_one_place(api: Api, data: st.DataObject) -> None:
    source = api.source()

    def answer(path: str, query: Query) -> Reply:
        reply = type(api).answer(api, path, query)
        if not reply.content_type.endswith("json") or path == "/":
            return reply
        whole = json_of(reply)
        where = data.draw(st.sampled_from(sorted(places(whole), key=repr)))
        return as_json(put(whole, where, data.draw(JSON)))

    api.answer = answer  # type: ignore[method-assign]
    with contextlib.suppress(MusicCloudError):
        for found in source.search(SearchQuery(name="Song 2", singers=("The Artist",)), limit=5):
            usable(found)
    with contextlib.suppress(MusicCloudError):
        for song in read(source, api.LIST).songs:
            usable(song)
    with contextlib.suppress(MusicCloudError):
        source.candidates(Found(source=api.NAME, remote_id="1", name="x"))
    assert source.health().configured


def json_of(reply: Reply) -> Any:

    return json.loads(reply.body)


def usable(one: Found | Song) -> None:
    """Fit for messages, names of files, and people."""
    assert one.remote_id and len(one.remote_id) <= 1200 and one.remote_id.isprintable()
    for text in (one.name, *one.singers, one.album or "x", one.ext or "x"):
        assert text and len(text) <= 500 and text.isprintable()
        text.encode()
    assert one.duration_seconds is None or 0 < one.duration_seconds < 10**6
    assert one.size is None or 0 < one.size < 2**53
