"""The source ``internet-archive``: audio items of archive.org, and collections of them."""

from .source import InternetArchiveSource, create

__all__ = ["InternetArchiveSource", "create"]
