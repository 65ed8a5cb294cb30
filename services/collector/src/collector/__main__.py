"""Start the collector."""

from __future__ import annotations

from collector.bootstrap import build, needs
from collector.settings import CollectorSettings
from common.process import run_service


def main() -> None:
    """Run until a signal; exit status 0 after one."""
    run_service("collector", CollectorSettings, build, needs)


if __name__ == "__main__":
    main()
