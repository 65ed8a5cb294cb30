"""The source ``subsonic``: playlists and search of another server that speaks the Subsonic API."""

from .source import SubsonicSource, create

__all__ = ["SubsonicSource", "create"]
