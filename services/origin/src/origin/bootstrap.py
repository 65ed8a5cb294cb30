"""Composition of the origin."""

from __future__ import annotations

import resource

from common.contracts.status import Reason
from common.runtime import Runtime
from common.storage.folders import backend_folders
from origin.adapters.files import FolderFiles
from origin.errors import not_configured
from origin.routes import StreamApp
from origin.settings import OriginSettings


async def build(runtime: Runtime) -> None:
    """Read the secrets, find the folders, listen. Raises ConfigurationError for a secret that is too short."""
    settings = runtime.settings
    assert isinstance(settings, OriginSettings)
    secrets = settings.token_secrets
    _allow_many_files()
    files = FolderFiles(folders=backend_folders(settings), threads=settings.origin_read_threads)
    app = StreamApp(secrets=secrets, files=files, stall_seconds=settings.origin_stall_seconds)
    server = runtime.serve_http(app, host=settings.origin_host, port=settings.origin_port)
    missing = None if secrets else not_configured().reason
    runtime.add_check("secret", lambda: missing)
    runtime.add_check("library", lambda: _library_problem(settings))
    runtime.add_detail("port", lambda: server.port)
    runtime.add_detail("streams", lambda: app.streams)
    runtime.on_stop(files.close)


def _library_problem(settings: OriginSettings) -> Reason | None:
    if settings.library.is_dir():
        return None
    return Reason(code="library-missing", message="LIBRARY_DIR is not there. Is its disk mounted?")


def _allow_many_files() -> None:
    """A stream is two descriptors; the usual soft limit of 1024 is for programs that use select()."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
