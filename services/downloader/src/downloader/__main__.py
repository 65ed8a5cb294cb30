"""``downloader``: finds, fetches, verifies and files songs."""

from __future__ import annotations

from common.process import run_service
from downloader.bootstrap import build, needs
from downloader.settings import DownloaderSettings


def main() -> None:
    """Run the downloader until it is told to stop."""
    run_service("downloader", DownloaderSettings, build, needs)


if __name__ == "__main__":
    main()
