"""What the services say of themselves, by the console."""

from __future__ import annotations

from typing import Any

from cli.access import Options, console_url, open_console
from cli.doctor.row import Row, error, from_finding, ok, warning
from cli.errors import ConsoleRefused
from cli.settings import CliSettings
from common.audit import read_findings
from common.audit.commands import command, in_container
from common.errors import MusicCloudError
from common.secret_files import secrets_path

SERVICES = ("console", "collector", "downloader", "uploader", "exporter", "origin")


def service_rows(options: Options, settings: CliSettings) -> tuple[list[Row], frozenset[str] | None]:
    """The services' own findings and who is missing; and who runs, None when nobody can tell."""
    try:
        with open_console(options) as client:
            told = client.doctor()
    except ConsoleRefused as problem:
        # The credential that it has; whoever may read the file may see it.
        secrets = secrets_path(settings.root_dir.absolute(), "operator")
        return [error("console", problem.message, command("grep", "CONSOLE_TOKEN", secrets))], None
    except MusicCloudError as problem:
        return [error("console", problem.message, _start_command(settings, options))], None
    return read(told)


def read(told: dict[str, Any]) -> tuple[list[Row], frozenset[str]]:
    """What the console told, as rows."""
    running = frozenset(
        str(one.get("service"))
        for one in _dicts(told.get("services"))
        if one.get("status") != "lost" and one.get("status") is not None
    )
    rows: list[Row] = []
    for item in _dicts(told.get("items")):
        workers = item.pop("workers", None)
        name = str(item.pop("service", "service"))
        many = f"{name} ({', '.join(map(str, workers))})" if isinstance(workers, list) and len(workers) > 1 else name
        rows += [from_finding(many, finding) for finding in read_findings([item])]
    refused = {row.subject.split(" ")[0] for row in rows if row.status == "error"}
    rows += [
        warning(
            name,
            f"No {name} has been heard of in the last seconds.",
            f"docker compose up -d {name} && docker compose logs --tail 5 {name}" if in_container() else name,
        )
        for name in SERVICES
        if name not in running | refused
    ]
    return rows or [ok("services", "All six run, and none has found anything amiss.")], running


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [dict(one) for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _start_command(settings: CliSettings, options: Options) -> str:
    local = "://127.0.0.1" in (options.url or console_url(settings))
    return "make run" if local else "docker compose up -d console"
