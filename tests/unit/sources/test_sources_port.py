"""What every source behind an API does: one suite over all of them, each against an API that answers as documented."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from common.contracts.work import SongDownload
from common.errors import PermanentError
from common.settings import Settings
from sources.addresses import AddressPolicy
from sources.http import GuardedHttp
from sources.port import Described, HttpCandidate, Searchable, SearchQuery
from sources.registry import load_sources
from tests.support.source_apis import APIS, MUSIC, Api, read, running, silent

QUERY = SearchQuery(name="Song 2", singers=("The Artist",))


@pytest.fixture(params=APIS, ids=lambda kind: kind.NAME)
def api(request: pytest.FixtureRequest) -> Iterator[Api]:
    with running(request.param) as one:
        yield one


def request_of(api: Api, remote_id: str) -> SongDownload:
    return SongDownload(job_id=1, source=api.NAME, song_id=1, remote_id=remote_id, name="x")


def test_lists_are_found_and_read(api: Api) -> None:
    source = api.source()
    refs = [ref for pool in source.pools() for ref in source.playlists(pool.external_id, progress=silent)]
    assert api.LIST in [ref.remote_id for ref in refs]
    told: list[int] = []
    playlist = source.read(
        api.LIST, known=type("N", (), {"unchanged": lambda s, f: {}})(), progress=lambda d, t=None: told.append(d)
    )
    assert playlist.ref.remote_id == api.LIST and playlist.ref.name
    assert [song.name for song in playlist.songs] == ["Song 1", "Song 2", "Song 3"]
    assert all(song.singers == ("The Artist",) for song in playlist.songs)
    assert len({song.remote_id for song in playlist.songs}) == 3
    assert playlist.problems == () and told


def test_every_list_of_the_settings_can_be_read(api: Api) -> None:
    source = api.source()
    for pool in source.pools():
        for ref in source.playlists(pool.external_id, progress=silent):
            if ref.remote_id != "pl-2":
                assert len(read(source, ref.remote_id).songs) == 3, ref


def test_a_song_is_found_and_its_bytes_come(api: Api) -> None:
    source = api.source()
    results = source.search(QUERY, limit=10)
    found = next(one for one in results if one.name == "Song 2")
    assert found.source == api.NAME and found.singers == ("The Artist",) and found.ext in ("flac", "wav")
    candidates = source.candidates(found)
    assert candidates and candidates == source.resolve(request_of(api, found.remote_id))
    for candidate in candidates:
        assert isinstance(candidate, HttpCandidate) and candidate.source == api.NAME
        with (
            GuardedHttp(policy=AddressPolicy()) as http,
            http.open(candidate.url, headers=candidate.headers, allow_private=candidate.allow_private) as response,
        ):
            assert b"".join(response.stream()) == MUSIC


def test_ids_are_the_same_in_lists_searches_and_refreshes(api: Api) -> None:
    source = api.source()
    listed = {song.remote_id: song for song in read(source, api.LIST).songs}
    for found in source.search(SearchQuery(name="Song"), limit=50):
        song = listed.pop(found.remote_id)
        assert (song.name, song.singers, song.ext, song.size) == (found.name, found.singers, found.ext, found.size)
        assert source.refresh(found.remote_id) == found
    assert not listed


def test_the_limit_holds_and_nothing_is_asked_for_nothing(api: Api) -> None:
    source = api.source()
    assert len(source.search(SearchQuery(name="Song"), limit=2)) == 2
    asked = api.api_requests
    assert source.search(QUERY, limit=0) == () and source.search(SearchQuery(name=" \x00 "), limit=5) == ()
    assert api.api_requests == asked


def test_what_may_not_be_downloaded_is_not_offered(api: Api) -> None:
    source = api.source()
    before = {song.name: song.remote_id for song in read(source, api.LIST).songs}
    api.songs = [api.entry(1), api.withheld(2), api.entry(3)]
    playlist = read(source, api.LIST)
    assert [song.name for song in playlist.songs] == ["Song 1", "Song 3"]
    assert "Song 2" not in [found.name for found in source.search(QUERY, limit=10)]
    assert source.refresh(before["Song 2"]) is None
    with pytest.raises(PermanentError) as error:
        source.resolve(request_of(api, before["Song 2"]))
    assert error.value.code == "source-file-missing"


def test_a_song_that_is_gone_says_so(api: Api) -> None:
    source = api.source()
    before = {song.name: song.remote_id for song in read(source, api.LIST).songs}
    api.songs = [api.entry(1)]
    assert source.refresh(before["Song 3"]) is None
    with pytest.raises(PermanentError) as error:
        source.resolve(request_of(api, before["Song 3"]))
    assert error.value.code == "source-file-missing"
    assert source.health().available  # it answered


def test_a_list_that_is_gone_or_foreign_is_the_failure_of_its_item(api: Api) -> None:
    source = api.source()
    for remote_id in ("nowhere", "playlists/1", "../../etc", "Category:Other"):
        with pytest.raises(PermanentError) as error:
            read(source, remote_id)
        assert error.value.code in ("playlist-missing", "source-file-missing")


def test_licences_are_told(api: Api) -> None:
    source = api.source()
    described: object = source
    assert isinstance(described, Described) and described.about.licence and described.about.rate
    found = source.search(QUERY, limit=10)[0]
    song = read(source, api.LIST).songs[0]
    if api.NAME == "subsonic":
        assert found.licence is None and "licence" not in song.metadata
    else:
        assert found.licence is not None
        assert found.licence.name.startswith(("CC BY", "Attribution"))
        assert song.metadata["licence"] == {"name": found.licence.name, "url": found.licence.url}


def test_health_asks_nobody(api: Api) -> None:
    source = api.source()
    assert source.health().available and source.health().configured
    list(source.pools())
    assert api.api_requests == 0


def test_the_user_agent_names_us_and_the_contact(api: Api) -> None:
    api.source(source_contact="ana@example.org").search(QUERY, limit=1)
    assert {headers["User-Agent"] for _, _, headers in api.seen} == {"music-cloud/0.1 (ana@example.org)"}


@pytest.mark.parametrize(
    ("name", "setting"),
    [("subsonic", "SUBSONIC_URL"), ("jamendo", "JAMENDO_CLIENT_ID"), ("wikimedia-commons", "SOURCE_CONTACT")],
)
def test_what_is_not_configured_says_what_to_set_and_costs_nothing(name: str, setting: str) -> None:
    source = load_sources(Settings(sources=name)).ready[name]
    assert isinstance(source, Searchable)
    health = source.health()
    assert not health.configured and not health.available and setting in health.message
    assert list(source.pools()) == []
    for ask in (lambda: source.search(QUERY, limit=1), lambda: source.refresh("1")):
        with pytest.raises(PermanentError) as error:
            ask()
        assert error.value.code == "source-not-configured"
