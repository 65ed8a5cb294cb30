"""Copies files from the folders of this machine into the object store, in threads of its own."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from common.contracts.facts import FileStored
from common.contracts.names import UNKNOWN_SHA256
from common.errors import PermanentError
from common.storage.beneath import open_beneath
from common.storage.filesystem import copy_verified
from common.storage.port import Canceled, FileChanged, FileMissing, Progress, PutResult
from common.storage.s3 import S3Storage
from common.telemetry import ContextThreads


class FolderCopier:
    """Reads below the folders and nowhere else."""

    def __init__(self, *, folders: Mapping[str, Path], store: S3Storage, threads: int) -> None:
        self._folders = dict(folders)
        self._store = store
        self._pool = ContextThreads(threads, thread_name_prefix="upload")

    async def copy(self, stored: FileStored, *, progress: Progress, canceled: Canceled) -> PutResult:
        """As the port says."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, self._copy, stored, progress, canceled)

    async def digested(self, stored: FileStored, *, canceled: Canceled) -> FileStored:
        """As the port says."""
        if stored.sha256 != UNKNOWN_SHA256:
            return stored
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, self._digest, stored, canceled)

    def hold(self, threads: int) -> None:
        """Copy so many files at once from now on."""
        self._pool.hold(threads)

    def close(self) -> None:
        """Let the threads go; does not wait for them."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._store.close()

    def _digest(self, stored: FileStored, canceled: Canceled) -> FileStored:
        with self._open(stored) as file:
            sha256, size = copy_verified(file, None, canceled=canceled)
        if size != stored.size:
            raise FileChanged("The file is not as long as it was when it was adopted. Download the song again.")
        return stored.model_copy(update={"sha256": sha256})

    def _copy(self, stored: FileStored, progress: Progress, canceled: Canceled) -> PutResult:
        with self._open(stored) as file:
            return self._store.put_open_file(
                file, stored.locator, sha256=stored.sha256, size=stored.size, progress=progress, canceled=canceled
            )

    def _open(self, stored: FileStored) -> BinaryIO:
        folder = self._folders.get(stored.backend)
        if folder is None:
            raise PermanentError(
                f"The files of the backend {stored.backend!r} cannot be read here. Set its folder for the uploader "
                "too (for 'local': LOCAL_MEDIA_IMPORT_PATH), then retry.",
                code="backend-unknown",
            )
        try:
            descriptor = open_beneath(folder, stored.locator)
        except FileMissing:
            raise FileMissing(
                f"The file is not in the backend {stored.backend!r} any more, or may not be read. Put it back or "
                "download the song again, then retry."
            ) from None
        return os.fdopen(descriptor, "rb")
