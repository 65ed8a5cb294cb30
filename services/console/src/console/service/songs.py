"""What people decide about one song: this recording, never that one."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from typing import Any, Literal
from unicodedata import category

from common.contracts.facts import FileStored, SongListed, SongPinned
from common.contracts.names import Command, Stage
from common.telemetry import get_logger
from console.errors import InvalidRequest, NotFound, Refused
from console.ports import Commands, Item, Items, Runs, SongFacts, Wish

Action = Literal["pin", "unpin", "ban", "unban"]
MAX_BANNED = 200
MAX_REMOTE_ID = 1000
"""Characters; downloaders leave out search results with longer ones."""
_JOBS_LOOKED_AT = 200


class Songs:
    """Shows what is known of a song, and keeps what is chosen."""

    def __init__(
        self, *, facts: SongFacts, runs: Runs, items: Items, control: Commands, sources: Sequence[str]
    ) -> None:
        """``sources``: those in use."""
        self._facts = facts
        self._runs = runs
        self._items = items
        self._control = control
        self._sources = sources

    async def view(self, song_id: int) -> dict[str, Any]:
        """The song as its source lists it, its file, what was chosen. Raises NotFound."""
        listed = await self._facts.listed(song_id)
        if listed is None:
            raise NotFound(f"No source has listed a song {song_id}.", code="no-such-song")
        copies, pinned = await self._facts.copies(song_id), await self._facts.pinned(song_id)
        stored = next((one for one in copies if as_chosen(one, listed, pinned)), next(iter(copies), None))
        item = await asyncio.to_thread(self._newest, song_id, listed.platform)
        return {
            "song_id": song_id,
            "platform": listed.platform,
            "remote_id": listed.remote_id,
            "name": listed.name,
            "singers": list(listed.singers),
            "album": listed.album,
            "duration_seconds": listed.duration_seconds,
            "stored": None
            if stored is None
            else {
                "locator": stored.locator,
                "backend": stored.backend,
                "size": stored.size,
                "quality_label": stored.quality_label,
                "source": recording(listed, stored)[0],
                "remote_id": recording(listed, stored)[1],
                "duration_seconds": stored.format.duration_seconds,
                "as_chosen": as_chosen(stored, listed, pinned),
            },
            "choice": _choice(pinned),
            "last_item": None
            if item is None
            else {
                "id": item.item_id,
                "job_id": item.status.job_id,
                "state": item.status.state.value,
                "reason": item.status.reason.model_dump() if item.status.reason else None,
            },
        }

    async def choose(self, song_id: int, action: Action, *, source: str, remote_id: str, by: str) -> dict[str, Any]:
        """Keep a choice, and have the song fetched by it where a job has asked for it before.

        Raises NotFound, InvalidRequest, BusUnavailable.
        """
        listed = await self._facts.listed(song_id)
        if listed is None:
            raise NotFound(f"No source has listed a song {song_id}.", code="no-such-song")
        before, copies = await self._facts.pinned(song_id), await self._facts.copies(song_id)
        if action in ("pin", "ban"):
            known = {recording(listed, None), *(recording(listed, copy) for copy in copies)}
            check_recording(source, remote_id, known=known, sources=self._sources)
        after = chosen(before, action, source=source, remote_id=remote_id, by=by)
        if after != before:
            await self._facts.pin(after)
        right = bool(copies) and all(as_chosen(one, listed, after) for one in copies)
        # Also when it was chosen before: the program may have ended between the choice and what follows from it.
        fetch = not right or (action == "unpin" and after != before)
        item = await asyncio.to_thread(self._newest, song_id, listed.platform)
        retried = fetch and item is not None and await self._retry(item)
        return {"choice": _choice(after), "retried_in_job": item.status.job_id if item and retried else None}

    async def _retry(self, item: Item) -> bool:
        try:
            await self._control.command(
                item.status.job_id, Wish(command=Command.FORCE_RETRY_ITEM, item_id=item.item_id)
            )
        except (Refused, NotFound) as error:
            # Its job is gone or was canceled: the next job that asks for the song takes the choice.
            get_logger().info("a choice waits for the next job", song=item.status.key, reason=error.message)
            return False
        return True

    def _newest(self, song_id: int, platform: str) -> Item | None:
        jobs = self._runs.newest(states=(), before=None, limit=_JOBS_LOOKED_AT)
        subjects = [f"item.{job.job_id}.{Stage.DOWNLOAD}.{platform}.{song_id}" for job in jobs]
        return self._items.newest_of(subjects) if subjects else None


def as_chosen(stored: FileStored, listed: SongListed, choice: SongPinned) -> bool:
    """Whether the file is of the recording that was chosen, and of none that was banned."""
    taken = recording(listed, stored)
    match = (choice.match_source, choice.match_remote_id)
    return ":".join(taken) not in choice.banned and (None in match or match == taken)


def recording(listed: SongListed, stored: FileStored | None) -> tuple[str, str]:
    """Source and remote id of what a file was taken from; without one, of what is listed."""
    if stored is None:
        return listed.platform, listed.remote_id
    return stored.candidate_source or listed.platform, stored.candidate_remote_id or listed.remote_id


def check_recording(source: str, remote_id: str, *, known: Collection[tuple[str, str]], sources: Sequence[str]) -> None:
    """Raise InvalidRequest for what no source can have. ``known``: recordings of the song, whatever they are called."""
    if (source, remote_id) in known:
        return
    if source not in {*sources, *(name for name, _ in known)}:
        names = ", ".join(sources) or "none; set SOURCES"
        raise InvalidRequest(f"There is no source {source[:80]!r}. Known sources: {names}.", code="unknown-source")
    if len(remote_id) > MAX_REMOTE_ID or any(category(char) in ("Cc", "Cs") for char in remote_id):
        raise InvalidRequest(
            f"A recording's id has at most {MAX_REMOTE_ID} characters, none of them a control character. "
            "Copy it from the song's page.",
            code="remote-id-invalid",
        )


def chosen(before: SongPinned, action: Action, *, source: str, remote_id: str, by: str) -> SongPinned:
    """The choice after ``action``. Raises InvalidRequest for what contradicts itself."""
    match, banned = (source, remote_id), list(before.banned)
    name = f"{source}:{remote_id}"
    changes: dict[str, Any] = {"by": by}
    if action == "pin":
        changes |= {"match_source": source, "match_remote_id": remote_id, "banned": _without(banned, name)}
    elif action == "unpin":
        changes |= {"match_source": None, "match_remote_id": None}
    elif action == "ban":
        if len(banned) >= MAX_BANNED:
            raise InvalidRequest("More than enough recordings are banned for this song.", code="too-many-banned")
        changes["banned"] = (*_without(banned, name), name)
        if (before.match_source, before.match_remote_id) == match:
            changes |= {"match_source": None, "match_remote_id": None}
    else:
        changes["banned"] = _without(banned, name)
    after = before.model_copy(update=changes)
    return before if after.model_copy(update={"by": before.by}) == before else after


def _without(banned: Sequence[str], name: str) -> tuple[str, ...]:
    return tuple(one for one in banned if one != name)


def _choice(pinned: SongPinned) -> dict[str, Any]:
    match = {"source": pinned.match_source, "remote_id": pinned.match_remote_id}
    entries = (entry.partition(":") for entry in pinned.banned)
    return {
        "match": match if pinned.match_source and pinned.match_remote_id else None,
        "banned": [{"source": source, "remote_id": remote_id} for source, _, remote_id in entries],
        "by": pinned.by,
    }
