"""From wishes to a job: what is refused, what is left out and said, which lanes it gets."""

from __future__ import annotations

from typing import Any

import pytest

from common.contracts.names import JobState, JobType, Stage
from console.errors import ClientError
from console.ports import JobDraft
from console.service.drafts import active_job, draft_job, draft_of, lanes_of, planned_stages


def draft(job_type: JobType = JobType.FULL, **values: Any) -> JobDraft:
    wishes: dict[str, Any] = {
        "sources": [],
        "download_sources": [],
        "playlist_scope": [],
        "priority": 0,
        "known_sources": ["local", "feed"],
        "upload_backend": "objects",
    }
    return draft_job(job_type=job_type, **{**wishes, **values})


def test_a_full_job_without_an_object_store_leaves_uploads_out_and_says_so() -> None:
    assert draft().stages == JobType.FULL.stages
    assert draft().notes == ()
    without = draft(upload_backend=None)
    assert Stage.UPLOAD not in without.stages
    assert "OBJECT_BUCKET" in without.notes[0]


@pytest.mark.parametrize(
    ("job_type", "wishes", "code"),
    [
        (JobType.FULL, {"sources": ["qq"]}, "unknown-source"),
        (JobType.FULL, {"download_sources": ["qq"]}, "unknown-source"),
        (JobType.UPLOAD_ONLY, {"upload_backend": None}, "no-object-store"),
        (JobType.FULL, {"known_sources": []}, "no-source"),
        (JobType.FULL, {"playlist_scope": list(range(2000))}, "scope-too-large"),
    ],
)
def test_what_cannot_be_done_is_refused(job_type: JobType, wishes: dict[str, Any], code: str) -> None:
    with pytest.raises(ClientError) as refused:
        draft(job_type, **wishes)
    assert refused.value.code == code


def test_a_job_has_a_lane_for_its_plan_and_each_stage_and_source() -> None:
    consumers = [lane.consumer for lane in lanes_of(3, draft())]
    assert consumers == [
        "j3-plan-job",
        "j3-collect-local",
        "j3-collect-feed",
        "j3-sync-local",
        "j3-sync-feed",
        "j3-download-local",
        "j3-download-feed",
        "j3-upload-objects",
    ]
    assert planned_stages(draft()) == (Stage.COLLECT, Stage.DOWNLOAD, Stage.UPLOAD)
    assert planned_stages(draft(JobType.SYNC_ONLY)) == (Stage.SYNC,)


def test_the_same_work_is_recognised_whatever_its_order() -> None:
    assert draft(sources=["local", "feed"]).same_work(draft(sources=["feed", "local"], priority=3))
    assert not draft(sources=["local"]).same_work(draft())
    assert not draft().same_work(draft(JobType.DOWNLOAD_ONLY))


def test_a_job_known_from_the_bus_alone_gives_the_same_job_again() -> None:
    job = active_job(1, JobState.RUNNING, draft(sources=["feed"], priority=2, playlist_scope=[5]))
    assert active_job(1, JobState.RUNNING, draft_of(job)) == job
