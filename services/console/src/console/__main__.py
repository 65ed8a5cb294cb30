"""``console``, ``console serve``: start the console."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from common.errors import ConfigurationError
from common.process import run_service
from common.settings import ENV_FILE_VARIABLE
from console.bootstrap import build, needs, prepare
from console.settings import ConsoleSettings


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line into the environment, which wins over the env file, and serve."""
    options = _parser().parse_args(arguments)
    given = {
        ENV_FILE_VARIABLE: options.env_file,
        "OPS_DB_PATH": options.db,
        "WEB_HOST": options.host,
        "WEB_PORT": options.port,
    }
    os.environ.update({name: str(value) for name, value in given.items() if value is not None})
    try:
        prepare()
    except ConfigurationError as error:
        for sentence in error.sentences:
            print(f"console: {sentence}", file=sys.stderr)
        sys.exit(2)
    run_service("console", ConsoleSettings, build, needs)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="console", description="The operations page of Music Cloud.")
    parser.add_argument("command", nargs="?", choices=["serve"], default="serve", help="start it (the default)")
    parser.add_argument("--db", type=Path, help="the console's own database (default STATE_DIR/ops.db)")
    parser.add_argument("--env-file", type=Path, help="the settings (default music-cloud.env)")
    parser.add_argument("--host", help="address to listen on (default 127.0.0.1)")
    parser.add_argument("--port", type=int, help="port to listen on (default 8421)")
    return parser


if __name__ == "__main__":
    main()
