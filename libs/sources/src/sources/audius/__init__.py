"""The source ``audius``: songs of a network without a centre, by the API of its discovery nodes."""

from .source import AudiusSource, create

__all__ = ["AudiusSource", "create"]
