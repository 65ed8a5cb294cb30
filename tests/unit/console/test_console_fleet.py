"""What heartbeats prove: who lives, who works on what, when a pause is complete."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from common.contracts.names import Stage
from common.contracts.status import CurrentItem, Heartbeat, Hold, Reason
from console.service.fleet import BEGUN_BY, LOST_AFTER, Fleet, current, status_of
from console.service.views import dashboard, sources_view

START = datetime(2026, 1, 1, tzinfo=UTC)
LATE = 1000.0
"""Long after the fleet began to listen."""


def beat(instance: str = "a", *, service: str = "downloader", **values: Any) -> Heartbeat:
    return Heartbeat.model_validate(
        {"service": service, "instance": instance, "started_at": START, "ready": True, "concurrency": 2, **values}
    )


def holding(job_id: int, title: str = "a song") -> CurrentItem:
    return CurrentItem(job_id=job_id, stage=Stage.DOWNLOAD, lane="local", key="1", title=title, started_at=START)


def waiting(fleet: Fleet, *, at: float = LATE, asked: float = LATE) -> list[str]:
    return fleet.not_confirmed(1, 5, asked=asked, at=at)


def test_a_pause_waits_for_every_worker_to_see_it_and_let_go() -> None:
    fleet = Fleet(started=0)
    fleet.observe(beat("a", jobs_revision=4), LATE)
    fleet.observe(beat("b", jobs_revision=5, items=[holding(1)]), LATE)
    fleet.observe(beat("c", jobs_revision=5, items=[holding(2)]), LATE)
    fleet.observe(beat("d", service="exporter", concurrency=0), LATE)
    assert waiting(fleet) == ["download-1", "download-2"]
    fleet.observe(beat("a", jobs_revision=6), LATE)
    fleet.observe(beat("b", jobs_revision=5), LATE)
    assert waiting(fleet) == []


def test_what_a_lost_worker_held_is_given_up_when_it_is_lost() -> None:
    fleet = Fleet(started=0)
    fleet.observe(beat(jobs_revision=5, items=[holding(1)]), LATE)
    assert waiting(fleet, at=LATE + LOST_AFTER) == ["download-1"]
    assert waiting(fleet, at=LATE + LOST_AFTER + 1) == []


def test_a_worker_that_was_lost_before_may_begin_what_it_has_for_a_moment() -> None:
    fleet = Fleet(started=0)
    fleet.observe(beat(jobs_revision=4), LATE - LOST_AFTER - 30)
    assert waiting(fleet, at=LATE + BEGUN_BY) == ["download-1"]
    assert waiting(fleet, at=LATE + BEGUN_BY + 0.1) == []


def test_a_worker_that_says_goodbye_is_gone_at_once() -> None:
    fleet = Fleet(started=0)
    fleet.observe(beat("a", jobs_revision=4), LATE)
    fleet.observe(beat("a", leaving=True), LATE)
    assert (waiting(fleet), fleet.members(LATE)) == ([], [])
    # Said by the one before, and heard after its successor of the same name.
    fleet.observe(beat("a", started_at=START.replace(hour=1), jobs_revision=4), LATE)
    fleet.observe(beat("a", leaving=True), LATE)
    assert waiting(fleet) == ["download-1"]


def test_silence_proves_nothing_right_after_the_start() -> None:
    fleet = Fleet(started=LATE)
    assert waiting(fleet, at=LATE + 1) == ["workers not heard of yet"]
    assert waiting(fleet, at=LATE + BEGUN_BY + 0.1) == []
    assert waiting(fleet, at=LATE + LOST_AFTER, asked=LATE + LOST_AFTER) == []


def test_workers_keep_their_numbers_and_are_lost_when_silent_for_long() -> None:
    fleet = Fleet(started=0)
    for instance in ("x", "y"):
        fleet.observe(beat(instance), LATE)
    fleet.observe(beat("z", service="uploader"), LATE)
    fleet.observe(beat("y", items=[holding(1, "晴天")]), LATE + 20)
    names = {member.name: status_of(member, LATE + 20) for member in fleet.members(LATE + 20)}
    assert names == {"download-1": "lost", "download-2": "busy", "upload-1": "lost"}
    assert current(fleet.members(LATE + 20)[1]) == ("晴天", None)
    assert [member.name for member in fleet.members(LATE + 700)] == []


def test_speed_is_what_moved_lately_and_a_restart_is_not_negative() -> None:
    fleet = Fleet(started=0)
    fleet.observe(beat(bytes_total=0), LATE)
    fleet.observe(beat(bytes_total=10_000_000), LATE + 2)
    assert fleet.download_speed(LATE + 2) == 5_000_000
    fleet.observe(beat(bytes_total=5), LATE + 4)
    assert fleet.download_speed(LATE + 4) == 0
    assert fleet.download_speed(LATE + 60) == 0


def test_a_hold_is_told_once_since_it_began() -> None:
    fleet = Fleet(started=0)
    later = START.replace(hour=2)
    for instance, since in (("a", later), ("b", START)):
        reason = Reason(code="source-down", message="It answers 503.")
        fleet.observe(beat(instance, holds=[Hold(stage=Stage.DOWNLOAD, lane="feed", reason=reason, since=since)]), LATE)
    (hold,) = fleet.holds(LATE)
    assert hold.since == START
    assert fleet.holds(LATE + 20) == []


def test_details_that_are_not_as_expected_do_not_break_the_page() -> None:
    fleet = Fleet(started=0)
    fleet.observe(beat("c", service="collector", detail={"sources": "nonsense"}), LATE)
    fleet.observe(beat("u", service="uploader", detail={"object_store": ["nonsense"]}), LATE)
    fleet.observe(beat("e", service="exporter", detail={"snapshot_id": 7, "problems": "many"}), LATE)
    board = dashboard(
        jobs=[],
        failures=[],
        downloaded=0,
        fleet=fleet,
        at=LATE,
        waits=[],
        status_lag=0,
        upload_configured=False,
        include_items=True,
    )
    assert board["object_store"]["configured"] is False
    assert [source["name"] for source in sources_view(fleet, LATE, ["local"])] == ["local"]
