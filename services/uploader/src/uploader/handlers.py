"""Messages in, messages out: items that copy a file, and facts that ask for an item."""

from __future__ import annotations

from common.bus.connection import Bus, Stored
from common.bus.facts import FactWriter
from common.bus.jobs import JobsFollower
from common.contracts.envelope import UndecodableMessage, decode
from common.contracts.facts import FileStored
from common.contracts.jobs import ActiveJob
from common.contracts.streams import CATALOG
from common.contracts.work import FileUpload
from common.storage.port import PutResult
from common.telemetry import get_logger
from common.work import ItemContext, Outcome, Planner, skipped, succeeded
from uploader.errors import OtherStore, StoreNotConfigured
from uploader.ports import Copier
from uploader.service import copies


class UploadHandler:
    """Does one item: copy, say so."""

    def __init__(self, *, bus: Bus, copier: Copier | None, backend: str) -> None:
        """``backend``: the name of the object store that ``copier`` writes; no copier, no store."""
        self._bus = bus
        self._facts = FactWriter(bus)
        self._copier = copier
        self._backend = backend

    async def __call__(self, item: FileUpload, context: ItemContext) -> Outcome:
        """Order: the copy, then the fact. Repeating either changes nothing."""
        if self._copier is None:
            raise StoreNotConfigured()
        if item.backend != self._backend:
            raise OtherStore(item.backend, self._backend)
        planned = copies.source_of(item)
        stored = copies.current(planned, await self._last(planned))
        if stored is None:
            return skipped("file-removed", "The file was removed from the library before it was copied.")
        stored = await self._copier.digested(stored, canceled=context.canceled.is_set)
        result = await self._copier.copy(
            stored,
            progress=lambda done: context.progress(done, stored.size),
            canceled=context.canceled.is_set,
        )
        fact = copies.copy_fact(stored, item.backend)
        if not copies.says_the_same(await self._last(fact), fact):
            await self._facts.publish(fact, cause=context.cause, job_id=item.job_id, trace=context.trace)
        return succeeded(bytes=stored.size, already_there=result is PutResult.ALREADY_THERE)

    async def _last(self, fact: FileStored) -> FileStored | None:
        envelope = await self._bus.last_message(CATALOG, fact.subject, FileStored)
        return envelope.data if envelope else None


class PlanHandler:
    """Turns each file that a running job stored into an item of that job."""

    def __init__(self, *, bus: Bus, jobs: JobsFollower) -> None:
        self._planner = Planner(bus)
        self._jobs = jobs

    async def __call__(self, message: Stored) -> None:
        """Returns when the item is in WORK, or when none is needed; only then is the fact acked."""
        try:
            envelope = decode(message.data, FileStored)
        except UndecodableMessage as error:
            get_logger().warning("passed over", subject=message.subject, sequence=message.sequence, reason=str(error))
            return
        if envelope.job_id is None or not copies.may_need_copy(envelope.data):
            return
        job = await self._job(envelope.job_id)
        if job is None:
            return
        item = copies.item_for(envelope, job)
        await self._planner.put([item], cause=envelope.id, job_id=job.job_id, trace=envelope.trace)

    async def _job(self, job_id: int) -> ActiveJob | None:
        """The state that is followed may be a moment behind: a job it does not know yet is looked up."""
        if job_id > self._jobs.state.last_job_id:
            await self._jobs.refresh()
        return copies.job_with_upload(self._jobs.state, job_id)
