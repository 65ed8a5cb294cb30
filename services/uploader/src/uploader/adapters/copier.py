"""Copies files from the folders of this machine into the object store, in threads of its own."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from common.contracts.facts import FileStored
from common.errors import PermanentError
from common.storage.beneath import open_beneath
from common.storage.port import Canceled, FileMissing, Progress, PutResult
from common.storage.s3 import S3Storage


class FolderCopier:
    """Reads below the folders and nowhere else."""

    def __init__(self, *, folders: Mapping[str, Path], store: S3Storage, threads: int) -> None:
        self._folders = dict(folders)
        self._store = store
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="upload")

    async def copy(self, stored: FileStored, *, progress: Progress, canceled: Canceled) -> PutResult:
        """As the port says."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, self._copy, stored, progress, canceled)

    def close(self) -> None:
        """Let the threads go; does not wait for them."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._store.close()

    def _copy(self, stored: FileStored, progress: Progress, canceled: Canceled) -> PutResult:
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
        with os.fdopen(descriptor, "rb") as file:
            return self._store.put_open_file(
                file, stored.locator, sha256=stored.sha256, size=stored.size, progress=progress, canceled=canceled
            )
