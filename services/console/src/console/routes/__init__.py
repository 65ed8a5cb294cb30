"""HTTP: pages for people, an API for programs, one gate in front of both."""

from console.routes.app import create_app

__all__ = ["create_app"]
