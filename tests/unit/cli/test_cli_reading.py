import re
from typing import Any

from cli.reading import Picture, StageProgress, picture_of, remarks_of, retry_note, visible
from cli.run.catalog import CatalogState, catalog_state
from common.contracts.names import ItemState


def stage(name: str, state: str, **counts: int) -> dict[str, Any]:
    return {
        "stage": name,
        "state": state,
        "counts": {one.value: counts.get(one.value, 0) for one in ItemState},
        "total": sum(counts.values()),
    }


def job(*stages: dict[str, Any], state: str = "running") -> dict[str, Any]:
    return {"job_id": 3, "state": state, "stages": list(stages)}


def test_what_ended_counts_as_done_and_the_number_is_final_when_the_stages_before_have_ended() -> None:
    picture = picture_of(
        job(
            stage("plan", "completed", succeeded=2),
            stage("collect", "completed", succeeded=2),
            stage("sync", "running", succeeded=3, queued=1),
            stage("download", "running", succeeded=4, failed=1, skipped=1, running=2, queued=5),
        ),
        {"transfer_stats": {"download_speed_bytes_per_sec": 1000}},
    )
    assert picture == Picture(
        stages={
            "collect": StageProgress(done=2, total=2, failed=0, final=True),
            "sync": StageProgress(done=3, total=4, failed=0, final=True),
            "download": StageProgress(done=6, total=13, failed=1, final=False),
        },
        bytes_per_second=1000.0,
    )


def test_why_nothing_moves_is_said_before_what_moves() -> None:
    dashboard = {
        "holds": [{"job_id": 3, "reason": {"code": "x", "message": "The disk is full."}}],
        "workers": [{"current_song": "A song", "current_playlist": None}],
    }
    assert picture_of(job(), dashboard).note == "waiting: The disk is full."
    assert picture_of(job(), {**dashboard, "holds": []}).note == "A song"
    assert picture_of(job(state="paused"), dashboard).note == "paused; go on with: music-cloud jobs resume 3"


def test_a_service_that_cannot_work_is_said_but_not_an_uploader_without_a_store() -> None:
    full = {"service": "collector", "problems": [{"code": "x", "message": "The disk is full."}], "current_song": None}
    idle = {"service": "uploader", "problems": [{"code": "x", "message": "No store."}]}
    assert picture_of(job(), {"workers": [idle]}).note == ""
    assert picture_of(job(), {"workers": [idle, full]}).note == "waiting: The disk is full."


def test_a_try_that_comes_again_says_when() -> None:
    item = {"title": "A song", "reason": {"message": "No answer."}, "next_try_at": None}
    assert retry_note([item]) == "waiting to try again: A song: No answer."
    noted = retry_note([{**item, "next_try_at": "2026-01-01T12:30:05.250000Z"}, item])
    assert re.fullmatch(r"waiting to try again at \d\d:\d\d:05: A song \(and 1 more\): No answer\.", noted)


def test_what_was_left_out_or_kept_is_told_once() -> None:
    items: list[dict[str, Any]] = [
        {"title": "fine", "result": {"songs": 1}, "reason": None},
        {
            "title": "kept",
            "result": {"problems": ["Entry 2 is bad."] * 2},
            "reason": {"message": "It came back empty."},
        },
    ]
    assert remarks_of(items) == [("kept", "It came back empty."), ("kept", "Entry 2 is bad.")]


def test_nothing_from_outside_gives_orders_to_a_terminal() -> None:
    assert visible("a\x1b[31m\nb\u202e می\u200cخواهم") == "a\\x1b[31m\\nb\\u202e می\u200cخواهم"


def test_holds_of_other_jobs_are_not_ours() -> None:
    assert picture_of(job(), {"holds": [{"job_id": 4, "reason": {"code": "x", "message": "no"}}]}).note == ""


def test_the_catalog_is_current_when_it_has_read_everything_and_published_it() -> None:
    told = {"projected_sequence": 20, "changes_pending": False, "snapshot_id": "sha256:1", "problems": []}
    assert catalog_state({"snapshot": told}).holds(20)
    assert not catalog_state({"snapshot": told}).holds(21)
    assert not catalog_state({"snapshot": {**told, "changes_pending": True}}).holds(20)


def test_without_an_exporter_that_is_what_the_catalog_waits_for() -> None:
    assert catalog_state({"snapshot": None}) == CatalogState(problem="no exporter is running")
