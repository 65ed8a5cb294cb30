"""Composition of the origin."""

from __future__ import annotations

from common.audit import Needs, Port, library_place, media_place
from common.contracts.status import Reason
from common.metrics_names import ORIGIN_BYTES, ORIGIN_REFUSED, ORIGIN_STREAMS
from common.runtime import Runtime
from common.storage.folders import backend_folders
from origin.adapters.files import FolderFiles
from origin.errors import not_configured
from origin.routes import StreamApp
from origin.settings import OriginSettings

_MANY_FILES = 16_384
"""A stream is two descriptors, and players keep several open."""


def needs(settings: OriginSettings) -> Needs:
    """It reads the folders and listens; a stream is two open files."""
    port = Port(setting="ORIGIN_PORT", host=settings.origin_host, number=settings.origin_port)
    places = (library_place(settings), media_place(settings))
    return Needs(
        reads=tuple(place for place in places if place is not None),
        ports=(port,),
        open_files=_MANY_FILES,
        settings=(lambda: settings.token_secrets, lambda: backend_folders(settings)),
    )


async def build(runtime: Runtime) -> None:
    """Read the secrets, find the folders, listen. Raises ConfigurationError for a secret that is too short."""
    settings = runtime.settings
    assert isinstance(settings, OriginSettings)
    secrets = settings.token_secrets
    files = FolderFiles(folders=backend_folders(settings), threads=settings.origin_read_threads)
    sent, refused = runtime.metrics.counter(ORIGIN_BYTES), runtime.metrics.counter(ORIGIN_REFUSED)
    app = StreamApp(
        secrets=secrets,
        files=files,
        stall_seconds=settings.origin_stall_seconds,
        on_sent=sent.add,
        on_refused=lambda code: refused.add(1, code),
    )
    server = runtime.serve_http(app, host=settings.origin_host, port=settings.origin_port)
    missing = None if secrets else not_configured().reason
    runtime.add_check("secret", lambda: missing)
    runtime.add_check("library", lambda: _library_problem(settings))
    runtime.add_detail("port", lambda: server.port)
    runtime.add_detail("streams", lambda: app.streams)
    runtime.metrics.value(ORIGIN_STREAMS, lambda: float(app.streams))
    runtime.numbers.folder("library", settings.library)
    runtime.on_stop(files.close)


def _library_problem(settings: OriginSettings) -> Reason | None:
    if settings.library.is_dir():
        return None
    return Reason(code="library-missing", message="LIBRARY_DIR is not there. Is its disk mounted?")
