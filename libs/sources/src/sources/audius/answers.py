"""Answers of the Audius API, as its documentation describes them."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from ..api.fields import Answer, Flag, Id, Name, Seconds, Text
from ..paths import AUDIO_EXTENSIONS, extension


class Many(Answer):
    """An answer with a list."""

    data: list[Any]


class One(Answer):
    """An answer about one thing; ``data`` is missing where there is none."""

    data: dict[str, Any] | list[Any] | None = None

    @property
    def only(self) -> dict[str, Any] | None:
        """The one thing that was asked for: some answers put it into a list."""
        one = self.data[0] if isinstance(self.data, list) and self.data else self.data
        return one if isinstance(one, dict) else None


class User(Answer):
    """An artist."""

    id: Id
    name: Name


class TrackList(Answer):
    """A playlist or an album, without its tracks."""

    id: Id
    playlist_name: Name
    description: Text = None


class _Access(Answer):
    stream: bool = True
    download: bool = True


class AudiusTrack(Answer):
    """A song, and what its artist allows."""

    id: Id
    title: Name
    user: User
    duration: Seconds = None
    genre: Text = None
    release_date: Text = None
    license: Text = None
    orig_filename: Text = None
    is_original_available: Flag = False
    is_downloadable: Flag = False
    downloadable: Flag = False
    is_streamable: Flag = True
    is_stream_gated: Flag = False
    is_download_gated: Flag = False
    is_delete: Flag = False
    access: _Access = Field(default_factory=_Access)

    @property
    def gives_file(self) -> bool:
        """Whether its artist offers it as a download to everybody."""
        offered = self.is_downloadable or self.downloadable
        return offered and not self.is_download_gated and self.access.download and not self.is_delete

    @property
    def gives_stream(self) -> bool:
        return self.is_streamable and not self.is_stream_gated and self.access.stream and not self.is_delete

    @property
    def original_ext(self) -> str | None:
        """The extension of what its artist uploaded, where that can be had."""
        ext = extension(self.orig_filename or "")
        return ext if self.is_original_available and ext in AUDIO_EXTENSIONS else None
