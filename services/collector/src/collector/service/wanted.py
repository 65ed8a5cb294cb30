"""Which songs are asked for: wanted, less what is stored, less what was given up."""

from __future__ import annotations

from collector.ports import Holding

SOURCE_FILE_MISSING = "source-file-missing"
"""A file that was gone is asked for again as soon as the source sees it, whatever else is the same."""


def is_missing(holding: Holding, *, wish: str, fingerprint: str | None, present: bool) -> bool:
    """Whether a listed song is to be downloaded. ``present``: the source saw its bytes just now."""
    if is_stored(holding, fingerprint):
        return False
    given_up = holding.given_up
    if given_up is None or given_up.wish != wish:
        return True
    return present and given_up.code == SOURCE_FILE_MISSING


def is_stored(holding: Holding, fingerprint: str | None) -> bool:
    """Whether a copy of what is listed now is there: a file that changed at its source is fetched again."""
    return any(copy is None or fingerprint is None or copy == fingerprint for copy in holding.stored)
