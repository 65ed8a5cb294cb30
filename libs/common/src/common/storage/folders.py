"""Which file system backends there are, and where this machine has them."""

from __future__ import annotations

import re
from pathlib import Path

from common.contracts.names import LIBRARY_BACKEND
from common.errors import ConfigurationError
from common.settings import Settings, split_list

LOCAL_BACKEND = "local"
"""The mounted folder whose files are used in place: a read-only backend."""


_NAME = re.compile(r"[a-z0-9_-]{1,64}")


def backend_folders(settings: Settings) -> dict[str, Path]:
    """The folder of each file system backend. Paths stay inside the process: no message ever holds one.

    Raises ConfigurationError when ADOPTED_LIBRARIES cannot be meant.
    """
    folders = {LIBRARY_BACKEND: settings.library}
    if settings.local_media_import_path is not None:
        folders[LOCAL_BACKEND] = settings.local_media_import_path.absolute()
    for given in split_list(settings.adopted_libraries):
        name, separator, folder = given.partition("=")
        name = name.strip()
        if not separator or not folder.strip() or not _NAME.fullmatch(name) or name in folders:
            raise ConfigurationError(
                "ADOPTED_LIBRARIES is a list such as older=/volume1/music: names of a-z, 0-9, _ and -, each once, and "
                f"neither {LIBRARY_BACKEND} nor {LOCAL_BACKEND}."
            )
        folders[name] = Path(folder.strip()).absolute()
    return folders


def backend_names(settings: Settings) -> tuple[str, ...]:
    """The file system backends that songs may be in, the library first; also the mounted folder of earlier days.

    Raises ConfigurationError as :func:`backend_folders`.
    """
    return tuple(dict.fromkeys((LIBRARY_BACKEND, LOCAL_BACKEND, *backend_folders(settings))))
