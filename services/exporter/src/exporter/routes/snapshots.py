"""The newest manifest, and the files of the snapshots that are kept, for whoever reads them whole."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from exporter.adapters.snapshots import SnapshotFolder
from exporter.errors import RequestRefused
from exporter.routes.answers import refusal
from exporter.routes.gate import Gate
from mirror.format.schema import DATABASE_FILE, MANIFEST_FILE

_TYPES = {DATABASE_FILE: "application/vnd.sqlite3", MANIFEST_FILE: "application/json"}


def snapshot_routes(folder: SnapshotFolder, gate: Gate) -> list[Route]:
    """``/snapshots/current`` and ``/snapshots/<hex>/<file>``; a snapshot never changes under its name."""
    lasting = "public, max-age=31536000, immutable" if gate.public else "private, no-store"

    def current(request: Request) -> Response:
        try:
            gate.check_token(request)
        except RequestRefused as error:
            return refusal(error)
        manifest = folder.current()
        if manifest is None:
            return refusal(RequestRefused(404, "no-snapshot", "No snapshot has been made yet."))
        return JSONResponse(manifest, headers={"Cache-Control": "no-cache"})

    def file(request: Request) -> Response:
        try:
            gate.check_token(request)
        except RequestRefused as error:
            return refusal(error)
        name = request.path_params["name"]
        path = folder.file(request.path_params["folder"], name) if name in _TYPES else None
        if path is None:
            return refusal(RequestRefused(404, "not-found", "There is no such snapshot here (any more)."))
        return FileResponse(path, media_type=_TYPES[name], headers={"Cache-Control": lasting})

    return [Route("/snapshots/current", current), Route("/snapshots/{folder}/{name}", file)]
