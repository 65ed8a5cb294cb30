"""Which files get a copy, and what is said of the copy."""

from __future__ import annotations

from pydantic import ValidationError

from common.contracts.envelope import Envelope
from common.contracts.facts import FileStored
from common.contracts.jobs import ActiveJob, JobsState
from common.contracts.names import BackendKind, Stage
from common.contracts.work import FileUpload
from uploader.errors import ItemInconsistent


def may_need_copy(stored: FileStored) -> bool:
    """Whether this is a file that lies in a folder, and is still there."""
    return stored.backend_kind is BackendKind.FILESYSTEM and not stored.removed


def job_with_upload(state: JobsState, job_id: int) -> ActiveJob | None:
    """The job, if it has not ended and has an upload stage. A paused one counts: its items wait in their lane."""
    job = state.job(job_id)
    if job is None or job.state.ended or Stage.UPLOAD not in job.stages or job.upload_backend is None:
        return None
    return job


def item_for(envelope: Envelope[FileStored], job: ActiveJob) -> FileUpload:
    """The item that makes the copy."""
    stored = envelope.data
    assert job.upload_backend is not None
    return FileUpload(
        job_id=job.job_id,
        backend=job.upload_backend,
        from_backend=stored.backend,
        from_kind=stored.backend_kind,
        song_id=stored.song_id,
        variant=stored.variant,
        asset_id=stored.asset_id,
        locator=stored.locator,
        sha256=stored.sha256,
        size=stored.size,
        stored=stored.model_dump(mode="json"),
    )


def source_of(item: FileUpload) -> FileStored:
    """The fact that the item was made from. Raises :class:`ItemInconsistent` when the two disagree."""
    try:
        stored = FileStored.model_validate(item.stored)
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors(include_url=False, include_input=False)[0]["loc"])
        raise ItemInconsistent(f"The item's file cannot be understood ({where[:80]}). Plan it again.") from None
    names = ("song_id", "variant", "asset_id", "locator", "sha256", "size")
    if stored.backend != item.from_backend or any(getattr(stored, name) != getattr(item, name) for name in names):
        raise ItemInconsistent("The item and the file that it carries are not the same. Plan it again.")
    return stored


def current(planned: FileStored, last: FileStored | None) -> FileStored | None:
    """What to copy now: the file may have been replaced since the item was planned. None: it was removed."""
    if last is None:
        return planned
    return None if last.removed else last


def copy_fact(stored: FileStored, backend: str) -> FileStored:
    """What is said of the copy: the same file, in the object store, under the same locator."""
    changes = {
        "backend": backend,
        "backend_kind": BackendKind.OBJECT_STORAGE,
        "import_mode": None,
        "location_id": None,
        "revision": 0,
    }
    return stored.model_copy(update=changes)


def says_the_same(last: FileStored | None, fact: FileStored) -> bool:
    """Whether the fact stands already, so that saying it again would only make readers work."""
    return last is not None and last.model_copy(update={"revision": fact.revision}) == fact
