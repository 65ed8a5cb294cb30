"""What is asked again when a song is tried again, and for how long it waits for a source that is not its own."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from common.errors import MusicCloudError, PermanentError, TransientError, Unreachable, Waiting
from downloader.ports import NO_CHOICE, Choice
from downloader.service import resolve
from sources.api.pace import TurnWaiting
from sources.port import FileCandidate, Found
from tests.integration.downloader.harness import Pipeline, make_song
from tests.support.audio import make_audio

ALL = ["archive", "audius", "jamendo"]
GONE = PermanentError("The server does not have it (404).", code="source-file-missing")
REFUSED = PermanentError("jamendo refuses access. Check JAMENDO_CLIENT_ID.", code="access-refused")
TURN = TurnWaiting("Waiting for archive, which is asked at most 1 times a second.", seconds=21)


@pytest.fixture
def pipeline(tmp_path: Path) -> Iterator[Pipeline]:
    made = Pipeline(tmp_path)
    made.sources.errors["gone"] = GONE
    made.sources.results = {"jamendo": [], "audius": []}
    yield made
    made.close()


def attempt(pipeline: Pipeline, *, choice: Choice = NO_CHOICE, **fields: Any) -> tuple[MusicCloudError, list[str]]:
    """How one try of the song ends, and which sources were searched in it, by name."""
    pipeline.sources.asked.clear()
    song = make_song("gone", duration_seconds=2.0).model_copy(update=fields)
    with pytest.raises(MusicCloudError) as caught:
        pipeline.run(pipeline.request(song, choice=choice))
    searched = (one.partition(" ") for one in pipeline.sources.asked)
    return caught.value, sorted(source for deed, _, source in searched if deed == "search")


def offer(pipeline: Pipeline, path: Path, source: str, *, name: str = "Name") -> None:
    """A result whose bytes lie at ``path``."""
    remote_id = f"{source}-{name}"
    pipeline.sources.results[source] = [
        Found(source=source, remote_id=remote_id, name=name, singers=("Singer",), duration_seconds=2.0)
    ]
    pipeline.sources.candidates_of[remote_id] = [FileCandidate(source=source, path=path, locator=path.name)]


def by_source(asked: list[dict[str, Any]]) -> dict[str, Any]:
    return {one["source"]: one for one in asked if one["source"] != "archive"}


@pytest.mark.parametrize("code", ["access-refused", "answer-too-large", "answer-malformed", "musicdl-memory"])
def test_no_song_is_given_up_because_another_source_did_not_answer(pipeline: Pipeline, code: str) -> None:
    pipeline.sources.results["jamendo"] = PermanentError("It cannot be used.", code=code)
    error, _ = attempt(pipeline)
    assert isinstance(error, Unreachable), "a later job asks again"
    assert error.code == "source-file-missing"
    assert error.message == (
        "The server does not have it (404). It was not found at audius either. jamendo: It cannot be used."
    )
    pipeline.sources.results["jamendo"] = []
    error, asked = attempt(pipeline)
    assert isinstance(error, PermanentError), "now all have said that they do not have it"
    assert asked == ["jamendo"]


def test_nor_because_its_own_source_refuses_access(pipeline: Pipeline) -> None:
    pipeline.sources.errors["gone"] = REFUSED
    error, _ = attempt(pipeline)
    assert (type(error), error.code) == (Unreachable, "access-refused")


def test_nor_because_the_places_of_a_recording_cannot_be_told(
    pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer(pipeline, tmp_path / "never", "jamendo")
    answers = iter([REFUSED, GONE])

    def candidates(*_: Any, **__: Any) -> Any:
        raise next(answers)

    monkeypatch.setattr(pipeline.sources, "candidates", candidates)
    assert isinstance(attempt(pipeline)[0], Unreachable)
    assert isinstance(attempt(pipeline)[0], PermanentError), "that it is gone is an answer"


def test_who_has_answered_is_not_asked_again_while_the_song_waits_for_another(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    broken = tmp_path / "page.flac"
    broken.write_bytes(b"<html>sign in</html>" * 99)
    offer(pipeline, broken, "jamendo")
    offer(pipeline, tmp_path / "never", "audius", name="Name (Remix)")
    pipeline.sources.results["archive"] = TURN
    error, asked = attempt(pipeline)
    assert error is TURN and asked == ALL
    shown = pipeline.matches.tell({"song_id": make_song("gone").song_id})
    for force in (False, True):
        error, asked = attempt(pipeline, force=force)
        assert error is TURN and asked == ["archive"]
    again = pipeline.matches.tell({"song_id": make_song("gone").song_id})
    assert by_source(again["search"]["asked"]) == by_source(shown["search"]["asked"]), "the song's page shows the same"
    assert [one["verdict"] for one in again["items"]] == [one["verdict"] for one in shown["items"]]
    assert len(again["items"]) == 2

    pipeline.sources.results["archive"] = []
    error, asked = attempt(pipeline)
    assert isinstance(error, PermanentError) and asked == ["archive"]
    assert "jamendo: This is a web page, not audio." in error.message, "what was found out before is still said"
    assert attempt(pipeline)[1] == ALL, "a person who asks again after the end wants it all"
    assert attempt(pipeline, job_id=2)[1] == ALL


def test_what_was_banned_and_is_allowed_again_is_asked_for_at_once(pipeline: Pipeline, tmp_path: Path) -> None:
    path = tmp_path / "song.flac"
    make_audio(path, seconds=2.0)
    offer(pipeline, path, "jamendo")
    pipeline.sources.results["archive"] = TURN
    attempt(pipeline, choice=Choice(banned=frozenset({("jamendo", "jamendo-Name")})))
    fact = pipeline.complete(pipeline.request(make_song("gone", duration_seconds=2.0)))
    assert fact.candidate_source == "jamendo"


def test_an_answer_of_long_ago_is_asked_for_again(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline.sources.results["archive"] = TURN
    attempt(pipeline)
    monkeypatch.setattr(resolve, "FRESH_SECONDS", 0.0)
    assert attempt(pipeline)[1] == ALL


def test_a_song_waits_for_another_sources_server_for_an_hour_at_most(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline.sources.results["archive"] = Waiting("Waiting for archive: it asked for a pause.", seconds=86_400)
    error, _ = attempt(pipeline)
    assert isinstance(error, Unreachable) and "archive: Waiting for archive" in error.message

    pipeline.sources.results["archive"] = short = Waiting("Waiting for archive.", seconds=60)
    assert attempt(pipeline)[0] is short
    later = time.time() + 3_550
    monkeypatch.setattr(time, "time", lambda: later)
    assert isinstance(attempt(pipeline)[0], Unreachable), "it waited for an hour in all"
    assert attempt(pipeline)[0] is short, "who asks again then waits anew"

    pipeline.sources.results["archive"] = TURN
    attempt(pipeline)
    monkeypatch.setattr(time, "time", lambda: later + 7_200)
    assert attempt(pipeline)[0] is TURN, "its turn among other songs comes"


def test_the_own_sources_server_is_waited_for_as_long_as_it_says(pipeline: Pipeline) -> None:
    pipeline.sources.errors["gone"] = wait = Waiting("Waiting for feed.", seconds=86_400)
    assert attempt(pipeline) == (wait, [])
    pipeline.sources.errors["gone"] = TransientError("busy")
    pipeline.sources.results["archive"] = Waiting("Waiting for archive.", seconds=86_400)
    assert isinstance(attempt(pipeline)[0], TransientError)
