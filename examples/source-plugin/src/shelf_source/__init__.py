"""The source ``shelf``: the songs that a JSON file on a web server lists."""

from .source import ShelfSource, create

__all__ = ["ShelfSource", "create"]
