"""How the command line finds its console and the credential for it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from cli.client import ConsoleClient
from cli.settings import CliSettings
from common.private_files import write_private
from common.settings import load

RUN_FILE = "run.json"
"""Below ROOT_DIR while `music-cloud run` runs: where everything listens. Holds no secret."""


@dataclass(frozen=True)
class Options:
    """What was given on the command line."""

    url: str | None = None
    credential: str | None = None
    json: bool = False


def open_console(options: Options) -> ConsoleClient:
    """A client of the console meant: by option, by setting, or the one running on this ROOT_DIR."""
    settings = load(CliSettings)
    credential = options.credential
    if credential is None and settings.console_token is not None:
        credential = settings.console_token.get_secret_value()
    return ConsoleClient(url=options.url or console_url(settings), credential=credential)


def console_url(settings: CliSettings) -> str:
    """The console's address."""
    if settings.music_cloud_url:
        return settings.music_cloud_url
    running = read_run_file(settings.root_dir).get("console")
    if isinstance(running, str):
        return running
    host = "127.0.0.1" if settings.web_host in {"0.0.0.0", "::", ""} else settings.web_host  # noqa: S104
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.web_port}"


def read_run_file(root: Path) -> dict[str, object]:
    """What the run on this ROOT_DIR wrote about itself; empty where none did."""
    try:
        content = json.loads((root / RUN_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def write_run_file(root: Path, content: dict[str, object]) -> None:
    """Tell other commands where everything listens."""
    write_private(root / RUN_FILE, json.dumps(content, indent=2) + "\n")
