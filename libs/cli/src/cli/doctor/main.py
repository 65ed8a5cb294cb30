"""The command itself: look at everything, show it, and answer with an exit status."""

from __future__ import annotations

import json
from dataclasses import asdict

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cli.access import Options
from cli.doctor.bus import bus_rows
from cli.doctor.machine import folder_rows, port_rows, secret_rows, settings_rows
from cli.doctor.row import Row, Status, error, worst
from cli.doctor.services import service_rows
from cli.reading import visible
from cli.settings import CliSettings
from common.audit.commands import edit_settings
from common.errors import ConfigurationError
from common.settings import load
from common.telemetry import configure_logging

STATUS_OF: dict[Status, int] = {"ok": 0, "warning": 1, "error": 2}
"""The exit status for the worst row."""
_COLORS: dict[Status, str] = {"ok": "green", "warning": "yellow", "error": "red"}


def doctor(options: Options, *, as_json: bool) -> int:
    """Look, print, and return the exit status: 0 all well, 1 warnings, 2 errors."""
    rows = look(options)
    if as_json:
        print(json.dumps({"status": worst(rows), "items": [asdict(row) for row in rows]}, ensure_ascii=False, indent=2))
    else:
        _print(rows)
    return STATUS_OF[worst(rows)]


def look(options: Options) -> list[Row]:
    """Everything, each part by itself: what is down does not keep the others from being looked at."""
    try:
        settings = load(CliSettings)
    except ConfigurationError as problem:
        return [error("settings", sentence, edit_settings()) for sentence in problem.sentences]
    # What the client of the bus logs of its tries is said in a row.
    configure_logging(level="critical", format="text", service="doctor", instance="doctor")
    told, running = service_rows(options, settings)
    return [
        *settings_rows(settings),
        *secret_rows(settings),
        *folder_rows(settings),
        *port_rows(settings, running),
        *bus_rows(settings),
        *told,
    ]


def _print(rows: list[Row]) -> None:
    out = Console(highlight=False)
    if not out.is_terminal:
        # A pipe has no width: programs must find one line where there is one.
        out = Console(highlight=False, width=10_000)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("", "what", "finding"):
        table.add_column(title, overflow="fold")
    for row in rows:
        words = escape(visible(row.message))
        if row.mend:
            words += f"\n[bold]{escape(visible(row.mend))}[/]"
        table.add_row(f"[{_COLORS[row.status]}]{row.status}[/]", escape(visible(row.subject)), words)
    out.print(table)
