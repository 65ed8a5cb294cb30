"""Sources are anybody's: whatever one does when it is searched costs the song that it was asked for, and no other."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any

import pytest

from common.contracts.work import SongDownload
from common.errors import MusicCloudError, PermanentError, TransientError
from downloader.adapters import resolver
from downloader.adapters.resolver import MAX_CANDIDATES, MAX_RESULTS, SourceDesk
from downloader.errors import Stopped
from sources.api.pace import Pace, TurnWaiting
from sources.port import Found, Health, HttpCandidate, Licence, SearchQuery
from sources.registry import Sources

QUERY = SearchQuery(name="Name", singers=("Singer",))


class PlugIn:
    """A source that answers what a test says."""

    name = "plug"

    def __init__(self, answer: Callable[[], Any]) -> None:
        self.answer = answer

    def health(self) -> Health:
        answer: Health = self.answer()
        return answer

    def search(self, query: SearchQuery, *, limit: int) -> Any:
        return self.answer()

    def refresh(self, remote_id: str) -> Any:
        return self.answer()

    def candidates(self, found: Found) -> Any:
        return self.answer()

    def resolve(self, song: SongDownload) -> Any:
        return self.answer()


def desk(answer: Callable[[], Any], *, patience: float = 30.0) -> SourceDesk:
    return SourceDesk(Sources(ready={"plug": PlugIn(answer)}), patience=patience, tell_every=0.01)  # type: ignore[dict-item]


def found(remote_id: Any = "1", **values: Any) -> Found:
    given: dict[str, Any] = {"source": "plug", "name": "Name", "singers": ("Singer",), **values}
    return Found(remote_id=remote_id, **given)


def search(answer: Callable[[], Any]) -> list[Found]:
    return list(desk(answer).search("plug", QUERY, waited=lambda _: None))


def fail(error: BaseException) -> Any:
    raise error


@pytest.mark.parametrize(
    "error", [ValueError("x"), TimeoutError(), RecursionError(), AttributeError("found"), OSError(28, "disk")]
)
def test_whatever_a_plug_in_raises_is_an_error_of_ours(error: Exception) -> None:
    with pytest.raises(TransientError) as caught:
        search(lambda: fail(error))
    assert caught.value.code == "source-failed"
    with pytest.raises(TransientError):
        desk(lambda: fail(error)).candidates(found(), waited=lambda _: None)
    assert not desk(lambda: fail(error)).can_search("plug")


def test_its_own_errors_stay_what_they_are() -> None:
    error = PermanentError("No.", code="access-refused")
    with pytest.raises(PermanentError) as caught:
        search(lambda: fail(error))
    assert caught.value is error


@pytest.mark.parametrize("answer", [None, 7, [None, 7, "text", {"source": "plug"}], [[]]])
def test_what_is_no_list_of_results_is_none(answer: Any) -> None:
    try:
        assert search(lambda: answer) == []
    except TransientError as error:
        assert error.code == "source-failed"


def test_of_endless_results_the_first_are_taken_and_each_once() -> None:
    def endless() -> Iterator[Found]:
        return (found(str(number // 2)) for number in itertools.count())

    assert [one.remote_id for one in search(endless)] == [str(number) for number in range(MAX_RESULTS // 2)]


@pytest.mark.parametrize("remote_id", ["", "a\0b", "line\nbreak", "\ud800", "x" * 1001, 7, None, b"1"])
def test_a_result_without_a_usable_id_is_left_out(remote_id: Any) -> None:
    assert [one.remote_id for one in search(lambda: [found(remote_id), found("good id")])] == ["good id"]


def test_another_sources_copy_is_left_out() -> None:
    assert search(lambda: [found(source="other")]) == []


@pytest.mark.parametrize("name", [None, "", "\0", 7, ["Name"]])
def test_a_result_without_a_name_is_left_out(name: Any) -> None:
    assert search(lambda: [found(name=name)]) == []


def test_values_are_cleaned_one_by_one() -> None:
    (one,) = search(
        lambda: [
            found(
                name="Na\0me\u202e\n" + "x" * 1_000_000,
                singers=("Sin\0ger", None, 7, "Other"),
                album={"name": "x"},
                duration_seconds=float("nan"),
                ext="exe",
                size=-1,
                bitrate=float("inf"),
                lossless="no",
                licence=Licence(name="CC BY 4.0"),
                metadata={"key": "its own"},
            )
        ]
    )
    assert one.name.startswith("Name x") and len(one.name) < 2000
    assert one.singers == ("Singer", "Other")
    assert (one.album, one.duration_seconds, one.ext, one.size, one.bitrate, one.lossless) == (None,) * 5 + (False,)
    assert one.licence == Licence(name="CC BY 4.0")
    assert one.metadata == {"key": "its own"}, "the source may need it to find the bytes"


def test_only_places_of_its_own_are_taken_and_not_endlessly_many() -> None:
    def places() -> Iterable[Any]:
        yield "http://elsewhere"
        yield HttpCandidate(source="other", url="http://other")
        while True:
            yield HttpCandidate(source="plug", url="http://own")

    offered = desk(places).candidates(found(), waited=lambda _: None)
    assert [one.source for one in offered] == ["plug"] * (MAX_CANDIDATES - 2)


def test_a_source_that_never_answers_is_left_after_a_while_and_others_are_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resolver, "MAX_UNANSWERED", 2)
    never = threading.Event()
    silent = desk(lambda: never.wait() and [], patience=0.05)
    for code in ("source-silent", "source-silent", "source-silent"):
        with pytest.raises(TransientError) as caught:
            silent.search("plug", QUERY, waited=lambda _: None)
        assert caught.value.code == code
    assert "2 questions" in caught.value.message, "no more threads are spent on it"
    never.set()


def test_waiting_for_turns_is_no_silence_and_what_has_begun_is_not_sent_away() -> None:
    pace = Pace(source="plug", rate=20.0, patience=0.1)

    def asks() -> list[Found]:
        for _ in range(10):
            pace.take()
        return [found()]

    polite = desk(asks, patience=0.2)
    with ThreadPoolExecutor(4) as threads:
        searches = [threads.submit(polite.search, "plug", QUERY, waited=lambda _: None) for _ in range(4)]
        outcomes = [one.exception() for one in searches]
    assert None in outcomes
    assert {type(one) for one in outcomes if one is not None} <= {TurnWaiting}, "those that never had a turn wait"


@pytest.mark.parametrize(("patience", "left_alone"), [(30.0, False), (None, True), (-1, True), ("long", True)])
def test_a_source_says_for_itself_how_long_its_answers_take(patience: Any, left_alone: bool) -> None:
    def late() -> list[Found]:
        time.sleep(0.3)
        return [found()]

    slow = PlugIn(late)
    slow.patience = patience  # type: ignore[attr-defined]
    asked = SourceDesk(Sources(ready={"plug": slow}), patience=0.05, tell_every=0.01)  # type: ignore[dict-item]
    with pytest.raises(TransientError) if left_alone else nullcontext():
        assert asked.search("plug", QUERY, waited=lambda _: None) == [found()]


def test_who_waits_is_told_so_while_it_waits() -> None:
    """An item that only waits would be taken for one that stalls."""
    told = threading.Event()
    assert desk(lambda: told.wait() and [found()]).search("plug", QUERY, waited=lambda _: told.set())


def test_who_waits_can_give_up() -> None:
    never = threading.Event()

    def stop(_: float) -> None:
        raise Stopped

    with pytest.raises(Stopped):
        desk(lambda: never.wait() and []).own(
            SongDownload(job_id=1, source="plug", song_id=1, remote_id="1", name="N"), waited=stop
        )
    never.set()


def test_a_refreshed_result_is_one_of_the_source_or_none() -> None:
    assert desk(lambda: None).refresh("plug", "1", waited=lambda _: None) is None
    assert desk(lambda: found(source="other")).refresh("plug", "1", waited=lambda _: None) is None
    refreshed = desk(lambda: found("2")).refresh("plug", "1", waited=lambda _: None)
    assert refreshed is not None and refreshed.remote_id == "2"


def test_what_is_not_in_use_or_cannot_be_searched_is_said() -> None:
    with pytest.raises(MusicCloudError) as caught:
        desk(list).search("unknown", QUERY, waited=lambda _: None)
    assert caught.value.code == "source-unknown"
