"""The small HTTP server of the demo feed, on loopback."""

from __future__ import annotations

from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles


def serve(folder: Path, *, host: str, port: int) -> None:
    """Serve ``folder`` until the process is told to stop. Answers range requests."""
    app = Starlette(routes=[Mount("/", StaticFiles(directory=folder))])
    uvicorn.run(app, host=host, port=port, log_level="warning", access_log=False, timeout_graceful_shutdown=1)
