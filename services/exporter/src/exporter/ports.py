"""What fetching asks of the snapshots that are kept, and of what is remembered of all that ever were."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol


class Published(Protocol):
    """A snapshot that was published once, whether or not its files are still there."""

    @property
    def snapshot_id(self) -> str: ...

    @property
    def lineage(self) -> str: ...

    @property
    def revision(self) -> int: ...


class Snapshots(Protocol):
    """The snapshots that are kept."""

    def current(self) -> dict[str, Any] | None:
        """The manifest of the newest."""
        ...

    def manifest(self, snapshot_id: str) -> dict[str, Any] | None:
        """The manifest of one; None when it is not kept."""
        ...

    def database(self, snapshot_id: str) -> Path | None:
        """Its database; None when it is not kept."""
        ...

    def hold(self, snapshot_id: str) -> AbstractContextManager[None]:
        """While this lasts it is not deleted."""
        ...


class History(Protocol):
    """What is remembered of published snapshots, long after their files are gone."""

    def current(self) -> tuple[str, int] | None:
        """The lineage now and its newest revision; None before there is one."""
        ...

    def find(self, snapshot_id: str) -> Published | None:
        """A snapshot that was published; None for an id that never was."""
        ...

    def changes(self, *, after: int) -> Iterator[tuple[str, int | str]]:
        """Table and key of each group that changed after a revision of the current lineage, in order."""
        ...
