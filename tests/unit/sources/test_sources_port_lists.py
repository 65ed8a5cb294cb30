"""What every source does, with a server behind it or not: lists, ids, terms, and what is gone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from common.contracts.work import SongDownload
from common.errors import PermanentError
from common.settings import Settings
from sources.port import Described, FileCandidate, HttpCandidate, Source
from sources.registry import load_sources
from tests.support.feed_server import feed_server
from tests.support.source_apis import APIS, MUSIC, POINTS, Api, read, running, silent

NAMES = ("Song 1", "Song 2", "Song 3")


@dataclass(frozen=True, kw_only=True)
class Case:
    """A source with one list of three songs. ``take_away`` lets all but the first be gone."""

    source: Source
    list_id: str
    take_away: Callable[[], None]
    other: Source
    """the same once more, as another process makes it"""


def from_api(kind: type[Api], tmp_path: Path) -> Iterator[Case]:
    with running(kind) as api:
        yield Case(
            source=api.source(),
            list_id=api.LIST,
            take_away=lambda: api.songs.__delitem__(slice(1, None)),
            other=api.source(),
        )


def from_folder(tmp_path: Path) -> Iterator[Case]:
    for name in NAMES:
        (tmp_path / "music").mkdir(exist_ok=True)
        (tmp_path / "music" / f"{name}.wav").write_bytes(MUSIC)

    def make() -> Source:
        settings = Settings(sources="local", local_media_import_path=tmp_path)
        return load_sources(settings, points=POINTS).ready["local"]

    def take_away() -> None:
        for name in NAMES[1:]:
            (tmp_path / "music" / f"{name}.wav").unlink()

    yield Case(source=make(), list_id="music/", take_away=take_away, other=make())


def from_feed(tmp_path: Path) -> Iterator[Case]:
    with feed_server() as server:
        url = server.serve("/list.m3u", "".join(f"#EXTINF:1,Ana - {name}\n{name}.wav\n" for name in NAMES))
        settings = Settings(sources="feed", feeds=url)

        def make() -> Source:
            return load_sources(settings, points=POINTS).ready["feed"]

        # A feed's song is gone when its server says so: that is found out by the download.
        yield Case(source=make(), list_id=url, take_away=lambda: None, other=make())


MAKERS: dict[str, Callable[[Path], Iterator[Case]]] = {
    **{kind.NAME: partial(from_api, kind) for kind in APIS},
    "local": from_folder,
    "feed": from_feed,
}


@pytest.fixture(params=MAKERS)
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Case]:
    yield from MAKERS[request.param](tmp_path)


def song(case: Case, remote_id: str) -> SongDownload:
    return SongDownload(job_id=1, source=case.source.name, song_id=1, remote_id=remote_id, name="x")


def test_a_list_is_in_a_pool_and_can_be_read_again(case: Case) -> None:
    pools = list(case.source.pools())
    assert len({pool.external_id for pool in pools}) == len(pools) and all(pool.name and pool.kind for pool in pools)
    refs = [ref for pool in pools for ref in case.source.playlists(pool.external_id, progress=silent)]
    assert case.list_id in [ref.remote_id for ref in refs]
    playlist = read(case.source, case.list_id)
    assert tuple(song.name for song in playlist.songs) == NAMES and playlist.problems == ()
    assert read(case.source, case.list_id) == playlist == read(case.other, case.list_id)


def test_each_song_can_be_had_by_its_id_alone(case: Case) -> None:
    for listed in read(case.source, case.list_id).songs:
        candidates = case.other.resolve(song(case, listed.remote_id))
        assert candidates and all(isinstance(one, (FileCandidate, HttpCandidate)) for one in candidates)
        assert {one.source for one in candidates} == {case.source.name}


def test_what_is_gone_is_gone_for_good_and_the_rest_stays(case: Case) -> None:
    if case.source.name == "feed":
        return
    first, *others = read(case.source, case.list_id).songs
    case.take_away()
    for listed in others:
        with pytest.raises(PermanentError) as error:
            case.source.resolve(song(case, listed.remote_id))
        assert error.value.code == "source-file-missing"
    assert case.source.resolve(song(case, first.remote_id))
    assert [one.name for one in read(case.source, case.list_id).songs] == ["Song 1"]


def test_pools_and_lists_that_it_does_not_have_are_refused(case: Case) -> None:
    with pytest.raises(PermanentError):
        list(case.source.playlists("no such pool", progress=silent))
    for remote_id in ("nowhere", "nowhere/", "../../etc/", "\x00"):
        with pytest.raises(PermanentError) as error:
            read(case.source, remote_id)
        assert error.value.code.replace("-", "").islower() and "/etc" not in error.value.message


def test_it_is_well_and_says_what_its_terms_are(case: Case) -> None:
    health = case.source.health()
    assert health.configured and health.available and health.message == ""
    described: object = case.source
    assert isinstance(described, Described) and described.about.title and described.about.licence


def test_a_reading_that_nobody_wants_any_more_ends(case: Case) -> None:
    class NotWanted(Exception):
        pass

    def progress(done: int, total: int | None = None) -> None:
        raise NotWanted

    if case.source.name == "local":
        return  # tells of itself every twenty files
    with pytest.raises(NotWanted):
        case.source.read(case.list_id, known=type("N", (), {"unchanged": lambda s, f: {}})(), progress=progress)
