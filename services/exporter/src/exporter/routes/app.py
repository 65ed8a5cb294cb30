"""The application of the exporter's own port."""

from __future__ import annotations

from typing import Any

from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response

from exporter.adapters.snapshots import SnapshotFolder
from exporter.errors import RequestRefused, no_such_catalog
from exporter.routes.answers import refusal, wanted_type
from exporter.routes.fetch import FetchRoutes
from exporter.routes.gate import Gate
from exporter.routes.snapshots import snapshot_routes


def create_app(*, folder: SnapshotFolder, gate: Gate, fetch: FetchRoutes) -> Any:
    """Snapshots and the fetch protocol; pages of other sites may read what is public."""

    def missing(request: Request, _: Exception) -> Response:
        return refusal(no_such_catalog(), kind=wanted_type(request))

    def wrong_method(request: Request, error: Exception) -> Response:
        refused = refusal(
            RequestRefused(405, "method-not-allowed", "This address is not asked in this way."),
            kind=wanted_type(request),
        )
        refused.headers.update(getattr(error, "headers", None) or {})
        return refused

    app = Starlette(
        routes=[*snapshot_routes(folder, gate), *fetch.routes()],
        exception_handlers={404: missing, 405: wrong_method},
    )
    if not gate.public:
        return app
    return CORSMiddleware(
        app,
        allow_origins=("*",),
        allow_methods=("GET", "HEAD", "POST"),
        allow_headers=("Content-Type", "If-None-Match", "If-Range", "Range"),
        expose_headers=("Accept-Ranges", "Content-Range", "ETag", "Retry-After"),
    )
