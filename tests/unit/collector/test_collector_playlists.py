"""Whether a playlist or a pool is published again, and the guard against lists that suddenly shrink."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.ports import KnownPlaylist, KnownPool
from collector.service.playlists import Publication, publication
from collector.service.pools import definition, digest_of
from common.contracts.facts import PoolDefined
from sources.port import Playlist, PlaylistRef, Pool


def decide(
    ids: Sequence[int], before: KnownPlaylist | None = None, *, name: str = "Mix", limit: float = 0.5, **more: object
) -> Publication:
    playlist = Playlist(ref=PlaylistRef(remote_id="mix", name=name), **more)  # type: ignore[arg-type]
    return publication(playlist, ids, platform="feed", playlist_id=5, before=before, shrink_limit=limit)


def after(news: Publication, *, whole: bool = True, removed: bool = False) -> KnownPlaylist:
    """The record once what was published has come back."""
    last = news.pages[-1]
    return KnownPlaylist(
        playlist_id=5,
        platform="feed",
        remote_id="mix",
        top_version=last.version,
        whole=whole,
        header=news.header,
        fingerprint=last.fingerprint,
        removed=removed,
        entries=lambda: list(news.ids),
    )


@given(st.integers(0, 2600))
def test_pages_hold_every_entry_once_and_page_0_is_last(count: int) -> None:
    ids = list(range(1000, 1000 + count))
    pages = decide(ids).pages
    assert len(pages) == max(1, -(-count // 500))
    assert [page.page for page in pages] == [*range(1, len(pages)), 0]
    assert {(page.version, page.pages) for page in pages} == {(1, len(pages))}
    assert [page.header is not None for page in pages] == [page.page == 0 for page in pages]
    assert sorted(entry for page in pages for entry in page.entries) == list(enumerate(ids))
    header = pages[-1].header
    assert header is not None and header.song_count == count


def test_the_same_list_is_not_published_again_and_any_change_is() -> None:
    first = decide([1, 2, 3])
    before = after(first)
    assert decide([1, 2, 3], before).pages == ()
    for changed in (
        decide([1, 2], before),
        decide([2, 1, 3], before),
        decide([1, 2, 3, 3], before),
        decide([1, 2, 3], before, name="Other"),
        decide([1, 2, 3], before, problems=("Entry 4 was left out.",)),
        decide([1, 2, 3], after(first, whole=False)),
    ):
        assert changed.pages[-1].version == 2


@pytest.mark.parametrize(("now", "upstream"), [([], "empty"), ([1], "shrunk")])
def test_a_list_that_suddenly_shrinks_keeps_the_last_good_one(now: list[int], upstream: str) -> None:
    before = after(decide([1, 2, 3, 4]))
    news = decide(now, before, name="Error page")
    assert news.kept and news.ids == (1, 2, 3, 4)
    (page,) = news.pages
    assert page.header is not None
    assert (page.version, page.header.upstream, page.header.name) == (2, upstream, "Mix")
    assert page.header.song_count == 4 and "PLAYLIST_SHRINK_LIMIT" in (page.header.notice or "")
    assert [song for _, song in page.entries] == [1, 2, 3, 4]
    again = decide(now, after(news))
    assert again.pages == () and again.kept and again.ids == (1, 2, 3, 4)
    back = decide([1, 2, 3, 4], after(news))
    assert back.pages[-1].header is not None and back.pages[-1].header.upstream == "ok"


def test_shrinking_by_half_is_believed_and_a_person_can_allow_all() -> None:
    before = after(decide([1, 2, 3, 4]))
    assert not decide([1, 2], before).kept
    assert decide([], before, limit=1).ids == ()
    assert not decide([], before, limit=1).kept


def test_a_withdrawn_playlist_comes_back_with_a_higher_version() -> None:
    news = decide([], after(decide([1, 2, 3]), removed=True))
    assert not news.kept and news.pages[-1].version == 2


def pool(ids: Sequence[int], before: KnownPool | None = None, *, name: str = "Folder") -> PoolDefined | None:
    return definition(
        Pool(external_id="folder", name=name, kind="folder"),
        ids,
        platform="local",
        pool_id=3,
        before=before,
        shrink_limit=0.5,
    )


def known(fact: PoolDefined | None) -> KnownPool:
    assert fact is not None
    return KnownPool(
        pool_id=3,
        platform="local",
        external_id="folder",
        name=fact.name,
        digest=digest_of(fact),
        playlist_ids=fact.playlist_ids,
    )


def test_what_comes_to_a_pool_is_listed_behind_what_was_there() -> None:
    first = pool([30, 20])
    assert first is not None and first.playlist_ids == (20, 30)
    second = pool([10, 30, 20, 5], known(first))
    assert second is not None and second.playlist_ids == (20, 30, 5, 10)
    third = pool([30, 10, 20, 1], known(second))
    assert third is not None and third.playlist_ids == (20, 30, 10, 1)
    assert pool([10, 20, 30, 1], known(third)) is None


def test_a_pool_is_published_when_it_changed_and_keeps_its_list_when_it_vanishes() -> None:
    first = pool([1, 2, 3])
    assert pool([1, 2, 3], known(first)) is None
    assert pool([1, 2, 3], known(first), name="Other") is not None
    assert pool([1, 2, 3, 4], known(first)) is not None
    gone = pool([], known(first))
    assert gone is not None and gone.playlist_ids == (1, 2, 3) and "last good list" in gone.metadata["notice"]
    assert pool([], known(gone)) is None
