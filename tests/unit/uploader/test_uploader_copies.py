"""Which files get a copy, and what is said of the copy."""

from __future__ import annotations

from typing import Any

import pytest

from common.contracts.envelope import Envelope, wrap
from common.contracts.facts import AudioFormat, FileStored
from common.contracts.jobs import ActiveJob, JobsState
from common.contracts.names import BackendKind, ImportMode, JobState, JobType
from common.contracts.work import FileUpload
from uploader.errors import ItemInconsistent
from uploader.service import copies

STORED = FileStored(
    backend="library",
    song_id=5,
    asset_id=6,
    locator="qq/a/b.flac",
    sha256="a" * 64,
    size=10,
    revision=3,
    import_mode=ImportMode.COPY,
    format=AudioFormat(ext="flac", mime="audio/flac"),
)


def job(**changes: Any) -> ActiveJob:
    given: dict[str, Any] = {"job_type": JobType.FULL, "state": JobState.RUNNING, "upload_backend": "objects"}
    given.update(changes)
    return ActiveJob(job_id=1, stages=given["job_type"].stages, sources=("local",), **given)


def envelope(stored: FileStored = STORED) -> Envelope[FileStored]:
    return wrap(stored, id="one", producer="downloader.one", job_id=1)


def test_only_files_in_folders_that_are_there_need_a_copy() -> None:
    assert copies.may_need_copy(STORED)
    assert not copies.may_need_copy(STORED.model_copy(update={"removed": True}))
    assert not copies.may_need_copy(STORED.model_copy(update={"backend_kind": BackendKind.OBJECT_STORAGE}))


@pytest.mark.parametrize("state", list(JobState))
def test_items_are_planned_until_the_job_has_ended(state: JobState) -> None:
    found = copies.job_with_upload(JobsState(jobs=(job(state=state),)), 1)

    assert (found is None) == state.ended


def test_jobs_without_an_upload_stage_or_a_store_get_no_items() -> None:
    assert copies.job_with_upload(JobsState(jobs=(job(job_type=JobType.DOWNLOAD_ONLY),)), 1) is None
    assert copies.job_with_upload(JobsState(jobs=(job(upload_backend=None),)), 1) is None
    assert copies.job_with_upload(JobsState(jobs=(job(),)), 2) is None


def test_an_item_carries_its_file_through_the_bus() -> None:
    item = FileUpload.model_validate_json(copies.item_for(envelope(), job()).model_dump_json())

    assert copies.source_of(item) == STORED
    assert (item.subject, item.lane) == ("file.upload.requested.1.objects.6", "objects")


@pytest.mark.parametrize(
    "changes",
    [
        {"locator": "../../etc/passwd"},
        {"sha256": "b" * 64},
        {"size": 11},
        {"song_id": 9},
        {"from_backend": "local"},
        {"stored": {}},
        {"stored": {**STORED.model_dump(mode="json"), "sha256": "short"}},
    ],
)
def test_an_item_that_contradicts_itself_is_refused(changes: dict[str, Any]) -> None:
    item = copies.item_for(envelope(), job()).model_copy(update=changes)

    with pytest.raises(ItemInconsistent):
        copies.source_of(item)


def test_what_is_copied_is_what_is_there_now() -> None:
    newer = STORED.model_copy(update={"sha256": "b" * 64, "revision": 4})

    assert copies.current(STORED, newer) is newer
    assert copies.current(STORED, None) is STORED
    assert copies.current(STORED, newer.model_copy(update={"removed": True})) is None


def test_the_copy_is_the_same_file_elsewhere() -> None:
    fact = copies.copy_fact(STORED, "objects")

    assert fact.subject == "file.stored.objects.5.main"
    assert fact.backend_kind is BackendKind.OBJECT_STORAGE
    assert (fact.asset_id, fact.locator, fact.sha256, fact.size) == (6, "qq/a/b.flac", "a" * 64, 10)
    assert fact.import_mode is None
    assert copies.says_the_same(fact.model_copy(update={"revision": 8}), fact)
    assert not copies.says_the_same(fact.model_copy(update={"removed": True}), fact)
    assert not copies.says_the_same(None, fact)
