"""``public-catalog --mirror DIR``, or ``python -m public_catalog``."""

from __future__ import annotations

import logging
import sys

import uvicorn

from public_catalog.app import build
from public_catalog.errors import SettingsError
from public_catalog.settings import read


def main() -> int:
    """Serve until asked to stop; 2 where a setting cannot be meant."""
    try:
        settings = read(sys.argv[1:])
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    uvicorn.run(
        build(settings),
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=10,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
