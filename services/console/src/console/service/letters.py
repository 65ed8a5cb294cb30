"""Replaying dead letters: an item is tried again in its job, anything else goes back to where it came from."""

from __future__ import annotations

import asyncio

from common.bus.errors import SubjectTaken
from common.contracts.envelope import UndecodableMessage, decode
from common.contracts.names import Command, ItemState
from common.contracts.work import ITEM_OF_STAGE, WorkItem
from common.work.journal import DEAD_PREFIX
from console.errors import NotFound, Refused
from console.ports import Commands, Items, Letter, Letters, Runs, Wish

_PAGE = 100


class Replays:
    """Replays and removes dead letters."""

    def __init__(self, *, letters: Letters, items: Items, runs: Runs, control: Commands) -> None:
        self._letters = letters
        self._items = items
        self._runs = runs
        self._control = control
        self._all = asyncio.Lock()

    async def replay(self, sequence: int) -> str:
        """Try it again, and forget the letter; what was done, in a sentence. Raises NotFound or Refused."""
        letter = await self._find(sequence)
        words = await self._again(letter)
        await self._letters.remove(letter.sequence)
        return words

    async def replay_all(self) -> tuple[int, int]:
        """Try all again that can be: how many were, and how many could not. Raises Refused while it is being done."""
        if self._all.locked():
            raise Refused("All of them are being tried again already; wait for the end.", code="replay-under-way")
        async with self._all:
            return await self._replay_all()

    async def _replay_all(self) -> tuple[int, int]:
        done = refused = after = 0
        # What fails again writes a new letter behind this one.
        last = await self._letters.last()
        while after < last and (page := await self._letters.page(after=after, limit=_PAGE)):
            for letter in page:
                if letter.sequence > last:
                    break
                try:
                    await self._again(letter)
                except Refused:
                    refused += 1
                else:
                    await self._letters.remove(letter.sequence)
                    done += 1
            after = page[-1].sequence
        return done, refused

    async def remove(self, sequence: int) -> None:
        """Forget a letter. Raises NotFound."""
        await self._letters.remove((await self._find(sequence)).sequence)

    async def _find(self, sequence: int) -> Letter:
        letter = await self._letters.get(sequence)
        if letter is None:
            raise NotFound("There is no such dead letter; it may have been replayed already.", code="no-such-letter")
        return letter

    async def _again(self, letter: Letter) -> str:
        work = _work_of(letter)
        if work is not None and (item := await asyncio.to_thread(self._items.by_subject, work.status_subject)):
            if not item.status.state.ended:
                raise Refused(
                    f"{item.status.title} is being tried ({item.status.state}); wait for its end.",
                    code="item-not-ended",
                )
            if item.status.state is not ItemState.FAILED:
                return f"{item.status.title} has not failed any more; the letter is forgotten."
            wish = Wish(command=Command.RETRY_ITEM, item_id=item.item_id)
            await self._control.command(item.status.job_id, wish)
            return f"{item.status.title} is tried again."
        # Whoever writes letters may not choose where the console sends them: only back into the same queue.
        if not letter.from_subject or letter.subject != f"{DEAD_PREFIX}.{letter.from_subject}":
            raise Refused("This letter does not say where it came from; it can only be removed.", code="not-ours")
        job = await asyncio.to_thread(self._runs.get, letter.job_id) if letter.job_id else None
        if job is None or job.state.ended:
            raise Refused("Its job has ended, so nobody would take it. Start a new job.", code="job-ended")
        try:
            await self._letters.put_back(letter)
        except SubjectTaken:
            raise Refused("The same item stands in the queue; wait for its end.", code="already-queued") from None
        return "It is back in the queue."


def _work_of(letter: Letter) -> WorkItem | None:
    if letter.stage is None:
        return None
    try:
        return decode(letter.payload, ITEM_OF_STAGE[letter.stage]).data
    except UndecodableMessage:
        return None
