"""The origin process: streams files by expiring signed tokens."""

from __future__ import annotations

from common.process import run_service
from origin.bootstrap import build, needs
from origin.settings import OriginSettings


def main() -> None:
    """Run until a signal."""
    run_service("origin", OriginSettings, build, needs)


if __name__ == "__main__":
    main()
