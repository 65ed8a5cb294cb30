"""Which songs are asked for: wanted, less what is stored, less what was given up."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from collector.ports import GivenUp, Holding
from common.contracts.facts import FileStored, SongPinned

SOURCE_FILE_MISSING = "source-file-missing"
"""A file that was gone is asked for again as soon as the source sees it, whatever else is the same."""


def is_missing(
    holding: Holding, *, wish: str, fingerprint: str | None, present: bool, givers: Collection[str] = ()
) -> bool:
    """Whether a listed song is to be downloaded. ``present``: the source saw its bytes just now.

    ``givers``: the sources that may give it now; one more than when it was given up may have it.
    """
    if is_stored(holding, fingerprint):
        return False
    given_up = holding.given_up
    if given_up is None or given_up.wish != wish or not given_up.givers.issuperset(givers):
        return True
    return present and given_up.code == SOURCE_FILE_MISSING


MATCH_GONE = "match-gone"
"""The recording that was chosen is gone: asking again without another choice would not help."""


def is_unchosen(
    choice: SongPinned,
    copies: Sequence[FileStored],
    *,
    platform: str,
    remote_id: str,
    given_up: GivenUp | None,
) -> bool:
    """Whether a song is asked for because of a person's choice, whatever is stored.

    ``given_up``: for this listing, with all sources that may give it now.
    """
    match = (choice.match_source, choice.match_remote_id)
    pinned = None not in match
    if given_up is not None and (not pinned or given_up.code == MATCH_GONE):
        return False
    if not copies:
        return pinned
    taken = [(copy.candidate_source or platform, copy.candidate_remote_id or remote_id) for copy in copies]
    return not any(":".join(one) not in choice.banned and (not pinned or one == match) for one in taken)


def is_stored(holding: Holding, fingerprint: str | None) -> bool:
    """Whether a copy of what is listed now is there: a file that changed at its source is fetched again."""
    return any(copy is None or fingerprint is None or copy == fingerprint for copy in holding.stored)
