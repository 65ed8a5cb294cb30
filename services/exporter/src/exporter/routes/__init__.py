"""HTTP: the fetch protocol for mirrors, and the files of the snapshots that are kept."""

from exporter.routes.app import create_app

__all__ = ["create_app"]
