"""The uploader process: keeps copies of stored files in S3-compatible object storage."""

from __future__ import annotations

from common.process import run_service
from uploader.bootstrap import build, needs
from uploader.settings import UploaderSettings


def main() -> None:
    """Run until a signal."""
    run_service("uploader", UploaderSettings, build, needs)


if __name__ == "__main__":
    main()
