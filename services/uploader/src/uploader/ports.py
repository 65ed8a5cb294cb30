"""What the uploader needs from the world."""

from __future__ import annotations

from typing import Protocol

from common.contracts.facts import FileStored
from common.storage.port import Canceled, Progress, PutResult


class Copier(Protocol):
    """Copies a stored file into the object store."""

    async def digested(self, stored: FileStored, *, canceled: Canceled) -> FileStored:
        """The same with the digest of the file, which is read for it where it was adopted unread.

        Raises FileMissing or FileChanged.
        """
        ...

    async def copy(self, stored: FileStored, *, progress: Progress, canceled: Canceled) -> PutResult:
        """Put the file that ``stored`` names under its own locator, verified; nothing is sent if it is there.

        Raises FileMissing, FileChanged, or what the object store answers.
        """
        ...
