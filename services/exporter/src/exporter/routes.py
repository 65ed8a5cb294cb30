"""What the exporter serves: the newest manifest, and the files of the snapshots that are kept."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from common.catalog.read_model import DATABASE_FILE, MANIFEST_FILE
from exporter.adapters.snapshots import SnapshotFolder

_TYPES = {DATABASE_FILE: "application/vnd.sqlite3", MANIFEST_FILE: "application/json"}
_FOREVER = {"Cache-Control": "public, max-age=31536000, immutable"}


def snapshot_app(folder: SnapshotFolder) -> Starlette:
    """``/snapshots/current`` and ``/snapshots/<hex>/<file>``; a snapshot never changes under its name."""

    def current(_: Request) -> Response:
        manifest = folder.current()
        if manifest is None:
            return _problem(404, "no-snapshot", "No snapshot has been made yet.")
        return JSONResponse(manifest, headers={"Cache-Control": "no-cache"})

    def file(request: Request) -> Response:
        name = request.path_params["name"]
        path = folder.file(request.path_params["folder"], name) if name in _TYPES else None
        if path is None:
            return _problem(404, "not-found", "There is no such snapshot here (any more).")
        return FileResponse(path, media_type=_TYPES[name], headers=_FOREVER)

    return Starlette(routes=[Route("/snapshots/current", current), Route("/snapshots/{folder}/{name}", file)])


def _problem(status: int, code: str, message: str) -> Response:
    return JSONResponse({"code": code, "message": message}, status_code=status)
