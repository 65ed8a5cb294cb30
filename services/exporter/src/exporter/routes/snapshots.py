"""The newest manifest, and the files of the snapshots that are kept, for whoever reads them whole."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from exporter.adapters.snapshots import SnapshotFolder
from exporter.errors import RequestRefused
from exporter.routes.answers import is_known, refusal
from exporter.routes.gate import Gate
from mirror.format.schema import DATABASE_FILE, MANIFEST_FILE

_TYPES = {DATABASE_FILE: "application/vnd.sqlite3", MANIFEST_FILE: "application/json"}


def snapshot_routes(folder: SnapshotFolder, gate: Gate) -> list[Route]:
    """``/snapshots/current`` and ``/snapshots/<hex>/<file>``.

    Under its name a snapshot keeps its content, but not its bytes: it is signed with other keys, or comes back.
    """
    kept = "no-cache" if gate.public else "private, no-store"

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
        try:
            found = path.stat() if path is not None else None
        except OSError:
            found = None
        if path is None or found is None:
            return refusal(RequestRefused(404, "not-found", "There is no such snapshot here (any more)."))
        tag = f'"{found.st_ino:x}-{found.st_mtime_ns:x}-{found.st_size:x}"'
        headers = {"Cache-Control": kept, "ETag": tag}
        if is_known(request, tag):
            return Response(status_code=304, headers=headers)
        return FileResponse(path, media_type=_TYPES[name], headers=headers, stat_result=found)

    return [Route("/snapshots/current", current), Route("/snapshots/{folder}/{name}", file)]
