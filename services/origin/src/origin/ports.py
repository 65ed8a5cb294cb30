"""What the origin needs from the world."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What decides about an answer. ``size`` in bytes, ``modified_ns`` since 1970; ``number`` tells files apart."""

    size: int
    modified_ns: int
    number: int


class OpenFile(Protocol):
    """A file that is being sent."""

    facts: FileFacts

    def read_cached(self, offset: int, length: int) -> memoryview | None:
        """Bytes that are in memory already, up to ``length``; None where the disk would have to be asked."""
        ...

    async def read(self, offset: int, length: int) -> memoryview:
        """Bytes, from the disk if need be, up to ``length``; empty at the end of the file."""
        ...

    def close(self) -> None: ...


class Files(Protocol):
    """The files of all backends that this machine can read."""

    async def open(self, backend: str, locator: str) -> OpenFile:
        """Raises FileMissing, also for an unknown backend, or DependencyDown."""
        ...
