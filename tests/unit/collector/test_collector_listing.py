"""Which songs of a reading are news."""

from __future__ import annotations

from collector.ports import GivenUp, Holding, KnownSong
from collector.service.listing import digest_of, listed, owner_of, read_songs, wish_of
from collector.service.wanted import is_missing
from common.contracts.facts import SongListed
from sources.port import Song

OWNER = 7


def song(name: str = "Song", *, remote_id: str = "a.mp3", fingerprint: str | None = None, **more: object) -> Song:
    return Song(remote_id=remote_id, name=name, fingerprint=fingerprint, **more)  # type: ignore[arg-type]


def known(
    one: Song, *, song_id: int = 1, platform: str = "local", owner: int = OWNER, removed: bool = False
) -> KnownSong:
    fact = listed(one, song_id=song_id, platform=platform, owner=owner)
    return KnownSong(
        song_id, platform, one.remote_id, digest_of(fact), wish_of(fact), one.fingerprint, owner_of(fact), removed
    )


def news(
    one: Song, before: KnownSong | None, *, playlist: int = OWNER, owner_lists: bool = True
) -> tuple[SongListed, ...]:
    reading = read_songs(
        [(1, one)],
        platform="local",
        playlist_id=playlist,
        known={1: before} if before else {},
        untouched={},
        owners_listing=frozenset({(before.owner, 1)} if before and before.owner and owner_lists else ()),
    )
    assert reading.ids == (1,)
    return reading.facts


def test_a_new_song_is_news_and_the_same_again_is_not() -> None:
    (fact,) = news(song(), None)
    assert (fact.song_id, fact.remote_id, owner_of(fact)) == (1, "a.mp3", OWNER)
    assert news(song(), known(song())) == ()
    assert news(song("Other"), known(song())) != ()
    assert news(song(metadata={"track": "1"}), known(song())) != ()


def test_a_withdrawn_song_that_is_listed_again_is_news() -> None:
    assert news(song(), known(song(), removed=True)) != ()


def test_two_lists_that_name_a_song_differently_do_not_overwrite_each_other() -> None:
    before = known(song("By its owner"))
    assert news(song("By another"), before, playlist=8) == ()
    assert news(song("By its owner, changed"), before) != ()
    (fact,) = news(song("By another"), before, playlist=8, owner_lists=False)
    assert owner_of(fact) == 8


def test_a_file_that_changed_is_news_whoever_reads_it_and_one_that_is_gone_is_not() -> None:
    before = known(song("Tagged", fingerprint="1"))
    assert news(song("Tagged anew", fingerprint="2"), before, playlist=8) != ()
    assert news(song("From the list"), before) == ()


def test_a_song_taken_over_from_the_record_is_not_even_compared() -> None:
    one = song("as it was")
    reading = read_songs(
        [(1, one), (1, one)],
        platform="local",
        playlist_id=OWNER,
        known={1: known(song("something else"))},
        untouched={one.remote_id: one},
        owners_listing=frozenset(),
    )
    assert (reading.ids, reading.facts) == ((1, 1), ())


def test_a_collision_of_ids_is_refused_with_its_reason() -> None:
    for other in (known(song(remote_id="other.mp3")), known(song(), platform="feed")):
        reading = read_songs(
            [(1, song())],
            platform="local",
            playlist_id=OWNER,
            known={1: other},
            untouched={},
            owners_listing=frozenset(),
        )
        assert (reading.ids, reading.facts) == ((), ())
        assert "same derived id" in reading.collisions[0]
    within = read_songs(
        [(1, song()), (1, song(remote_id="b.mp3"))],
        platform="local",
        playlist_id=OWNER,
        known={},
        untouched={},
        owners_listing=frozenset(),
    )
    assert within.ids == (1,) and len(within.collisions) == 1


def test_what_is_missing() -> None:
    def missing(holding: Holding, *, fingerprint: str | None = "1", present: bool = True) -> bool:
        return is_missing(holding, wish="w", fingerprint=fingerprint, present=present)

    assert missing(Holding())
    assert not missing(Holding(stored=frozenset({None})))
    assert not missing(Holding(stored=frozenset({"1"})))
    assert missing(Holding(stored=frozenset({"2"})))
    assert not missing(Holding(stored=frozenset({"2"})), fingerprint=None)
    assert not missing(Holding(given_up=GivenUp(wish="w", code="not-audio")))
    assert missing(Holding(given_up=GivenUp(wish="older", code="not-audio")))
    gone = Holding(given_up=GivenUp(wish="w", code="source-file-missing"))
    assert missing(gone, present=True) and not missing(gone, present=False)
