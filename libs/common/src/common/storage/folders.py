"""Which file system backends there are, and where this machine has them."""

from __future__ import annotations

from pathlib import Path

from common.contracts.names import LIBRARY_BACKEND
from common.settings import Settings

LOCAL_BACKEND = "local"
"""The mounted folder whose files are used in place: a read-only backend."""


def backend_folders(settings: Settings) -> dict[str, Path]:
    """The folder of each file system backend. Paths stay inside the process: no message ever holds one."""
    folders = {LIBRARY_BACKEND: settings.library}
    if settings.local_media_import_path is not None:
        folders[LOCAL_BACKEND] = settings.local_media_import_path.absolute()
    return folders
