"""What the bridge to musicdl makes of results and lists: cleaned songs, addresses for our own client, lasting ids."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from common.contracts.work import SongDownload
from common.errors import PermanentError, TransientError
from downloader.adapters.resolver import MAX_PATIENCE
from musicdl_bridge import source as bridge_source
from musicdl_bridge.source import MusicdlSource
from sources.port import Described, Found, HttpCandidate, Licence, Searchable, Song, Source
from tests.support.musicdl import bridge, interpreter, look_for

LISTS = (("jamendo", "500"), ("ccmixter", "slow"))


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return interpreter(tmp_path_factory.mktemp("python"))


@pytest.fixture(scope="module")
def one(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MusicdlSource]:
    with bridge(python, tmp_path_factory.mktemp("state"), clients=("jamendo",), lists=LISTS[:1]) as source:
        yield source


class Unknown:
    def unchanged(self, fingerprints: Mapping[str, str]) -> Mapping[str, Song]:
        return {}


def nothing(done: int, total: int | None = None) -> None:
    """Progress that nobody looks at."""


def address(source: MusicdlSource, found: Found) -> HttpCandidate:
    (candidate,) = source.candidates(found)
    assert isinstance(candidate, HttpCandidate)
    return candidate


def request(source: MusicdlSource, remote_id: str, name: str) -> SongDownload:
    return SongDownload(job_id=1, source=source.name, song_id=1, remote_id=remote_id, name=name, singers=("Ana",))


def test_it_is_a_source_that_can_be_searched(one: MusicdlSource) -> None:
    ported: Source = one
    assert isinstance(ported, Searchable) and isinstance(ported, Described)
    assert one.health().available


def test_a_result_is_cleaned_and_has_an_address(one: MusicdlSource) -> None:
    first = look_for(one, "Rain")[0]
    assert first == Found(
        source="musicdl",
        remote_id="jamendo/1001",
        name="Rain",
        singers=("Ana",),
        duration_seconds=183.0,
        ext="mp3",
        size=12345,
        metadata={"found_by": "musicdl, Jamendo"},
    )
    candidate = address(one, first)
    assert candidate.url == "https://files.example.org/JamendoMusicClient/1.mp3" and not candidate.allow_private
    assert candidate.headers == {"User-Agent": "a browser"}


def test_values_of_wrong_types_cost_themselves(one: MusicdlSource) -> None:
    (good,) = look_for(one, "wrong types")
    assert good.remote_id == "jamendo/1004" and good.name == "Good one"
    assert (good.singers, good.album, good.duration_seconds, good.size) == ((), None, None, None)


def test_what_is_no_plain_file_that_may_be_had_is_left_out(one: MusicdlSource) -> None:
    assert [found.remote_id for found in look_for(one, "unusable")] == ["jamendo/1003", "jamendo/1004", "jamendo/1005"]


def test_at_audius_only_what_its_artist_offers_is_taken(python: Path, tmp_path: Path) -> None:
    with bridge(python, tmp_path, clients=("audius",)) as source:
        assert [found.remote_id for found in look_for(source, "unusable")] == ["audius/1004"]


def test_only_harmless_headers_are_passed_on(one: MusicdlSource) -> None:
    candidate = address(one, look_for(one, "headers")[0])
    assert candidate.headers == {
        "User-Agent": "a browser",
        "Referer": "https://example.org/",
        "Cookie": "session=abc",
    }
    assert "abc" not in repr(candidate)


def test_a_licence_is_kept(one: MusicdlSource) -> None:
    assert look_for(one, "licence")[0].licence == Licence(
        name="CC BY-SA 4.0", url="https://creativecommons.org/licenses/by-sa/4.0"
    )


def test_an_address_that_is_old_is_asked_for_again(one: MusicdlSource, monkeypatch: pytest.MonkeyPatch) -> None:
    found = look_for(one, "Rain")[0]
    monkeypatch.setattr(bridge_source, "FRESH_SECONDS", 0.0)
    with pytest.raises(PermanentError) as raised:
        one.candidates(found)
    assert raised.value.code == "source-file-missing"
    monkeypatch.undo()
    (candidate,) = one.resolve(request(one, "jamendo/1002", "Rain"))
    assert isinstance(candidate, HttpCandidate) and candidate.url.endswith("/2.mp3")


def test_a_song_that_is_not_found_again_is_missing(one: MusicdlSource) -> None:
    with pytest.raises(PermanentError) as raised:
        one.resolve(request(one, "jamendo/77", "Rain"))
    assert raised.value.code == "source-file-missing"


def test_a_song_of_a_site_that_is_away_is_not_missing(python: Path, tmp_path: Path) -> None:
    with bridge(python, tmp_path) as source:
        with pytest.raises(TransientError) as raised:
            source.resolve(request(source, "fma/1001", "only jamendo works:"))
        assert raised.value.code == "musicdl-failed"
        assert source.resolve(request(source, "jamendo/1001", "only jamendo works:"))
        with pytest.raises(PermanentError):
            source.resolve(request(source, "gone/1001", "only jamendo works:"))


def test_a_chosen_result_is_found_again_by_its_words_also_in_another_process(python: Path, tmp_path: Path) -> None:
    with bridge(python, tmp_path) as first:
        (kept, *_) = look_for(first, "Rain")
    with bridge(python, tmp_path) as second:
        again = second.refresh(kept.remote_id)
        assert again is not None and again.remote_id == kept.remote_id
        assert address(second, again).url.endswith("JamendoMusicClient/1.mp3")
        with pytest.raises(PermanentError) as raised:
            second.refresh("jamendo/never-seen")
    assert raised.value.code == "musicdl-words-unknown"


def test_a_damaged_memory_of_words_stops_no_search(python: Path, tmp_path: Path) -> None:
    (tmp_path / "words.sqlite3").write_bytes(b"no database" * 1000)
    with bridge(python, tmp_path, clients=("jamendo",)) as source:
        assert len(look_for(source, "Rain")) == 2


def test_an_old_name_keeps_its_own_ids_and_uses_nobodys_account(python: Path, tmp_path: Path) -> None:
    with bridge(python, tmp_path, name="netease", clients=("netease",)) as source:
        (found,) = look_for(source, "cookies")
        assert (found.source, found.remote_id) == ("netease", "1001")
        assert found.name == "cookies {'os': 'pc'}"
        (candidate,) = source.resolve(request(source, "1002", "Rain"))
        assert candidate.source == "netease"


def test_lists_that_are_named_are_a_pool(one: MusicdlSource) -> None:
    (pool,) = one.pools()
    (ref,) = one.playlists(pool.external_id, progress=nothing)
    assert ref.remote_id == "jamendo/500"
    playlist = one.read(ref.remote_id, known=Unknown(), progress=nothing)
    assert playlist.ref.name == "Rainy days"
    assert [song.remote_id for song in playlist.songs] == ["jamendo/1000", "jamendo/1001", "jamendo/1002"]
    assert playlist.songs[0].singers == ("Ana, Ben",)
    with pytest.raises(PermanentError, match="PLUGIN_MUSICDL_PLAYLISTS"):
        one.read("jamendo/other", known=Unknown(), progress=nothing)
    with pytest.raises(PermanentError):
        list(one.playlists("other", progress=nothing))


def test_a_long_reading_says_so_and_can_be_stopped(python: Path, tmp_path: Path) -> None:
    class NotWanted(Exception):
        """Whoever waited for the list is gone."""

    told: list[int] = []

    def progress(done: int, total: int | None = None) -> None:
        told.append(done)

    def stop(done: int, total: int | None = None) -> None:
        raise NotWanted

    with bridge(python, tmp_path, clients=("ccmixter",), lists=LISTS[1:]) as source:
        assert len(source.read("ccmixter/slow", known=Unknown(), progress=progress).songs) == 3
        assert len(told) >= 2
        with pytest.raises(NotWanted):
            source.read("ccmixter/slow", known=Unknown(), progress=stop)
        assert len(look_for(source, "Rain")) == 2


def test_the_singers_of_joined_names_are_told_apart(python: Path, tmp_path: Path) -> None:
    with bridge(python, tmp_path, name="qq", clients=("qq",), lists=(("qq", "8"),)) as source:
        assert source.read("8", known=Unknown(), progress=nothing).songs[0].singers == ("Ana", "Ben")


def test_it_is_given_the_time_of_three_searches(python: Path, tmp_path: Path) -> None:
    with bridge(python, tmp_path, search_seconds=600.0) as source:
        assert 3 * 600 < source.patience <= MAX_PATIENCE, "the longest that may be set"
