"""``python -m mirror``, or ``music-cloud-mirror``."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

from mirror.cli import run


def main() -> None:
    """Run the command that was typed, and end with its status."""
    signal.signal(signal.SIGTERM, _end)
    try:
        status = run(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read our output had enough of it; what is left of it must not be written at the end either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 0
    sys.exit(status)


def _end(number: int, frame: FrameType | None) -> None:
    """Unwinds what is under way, so that nothing half-made is left."""
    raise SystemExit(128 + number)


if __name__ == "__main__":
    main()
