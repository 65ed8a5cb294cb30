"""What is particular to one source or another: access, errors within good answers, formats, terms."""

from __future__ import annotations

import hashlib
import threading
import time
from typing import Any

import pytest

from common.errors import ConfigurationError, MusicCloudError, PermanentError, TransientError, Waiting
from common.redaction import Redaction
from common.settings import Settings
from sources.api.fields import licence_of
from sources.api.pace import Pace, TurnWaiting, rate_of
from sources.port import Described, HttpCandidate, SearchQuery
from sources.registry import load_sources
from tests.support.ports import free_ports
from tests.support.source_apis import (
    ArchiveApi,
    AudiusApi,
    CommonsApi,
    JamendoApi,
    Reply,
    SubsonicApi,
    as_json,
    read,
    running,
    silent,
)

QUERY = SearchQuery(name="Song 2", singers=("The Artist",))


def url_of(candidate: Any) -> str:
    assert isinstance(candidate, HttpCandidate)
    return candidate.url


# -- subsonic ---------------------------------------------------------------------------------------------------------


def test_subsonic_tokens_are_salted_anew_and_those_of_a_file_stay_the_same() -> None:
    with running(SubsonicApi) as api:
        source = api.source()
        found = source.search(QUERY, limit=1)[0]
        source.search(QUERY, limit=1)
        asked = [query for _, query, _ in api.seen]
        assert all("p" not in query and query["u"] == ["ana"] and query["f"] == ["json"] for query in asked)
        for query in asked:
            salted = f"sesame-geheim{query['s'][0]}".encode()
            assert query["t"] == [hashlib.md5(salted, usedforsecurity=False).hexdigest()]
        assert len({query["s"][0] for query in asked}) == len(asked)
        first, second = source.candidates(found), source.candidates(found)
        assert first == second, "a download that broke off goes on at the same address"
        assert "sesame" not in url_of(first[0]) and "sesame" not in repr(first) and "t=" not in repr(first)


def test_subsonic_addresses_are_masked_in_logs() -> None:
    line = "GET http://nas:4533/rest/stream.view?u=ana&t=26719a1196d2a940705a59634eb18eab&s=c19b2d&id=1 failed"
    masked = Redaction(())(line)
    assert "26719" not in masked and "c19b2d" not in masked and "ana" not in masked and masked.endswith(" failed")
    assert "/rest/stream.view" in masked


@pytest.mark.parametrize(
    ("code", "outcome", "ours"),
    [
        (0, TransientError, "api-error"),
        (10, PermanentError, "access-refused"),
        (20, PermanentError, "api-error"),
        (40, PermanentError, "access-refused"),
        (41, PermanentError, "access-refused"),
        (50, PermanentError, "access-refused"),
        (60, PermanentError, "api-error"),
        (70, PermanentError, "source-file-missing"),
    ],
)
def test_subsonic_errors_are_those_of_the_documentation(code: int, outcome: type[MusicCloudError], ours: str) -> None:
    with running(SubsonicApi) as api:
        source = api.source()
        api.error = code  # type: ignore[attr-defined]
        with pytest.raises(outcome) as error:
            source.search(QUERY, limit=1)
        assert error.value.code == ours and "secret" not in error.value.message


def test_subsonic_servers_that_send_an_object_for_a_list_of_one() -> None:
    with running(SubsonicApi) as api:
        source = api.source()
        one = {"id": 17, "title": "Song 2", "artists": [{"id": 1, "name": "A"}, {"id": 2, "name": "B"}]}
        api.raw = as_json({"subsonic-response": {"status": "ok", "searchResult3": {"song": one}}})
        (found,) = source.search(QUERY, limit=5)
        assert (found.remote_id, found.singers) == ("17", ("A", "B"))
        api.raw = as_json({"subsonic-response": {"status": "ok", "searchResult3": "", "playlists": {}}})
        assert source.search(QUERY, limit=5) == ()
        assert list(source.playlists("playlists", progress=silent)) == []


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"subsonic_user": ""}, "SUBSONIC_USER"),
        ({"subsonic_url": "http://ana:word@nas"}, "SUBSONIC_URL"),
        ({"subsonic_url": "nas:4533"}, "SUBSONIC_URL"),
        ({"source_rates": "subsonic=0"}, "SOURCE_RATES"),
        ({"source_rates": "subsonic"}, "SOURCE_RATES"),
    ],
)
def test_subsonic_settings_that_cannot_work_are_refused(changes: dict[str, Any], named: str) -> None:
    good = {"subsonic_url": "http://nas:4533", "subsonic_user": "ana", "subsonic_password": "x", "sources": "subsonic"}
    with pytest.raises(ConfigurationError) as error:
        load_sources(Settings(**{**good, **changes}))
    assert named in error.value.message and "word" not in error.value.message


# -- jamendo ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "outcome", "ours"),
    [(5, PermanentError, "access-refused"), (6, Waiting, "server-waiting"), (7, PermanentError, "api-error")],
)
def test_jamendo_errors_within_good_answers(code: int, outcome: type[MusicCloudError], ours: str) -> None:
    with running(JamendoApi) as api:
        source = api.source()
        api.code = code  # type: ignore[attr-defined]
        with pytest.raises(outcome) as error:
            source.search(QUERY, limit=1)
        assert error.value.code == ours and "secret" not in error.value.message
        asked = api.api_requests
        with pytest.raises(outcome):
            source.search(QUERY, limit=1)
        assert (api.api_requests == asked) is (outcome is Waiting)


def test_jamendo_asks_for_the_format_and_for_singles_too() -> None:
    with running(JamendoApi) as api:
        source = api.source(jamendo_format="mp32")
        found = source.search(QUERY, limit=1)[0]
        query = api.seen[-1][1]
        assert query["audiodlformat"] == ["mp32"] and query["type"] == ["single albumtrack"]
        assert (found.ext, found.lossless) == ("mp3", False)
        assert found.licence is not None and found.licence.name == "CC BY-NC-SA 3.0"
        album = read(source, "albums/70")
        assert {(song.singers, song.album) for song in album.songs} == {(("The Artist",), "The Album")}


def test_jamendo_reads_long_playlists_page_by_page() -> None:
    with running(JamendoApi) as api:
        source = api.source()
        api.songs = [api.withheld(number) if number % 9 == 0 else api.entry(number) for number in range(1, 451)]
        playlist = read(source, "playlists/900")
        assert len(playlist.songs) == 400 and playlist.problems == (
            "What may not be downloaded was left out: 50 of the songs.",
        )
        assert [query["offset"] for path, query, _ in api.seen] == [["0"], ["200"], ["400"]]


def test_an_address_that_a_server_answers_with_is_only_followed_where_that_is_allowed() -> None:
    with running(JamendoApi) as api:
        source = api.source()
        api.songs = [api.entry(1, audiodownload="http://10.0.0.7/x"), api.entry(2, audiodownload="file:///etc/passwd")]
        first, second = source.search(SearchQuery(name="Song"), limit=5)
        (candidate,) = source.candidates(first)
        assert not candidate.allow_private
        assert source.candidates(second) == ()


# -- audius -----------------------------------------------------------------------------------------------------------


def test_audius_goes_on_with_another_node_when_one_is_away() -> None:
    dead = f"http://127.0.0.1:{free_ports(1)[0]}"
    with running(AudiusApi) as api:
        listed = [dead, "ftp://x", 7, None, "http://[bad", "http://user@x/", api.url]
        source = api.source(allow_private_hosts=dead.removeprefix("http://"))

        def answer(path: str, query: Any) -> Reply:
            return as_json({"data": listed}) if path == "/" else AudiusApi.answer(api, path, query)  # type: ignore[arg-type]

        api.answer = answer  # type: ignore[method-assign]
        assert source.search(QUERY, limit=1)
        assert url_of(source.candidates(source.search(QUERY, limit=1)[0])[0]).startswith(api.url)
        assert [path for path, _, _ in api.seen].count("/") == 1, "the list of nodes is kept"
        assert all(query["app_name"] == ["music-cloud"] for path, query, _ in api.seen if path != "/")


@pytest.mark.parametrize(
    "root", [as_json({"data": []}), as_json({"data": ["x", 1]}), as_json([]), Reply(b"<html>"), Reply(status=404)]
)
def test_audius_is_asked_where_it_is_when_no_node_is_listed(root: Reply) -> None:
    with running(AudiusApi) as api:
        source = api.source()

        def answer(path: str, query: Any) -> Reply:
            return root if path == "/" else AudiusApi.answer(api, path, query)  # type: ignore[arg-type]

        api.answer = answer  # type: ignore[method-assign]
        assert source.search(QUERY, limit=1)
        assert source.health().available


def test_audius_offers_what_its_artists_offer() -> None:
    with running(AudiusApi) as api:
        api.songs = [
            api.entry(1),
            api.entry(2, is_original_available=False),
            api.entry(3, is_downloadable=False),
            api.entry(4, is_download_gated=True),
            api.entry(5, access={"stream": True, "download": False}),
            api.entry(6, is_delete=True),
            api.entry(7, is_downloadable=False, is_stream_gated=True),
            api.entry(8, license="All rights reserved"),
        ]
        query = SearchQuery(name="Song")
        found = {one.name: one for one in api.source().search(query, limit=50)}
        assert set(found) == {"Song 1", "Song 2", "Song 8"}
        assert (found["Song 1"].ext, found["Song 1"].lossless, found["Song 2"].ext) == ("wav", True, "mp3")
        assert found["Song 8"].licence is None and found["Song 8"].metadata["rights"] == "All rights reserved"
        both = api.source(audius_streams=True)
        assert {one.name for one in both.search(query, limit=50)} == {f"Song {n}" for n in (1, 2, 3, 4, 5, 8)}
        paths = [url_of(one).partition("?")[0].rpartition("/")[2] for one in both.candidates(found["Song 1"])]
        assert paths == ["download", "download", "stream"]


def test_audius_lists_that_are_gone_cost_only_themselves() -> None:
    with running(AudiusApi) as api:
        source = api.source(audius_users="gone,artist")
        refs = {ref.name: ref.remote_id for ref in source.playlists("users", progress=silent)}
        assert refs == {"gone": "users/gone", "The Artist": "users/artist"}
        with pytest.raises(PermanentError) as error:
            read(source, "users/gone")
        assert error.value.code == "playlist-missing"


# -- internet-archive -------------------------------------------------------------------------------------------------


def test_the_archive_gives_the_best_form_of_each_track_under_one_id() -> None:
    with running(ArchiveApi) as api:
        original = {"name": "t1.shn", "source": "original", "title": "Song 2", "length": "61.5"}
        api.songs = [
            original,
            {"name": "t1.mp3", "source": "derivative", "original": "t1.shn", "size": "5"},
            {"name": "t1.flac", "source": "derivative", "original": "t1.shn", "size": "9"},
            {"name": "t2.flac", "source": "original", "title": "Song 3", "artist": ["A", "B"], "length": "1:02:03"},
            {"name": "t2.mp3", "source": "derivative", "original": "t2.flac"},
            {"name": "t3.flac", "source": "original", "private": "true"},
            {"name": "notes.txt", "source": "original"},
        ]
        source = api.source()
        songs = {song.remote_id: song for song in read(source, "item-1").songs}
        assert set(songs) == {"item-1/t1.shn", "item-1/t2.flac"}
        assert (songs["item-1/t1.shn"].ext, songs["item-1/t1.shn"].size) == ("flac", 9)
        assert songs["item-1/t2.flac"].singers == ("A", "B")
        assert songs["item-1/t2.flac"].duration_seconds == 3723
        (candidate,) = source.candidates(source.refresh("item-1/t1.shn"))
        assert url_of(candidate) == f"{api.url}/download/item-1/t1.flac"


def test_the_archive_is_searched_for_what_has_a_licence_unless_told_otherwise() -> None:
    with running(ArchiveApi) as api:
        tricky = SearchQuery(name='Song 2" OR mediatype:*', singers=("The \\Artist",))
        api.source().search(tricky, limit=5)
        asked = next(query["q"][0] for path, query, _ in api.seen if path == "/advancedsearch.php")
        assert asked == (
            '("Song 2  OR mediatype:*" AND "The  Artist") AND mediatype:(audio OR etree) '
            "AND licenseurl:(*creativecommons*)"
        )
        api.seen.clear()
        api.source(internet_archive_any_licence=True).search(QUERY, limit=5)
        assert "licenseurl" not in api.seen[0][1]["q"][0]
        api.restricted = True  # type: ignore[attr-defined]
        assert api.source().search(QUERY, limit=5) == ()


def test_the_archive_opens_an_item_once_for_a_search_and_says_how_long_that_may_take() -> None:
    with running(ArchiveApi) as api:

        def answer(path: str, query: Any) -> Reply:
            if path == "/advancedsearch.php":
                return as_json({"response": {"docs": [{"identifier": f"item{number}"} for number in range(5)]}})
            return as_json({"metadata": {"title": "x", "mediatype": "audio"}, "files": []})

        api.answer = answer  # type: ignore[method-assign]
        source = api.source(source_timeout_seconds=10.0)
        assert source.search(SearchQuery(name="Regen (Live)", singers=("Ana",)), limit=5) == ()
        assert len(api.seen) == 3 + 5
        assert source.patience == 18 * 10.0, "were each item another one"


def test_one_broken_item_of_a_collection_costs_only_itself() -> None:
    with running(ArchiveApi) as api:
        source = api.source()

        def answer(path: str, query: Any) -> Reply:
            if path.endswith("/scrape"):
                items = [{"identifier": f"item-{number}"} for number in (1, 2, 3)] + [{"identifier": "../x"}, 7]
                return as_json({"items": items})
            if path == "/metadata/item-2":
                return as_json({"metadata": 7, "files": 8})
            return ArchiveApi.answer(api, path, query)  # type: ignore[arg-type]

        api.answer = answer  # type: ignore[method-assign]
        playlist = read(source, "netlabel")
        assert {song.metadata["item"] for song in playlist.songs} == {"item-1", "item-3"}
        assert any("item-2" in sentence for sentence in playlist.problems)
        assert playlist.ref.name == "A Netlabel"


def test_the_archive_being_away_is_not_the_fault_of_items() -> None:
    with running(ArchiveApi) as api:
        source = api.source()

        def answer(path: str, query: Any) -> Reply:
            if path.startswith("/metadata/item"):
                return Reply(status=503, headers={"Retry-After": "60"})
            return ArchiveApi.answer(api, path, query)  # type: ignore[arg-type]

        api.answer = answer  # type: ignore[method-assign]
        with pytest.raises(Waiting):
            read(source, "netlabel")


def test_an_identifier_that_cannot_be_one_is_refused_at_the_start() -> None:
    with pytest.raises(ConfigurationError) as error:
        load_sources(Settings(sources="internet-archive", internet_archive_collections="fine,a b"))
    assert "INTERNET_ARCHIVE_COLLECTIONS" in error.value.message


# -- wikimedia-commons ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", ["maxlag", "ratelimited", "internal_api_error_DBQueryError"])
def test_commons_is_left_alone_when_it_asks_for_it(code: str) -> None:
    with running(CommonsApi) as api:
        source = api.source()
        api.raw = as_json({"error": {"code": code, "info": "secret words", "lag": 7.5}})
        with pytest.raises(Waiting) as error:
            source.search(QUERY, limit=1)
        assert error.value.seconds >= 10 and "secret" not in error.value.message
        asked = api.api_requests
        with pytest.raises(Waiting):
            read(source, api.LIST)
        assert api.api_requests == asked


def test_commons_results_come_as_the_search_ordered_them() -> None:
    with running(CommonsApi) as api:
        source = api.source()
        api.songs = [api.entry(5, index=3), api.entry(6, index=1), api.entry(7, index=2)]
        assert [found.remote_id for found in source.search(QUERY, limit=5)] == ["6", "7", "5"]
        query = api.seen[-1][1]
        assert query["gsrsearch"] == ['filetype:audio "Song 2" "The Artist"'] and query["maxlag"] == ["5"]


def test_commons_categories_hold_other_things_too() -> None:
    with running(CommonsApi) as api:
        pictures = [api.entry(number, title=f"File:Cover {number}.jpg") for number in range(100, 160)]
        api.songs = [*pictures, *(api.entry(number) for number in range(1, 4))]
        playlist = read(api.source(), api.LIST)
        assert len(playlist.songs) == 3 and playlist.problems == ()
        song = playlist.songs[0]
        assert (song.singers, song.duration_seconds) == (("The Artist",), 180.5)
        assert song.metadata["licence"] == {
            "name": "CC BY-SA 4.0",
            "url": "https://creativecommons.org/licenses/by-sa/4.0",
        }


def test_commons_categories_of_nothing_but_pictures_come_to_an_end() -> None:
    with running(CommonsApi) as api:
        source = api.source()
        entry = api.entry
        api.entry = lambda number, **changes: entry(number, title=f"File:Cover {number}.jpg")  # type: ignore[method-assign]
        api.endless = True
        playlist = read(source, api.LIST)
        assert playlist.songs == () and any("goes on" in sentence for sentence in playlist.problems)
        assert api.api_requests <= 400


# -- toplists ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "path", "asked"),
    [
        (JamendoApi, "/v3.0/tracks/", ("order", ["popularity_week", "popularity_month", "popularity_total"])),
        (AudiusApi, "/v1/tracks/trending", ("time", ["week", "month", "allTime"])),
    ],
)
def test_each_toplist_is_a_pool_of_its_own(kind: type[Any], path: str, asked: tuple[str, list[str]]) -> None:
    with running(kind) as api:
        named = {f"{api.NAME}_toplists": "week,month,all-time"}
        source = api.source(**named)
        pools = [pool for pool in source.pools() if pool.kind == "toplist"]
        assert [pool.external_id for pool in pools] == [f"{api.NAME}-{one}" for one in ("week", "month", "all-time")]
        assert len({pool.name for pool in pools}) == 1, "they are one group"
        api.songs = [api.entry(number) for number in range(1, 150)]
        for pool in pools:
            (ref,) = source.playlists(pool.external_id, progress=silent)
            playlist = read(source, ref.remote_id)
            assert playlist.ref == ref and [song.name for song in playlist.songs[:2]] == ["Song 1", "Song 2"]
            assert len(playlist.songs) == 100
        queries = [query for where, query, _ in api.seen if where == path]
        assert [query[asked[0]] for query in queries] == [[one] for one in asked[1]]
        assert all(query["limit"] == ["100"] for query in queries)

        fewer = api.source(**{**named, f"{api.NAME}_toplists": "month"})
        for ask in (
            lambda: list(fewer.playlists(pools[0].external_id, progress=silent)),
            lambda: read(fewer, "toplists/week"),
        ):
            with pytest.raises(PermanentError):
                ask()
        with pytest.raises(ConfigurationError) as error:
            api.source(**{f"{api.NAME}_toplists": "week,year"})
        assert f"{api.NAME.upper()}_TOPLISTS holds 'year'" in error.value.message


# -- all --------------------------------------------------------------------------------------------------------------


def test_every_source_says_what_its_terms_are() -> None:
    names = "local,feed,subsonic,internet-archive,jamendo,audius,wikimedia-commons"
    sources = load_sources(Settings(sources=names))
    assert not sources.broken
    for source in sources.ready.values():
        described: object = source
        assert isinstance(described, Described) and described.about.title and described.about.licence.endswith(".")


def test_a_server_is_asked_no_more_often_than_agreed() -> None:
    with running(JamendoApi) as api:
        source = api.source(source_rates="audius=9, jamendo=20")
        moments: list[float] = []
        threads = [threading.Thread(target=lambda: source.search(QUERY, limit=1)) for _ in range(5)]
        original = api.answer

        def answer(path: str, query: Any) -> Reply:
            moments.append(time.monotonic())
            return original(path, query)

        api.answer = answer  # type: ignore[method-assign]
        # Not from the first arrival, which may be late itself: no turn is earlier than this.
        started = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(moments) == 5
        assert all(moment - started > turn / 20 - 0.001 for turn, moment in enumerate(sorted(moments)))


def test_what_is_not_found_is_looked_for_with_less() -> None:
    with running(JamendoApi) as api:
        source = api.source()
        api.songs = []
        query = SearchQuery(name="Regen（Live） [2012 Remaster]", singers=("Ana", "Bo"))
        assert source.search(query, limit=5) == ()
        asked = [query["search"][0] for _, query, _ in api.seen]
        assert asked == ["Regen（Live） [2012 Remaster] Ana", "Regen Ana", "Regen"]


def test_a_turn_that_is_far_away_keeps_no_thread() -> None:
    pace = Pace(source="jamendo", rate=0.01, patience=5)
    pace.take()
    with pytest.raises(TurnWaiting) as error:
        pace.take()
    assert error.value.seconds > 50 and "jamendo" in error.value.message


def test_rates_are_those_of_the_settings() -> None:
    settings = Settings(source_rates="jamendo=0.5, audius=20")
    assert (rate_of(settings, "jamendo", 2), rate_of(settings, "audius", 5), rate_of(settings, "feed", 3)) == (
        0.5,
        20,
        3,
    )


def test_licences_of_creative_commons_are_named() -> None:
    names = {
        "https://creativecommons.org/licenses/by-nc-nd/2.5/ch/": "CC BY-NC-ND 2.5",
        "http://creativecommons.org/publicdomain/zero/1.0/": "CC0 1.0",
        "http://creativecommons.org/publicdomain/mark/1.0/": "Public Domain Mark 1.0",
        "https://artlibre.org/licence/lal": "https://artlibre.org/licence/lal",
    }
    for url, name in names.items():
        licence = licence_of(url)
        assert licence is not None and (licence.name, licence.url) == (name, url)
    assert licence_of(None) is None
