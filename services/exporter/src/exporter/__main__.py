"""``exporter`` runs the service; ``exporter rebuild`` first puts its database aside and replays all facts."""

from __future__ import annotations

import argparse
import os

from common.process import run_service
from exporter.bootstrap import build, needs
from exporter.settings import ExporterSettings


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(prog="exporter", description="Keeps the catalog and publishes snapshots of it.")
    parser.add_argument(
        "command",
        nargs="?",
        choices=("serve", "rebuild"),
        default="serve",
        help="rebuild: put the catalog database aside and make it again from the bus, then go on serving",
    )
    if parser.parse_args().command == "rebuild":
        os.environ["EXPORTER_REBUILD"] = "true"
    run_service("exporter", ExporterSettings, build, needs)


if __name__ == "__main__":
    main()
