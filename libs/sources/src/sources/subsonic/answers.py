"""The Subsonic API's answers, as its documentation and that of OpenSubsonic describe them."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from ..api.fields import Answer, Count, Ext, Flag, Id, Name, Seconds, Text


def _as_list(value: object) -> object:
    """Some servers send a list of one as the object itself, and an empty one as empty text or not at all."""
    if isinstance(value, dict):
        return [value]
    return [] if value is None or value == "" else value


def _as_object(value: object) -> object:
    return {} if value is None or value == "" else value


Entries = Annotated[list[Any], BeforeValidator(_as_list)]


class ArtistName(Answer):
    name: Text = None


class SubsonicSong(Answer):
    """``Child`` in the documentation."""

    id: Id
    title: Name
    artist: Text = None
    artists: Entries = Field(default_factory=list)
    album: Text = None
    duration: Seconds = None
    size: Count = None
    suffix: Ext = None
    bitRate: Count = None
    track: Count = None
    year: Count = None
    genre: Text = None
    isDir: Flag = False
    isVideo: Flag = False


class SubsonicPlaylist(Answer):
    """A playlist; its ``entry`` list only where it was asked for by itself."""

    id: Id
    name: Name
    comment: Text = None
    entry: Entries = Field(default_factory=list)


class _Playlists(Answer):
    playlist: Entries = Field(default_factory=list)


class _Results(Answer):
    song: Entries = Field(default_factory=list)


class SubsonicError(Answer):
    code: int = 0


class SubsonicBody(Answer):
    """What is common to all answers, and the parts that we ask for."""

    status: str
    error: SubsonicError | None = None
    playlists: Annotated[_Playlists, BeforeValidator(_as_object)] = _Playlists()
    playlist: dict[str, Any] | None = None
    searchResult3: Annotated[_Results, BeforeValidator(_as_object)] = _Results()
    song: dict[str, Any] | None = None


class SubsonicAnswer(Answer):
    body: SubsonicBody = Field(alias="subsonic-response")
