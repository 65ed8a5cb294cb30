"""A song that its own source cannot give is found elsewhere; a person's choice is final."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from common.contracts.work import SongDownload
from common.errors import DependencyDown, MusicCloudError, PermanentError, TransientError, Unreachable
from downloader.errors import Stopped
from downloader.ports import Choice
from downloader.service.store import Already
from sources.port import FileCandidate, Found
from tests.integration.downloader.harness import Pipeline, make_song
from tests.support.audio import make_audio

GONE = PermanentError("The server does not have it (404).", code="source-file-missing")


@pytest.fixture
def pipeline(tmp_path: Path) -> Iterator[Pipeline]:
    made = Pipeline(tmp_path)
    yield made
    made.close()


class Shelf:
    """Files that search results lead to."""

    def __init__(self, pipeline: Pipeline, folder: Path) -> None:
        self._pipeline = pipeline
        self._folder = folder
        folder.mkdir()

    def put(
        self,
        source: str,
        remote_id: str,
        *,
        name: str = "Name",
        singer: str = "Singer",
        seconds: float = 2.0,
        pitch: float = 440.0,
        broken: bool = False,
    ) -> Found:
        path = self._folder / f"{source}-{remote_id}.flac"
        if broken:
            path.write_bytes(b"<html>sign in</html>" * int(pitch))
        else:
            make_audio(path, seconds=seconds, frequency=pitch)
        found = Found(
            source=source,
            remote_id=remote_id,
            name=name,
            singers=(singer,),
            duration_seconds=2.0,
            ext="flac",
            lossless=True,
        )
        self._pipeline.sources.results.setdefault(source, []).append(found)  # type: ignore[union-attr]
        self._pipeline.sources.candidates_of[remote_id] = [FileCandidate(source=source, path=path, locator=path.name)]
        return found


@pytest.fixture
def shelf(pipeline: Pipeline, tmp_path: Path) -> Shelf:
    return Shelf(pipeline, tmp_path / "shelf")


def song() -> SongDownload:
    return make_song("gone", duration_seconds=2.0)


def stored(pipeline: Pipeline, **how: object) -> tuple[str | None, str | None]:
    """Store the song; where the bytes came from."""
    fact = pipeline.complete(pipeline.request(song(), **how))  # type: ignore[arg-type]
    return fact.candidate_source, fact.candidate_remote_id


def refused(pipeline: Pipeline, **how: object) -> MusicCloudError:
    with pytest.raises(MusicCloudError) as caught:
        pipeline.run(pipeline.request(song(), **how))  # type: ignore[arg-type]
    return caught.value


def test_what_the_own_source_lost_is_found_elsewhere(pipeline: Pipeline, shelf: Shelf) -> None:
    pipeline.sources.errors["gone"] = GONE
    pipeline.sources.results["empty"] = []
    shelf.put("archive", "a1")
    assert stored(pipeline) == ("archive", "a1")
    assert pipeline.sources.asked == ["own feed", "search empty", "search archive"]
    assert "resolving source archive (2/2)" in [words for _, _, words in pipeline.seen]
    told = pipeline.numbers.tell({"origin": "feed"}, ["empty", "archive"])["sources"]
    assert [(one["source"], one["counts"]["attempts"], one["counts"]["successes"]) for one in told] == [
        ("archive", 1, 1),
        ("empty", 1, 0),
    ]


def test_what_was_counted_for_sources_that_are_gone_is_told_too(pipeline: Pipeline) -> None:
    for origin, candidate in (("feed", "archive"), ("feed", "gone"), ("adopted", "archive")):
        pipeline.numbers.record_fallback_result(origin, candidate, succeeded=True)

    def pairs(table: dict[str, Any]) -> tuple[str, list[str], list[str]]:
        return table["origin"], [one["source"] for one in table["sources"]], [one["source"] for one in table["others"]]

    told = pipeline.numbers.tell({}, ["archive", "feed"])["items"]
    assert [pairs(one) for one in told] == [("adopted", ["archive", "feed"], []), ("feed", ["archive"], ["gone"])]
    assert told[1] == pipeline.numbers.tell({"origin": "feed"}, ["archive", "feed"])
    assert pairs(pipeline.numbers.tell({"origin": "new"}, ["archive"])) == ("new", ["archive"], [])
    for wrong in ("", 7, "x" * 65):
        with pytest.raises(PermanentError):
            pipeline.numbers.tell({"origin": wrong}, ["archive"])


def test_experience_orders_the_others(pipeline: Pipeline, shelf: Shelf) -> None:
    pipeline.sources.errors["gone"] = GONE
    pipeline.sources.results["empty"] = []
    shelf.put("archive", "a1")
    stored(pipeline)
    pipeline.sources.asked.clear()
    stored(pipeline)
    assert pipeline.sources.asked == ["own feed", "search archive"]


def test_only_listed_sources_are_asked_in_their_order(pipeline: Pipeline, shelf: Shelf) -> None:
    pipeline.sources.errors["gone"] = GONE
    shelf.put("archive", "a1")
    shelf.put("jamendo", "j1")
    pipeline.order = ("jamendo", "archive")
    assert stored(pipeline) == ("jamendo", "j1"), "and the own source is not asked where it is not listed"
    assert pipeline.sources.asked == ["search jamendo"]
    assert stored(pipeline, only=("archive",)) == ("archive", "a1"), "a job may list others"


def test_the_next_result_is_tried_when_the_bytes_of_one_are_not_the_song(pipeline: Pipeline, shelf: Shelf) -> None:
    pipeline.sources.errors["gone"] = GONE
    shelf.put("archive", "a1", broken=True)
    shelf.put("jamendo", "j1")
    assert stored(pipeline) == ("jamendo", "j1")
    told = {one["source"]: one["counts"] for one in pipeline.numbers.tell({"origin": "feed"}, ["archive"])["sources"]}
    assert (told["archive"]["successes"], told["archive"]["refuted"]) == (1, 1)


def test_another_recording_is_not_taken(pipeline: Pipeline, shelf: Shelf) -> None:
    pipeline.sources.errors["gone"] = GONE
    shelf.put("archive", "a1", name="Name (Remix)")
    shelf.put("archive", "a2", name="Something else")
    error = refused(pipeline)
    assert isinstance(error, PermanentError)
    assert "does not have it" in error.message
    kept = pipeline.matches.get(song().song_id)
    assert {one["remote_id"] for one in kept} == {"a1", "a2"}
    assert {one["verdict"] for one in kept} <= {"refused", "review"}
    assert pipeline.files() == []


@pytest.mark.parametrize("error", [DependencyDown("away"), TransientError("busy")])
def test_a_source_that_may_answer_later_is_waited_for(pipeline: Pipeline, shelf: Shelf, error: MusicCloudError) -> None:
    pipeline.sources.errors["gone"] = error
    shelf.put("archive", "a1")
    assert refused(pipeline, last_try=False) is error
    assert pipeline.sources.asked == ["own feed"]


@pytest.mark.parametrize("error", [TransientError("busy"), Unreachable("no answer for an hour")])
def test_a_source_that_is_given_up_is_replaced(pipeline: Pipeline, shelf: Shelf, error: MusicCloudError) -> None:
    pipeline.sources.errors["gone"] = error
    shelf.put("archive", "a1")
    assert stored(pipeline, last_try=True) == ("archive", "a1")


def test_another_source_that_is_down_holds_up_nobody(pipeline: Pipeline) -> None:
    pipeline.sources.errors["gone"] = GONE
    pipeline.sources.results["archive"] = DependencyDown("archive is away", retry_after=7)
    error = refused(pipeline)
    assert isinstance(error, TransientError), "all songs of the own source would wait for it else"
    assert error.retry_after == 7
    told = pipeline.numbers.tell({"origin": "feed"}, ["archive"])["sources"]
    assert told[0]["counts"]["attempts"] == 0, "it did not say that it lacks the song"


def test_a_choice_is_taken_before_the_own_source_and_nothing_in_its_place(pipeline: Pipeline, shelf: Shelf) -> None:
    own = shelf.put("feed", "gone")
    shelf.put("archive", "a1", name="Quite another name", pitch=550.0)
    choice = Choice(match=("archive", "a1"))
    assert stored(pipeline, choice=choice) == ("archive", "a1")
    assert own.source == "feed"
    pipeline.sources.results["archive"] = []
    error = refused(pipeline, choice=choice)
    assert (error.code, type(error)) == ("match-gone", PermanentError)


def test_what_a_person_banned_is_never_taken(pipeline: Pipeline, shelf: Shelf) -> None:
    shelf.put("feed", "gone")
    shelf.put("archive", "a1")
    shelf.put("jamendo", "j1", pitch=550.0)
    banned = frozenset({("feed", "gone"), ("archive", "a1")})
    assert stored(pipeline, choice=Choice(banned=banned)) == ("jamendo", "j1")
    assert {one["remote_id"]: one["verdict"] for one in pipeline.matches.get(song().song_id)}["a1"] == "banned"


def test_a_stored_file_is_replaced_when_a_person_chooses_another(pipeline: Pipeline, shelf: Shelf) -> None:
    shelf.put("feed", "gone")
    shelf.put("archive", "a1", pitch=550.0)
    first = pipeline.complete(pipeline.request(song()))
    again = pipeline.run(pipeline.request(song(), cause="try-2", known=first))
    assert isinstance(again, Already)
    choice = Choice(match=("archive", "a1"))
    second = pipeline.complete(pipeline.request(song(), cause="try-3", known=first, choice=choice))
    assert (second.candidate_source, second.candidate_remote_id) == ("archive", "a1")
    assert second.sha256 != first.sha256
    assert len(pipeline.files()) == 1
    assert len(pipeline.trash()) == 1


@pytest.mark.parametrize(
    ("own", "elsewhere"),
    [(Unreachable("silent for an hour"), []), (GONE, Unreachable("archive was silent for an hour"))],
)
def test_what_one_could_not_ask_may_be_had_by_a_later_job(
    pipeline: Pipeline, own: MusicCloudError, elsewhere: list[Found] | MusicCloudError
) -> None:
    pipeline.sources.errors["gone"] = own
    pipeline.sources.results["archive"] = elsewhere
    error = refused(pipeline)
    assert isinstance(error, Unreachable), "a permanent error is given up, and no later job asks for the song"
    assert own.message in error.message
    assert ("archive was silent" if own is GONE else "not found at archive") in error.message


def test_what_is_doubtful_is_said_also_where_tries_are_used_up(pipeline: Pipeline, shelf: Shelf) -> None:
    pipeline.sources.errors["gone"] = TransientError("busy")
    shelf.put("archive", "a1", singer="Singr")
    error = refused(pipeline)
    assert (error.code, type(error)) == ("match-doubtful", TransientError)
    assert "1 recording elsewhere may be it" in error.message


def test_a_full_disk_holds_the_lane_whosever_bytes_they_are(tmp_path: Path) -> None:
    pipeline = Pipeline(tmp_path, reserve=2**60)
    shelf = Shelf(pipeline, tmp_path / "shelf")
    pipeline.sources.errors["gone"] = GONE
    shelf.put("archive", "a1")
    shelf.put("jamendo", "j1")
    assert isinstance(refused(pipeline), DependencyDown)
    assert pipeline.sources.asked == ["own feed", "search archive"], "none other could be stored either"
    pipeline.close()


def test_a_song_counts_once_however_often_its_job_tries_it(pipeline: Pipeline, shelf: Shelf) -> None:
    pipeline.sources.errors["gone"] = GONE
    pipeline.sources.results["busy"] = TransientError("busy")
    pipeline.sources.results["empty"] = []
    for one, pitch in (("a1", 440.0), ("a2", 550.0)):
        shelf.put("archive", one, broken=True, pitch=pitch)
    for _ in range(3):
        refused(pipeline, last_try=False)
    assert counts(pipeline, "archive") == (1, 1, 1), "two broken files are one success that was refused"
    assert counts(pipeline, "empty") == (1, 0, 0)
    assert counts(pipeline, "busy") == (0, 0, 0)
    pipeline.sources.results["busy"] = []
    refused(pipeline)
    shelf.put("empty", "e1", pitch=660.0)
    stored(pipeline)
    assert counts(pipeline, "empty") == (2, 1, 0), "another answer is another try"
    with pytest.raises(PermanentError):
        pipeline.sources.results.clear()
        pipeline.sources.results["empty"] = []
        pipeline.run(pipeline.request(song().model_copy(update={"job_id": 2})))
    assert counts(pipeline, "empty") == (3, 1, 0), "and so is another job"


def counts(pipeline: Pipeline, source: str) -> tuple[int, int, int]:
    (told,) = pipeline.numbers.tell({"origin": "feed"}, [source])["sources"]
    return told["counts"]["attempts"], told["counts"]["successes"], told["counts"]["refuted"]


def test_what_a_person_chose_is_no_try(pipeline: Pipeline, shelf: Shelf) -> None:
    pipeline.numbers.record_fallback_result("feed", "archive", succeeded=False)
    shelf.put("archive", "a1")
    assert stored(pipeline, choice=Choice(match=("archive", "a1"))) == ("archive", "a1")
    (told,) = pipeline.numbers.tell({"origin": "feed"}, ["archive"])["sources"]
    assert (told["counts"]["attempts"], told["counts"]["verified"]) == (1, 0)


def test_only_what_a_person_chose_passes_the_gates(pipeline: Pipeline, shelf: Shelf) -> None:
    pipeline.sources.errors["gone"] = GONE
    shelf.put("archive", "a1", seconds=20.0)
    forced = song().model_copy(update={"force": True})
    with pytest.raises(PermanentError, match=r"archive: The file is 0:20\.0 long"):
        pipeline.run(pipeline.request(forced))
    chosen = pipeline.complete(pipeline.request(song(), choice=Choice(match=("archive", "a1"))))
    assert chosen.candidate_remote_id == "a1", "also when a later job asks, without force"


@pytest.mark.parametrize("choice", [Choice(match=("jamendo", "j1")), Choice(banned=frozenset({("archive", "a1")}))])
def test_what_a_crash_left_is_not_taken_over_against_a_choice(pipeline: Pipeline, shelf: Shelf, choice: Choice) -> None:
    pipeline.sources.errors["gone"] = GONE
    shelf.put("archive", "a1")
    shelf.put("jamendo", "j1", pitch=550.0)
    pipeline.run(pipeline.request(song()))  # in its place, and the program ends before the fact is out
    assert len(pipeline.files()) == 1
    assert stored(pipeline, choice=choice) == ("jamendo", "j1")
    assert (len(pipeline.files()), len(pipeline.trash())) == (1, 1), "the other is no file that nobody knows of"


def test_a_search_that_takes_long_says_so_and_can_be_stopped(pipeline: Pipeline, shelf: Shelf) -> None:
    pipeline.sources.errors["gone"] = GONE
    pipeline.sources.waits = [5.0, 10.0]
    shelf.put("archive", "a1")
    stored(pipeline)
    assert [words for _, _, words in pipeline.seen if words][:3] == [
        "resolving source archive (1/1)",
        "resolving source archive (1/1), 5 s",
        "resolving source archive (1/1), 10 s",
    ]
    pipeline.canceled.set()
    assert isinstance(refused(pipeline), Stopped)


def test_who_was_asked_and_why_is_kept(pipeline: Pipeline, shelf: Shelf) -> None:
    pipeline.sources.errors["gone"] = GONE
    pipeline.sources.results |= {"feed": [], "busy": TransientError("It is busy."), "empty": []}
    shelf.put("archive", "a1")
    stored(pipeline)
    kept = pipeline.matches.tell({"song_id": song().song_id})["search"]
    assert [(one["source"], one["accepted"], one["verified"], one["problem"]) for one in kept["asked"]] == [
        ("feed", 0, None, None),
        ("busy", 0, None, "It is busy."),
        ("empty", 0, None, None),
        ("archive", 1, True, None),
    ]
    assert kept["asked"][0]["why"] == "The song's own source comes first."
    assert kept["asked"][1]["why"] == "Never tried; counts 0.5."
    assert kept["job_id"] == 1


def test_the_listing_is_not_fetched_again_because_a_search_finds_it_too(pipeline: Pipeline, shelf: Shelf) -> None:
    shelf.put("feed", "gone", broken=True)
    assert "feed:" not in refused(pipeline).message
    assert pipeline.sources.asked == ["own feed", "search feed"]
    assert pipeline.matches.get(song().song_id)[0]["remote_id"] == "gone"


def test_a_source_that_calls_the_chosen_recording_otherwise_by_now_is_believed(
    pipeline: Pipeline, shelf: Shelf
) -> None:
    found = shelf.put("archive", "new")
    pipeline.sources.renamed["old"] = found
    choice = Choice(match=("archive", "old"))
    assert stored(pipeline, choice=choice) == ("archive", "old"), "else each job would fetch it anew"
