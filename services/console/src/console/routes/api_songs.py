"""``/api/songs`` and ``/api/resolver``: what searches found, what people chose, what the resolver has learned."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query

from console.routes.api_jobs import TheDesk
from console.routes.models import NewChoice

router = APIRouter(prefix="/api", tags=["songs"])

SongId = Annotated[int, Path(ge=0, lt=2**53)]
_Origin = Annotated[
    str | None, Query(pattern=r"^[a-z0-9_-]{1,64}$", description="the source whose songs are resolved; default: all")
]


@router.get("/songs/{song_id}")
async def get_song(desk: TheDesk, song_id: SongId) -> dict[str, Any]:
    """A song as its source lists it, its file, what was chosen, the last item of it."""
    return await desk.songs.view(song_id)


@router.get("/songs/{song_id}/matches")
async def get_matches(desk: TheDesk, song_id: SongId) -> dict[str, Any]:
    """What the last search for a song found elsewhere, best first: accepted, for review or refused, and why.

    ``search``: which sources it asked, in which order and why.
    """
    told = await desk.resolver.matches(song_id)
    return {"items": told["items"], "search": told.get("search"), "next": None}


@router.post("/songs/{song_id}/choice", status_code=202)
async def choose(desk: TheDesk, song_id: SongId, wanted: NewChoice) -> dict[str, Any]:
    """Pin one recording to a song, or ban one for ever; the song is fetched again by it."""
    return await desk.songs.choose(
        song_id, wanted.action, source=wanted.source, remote_id=wanted.remote_id, by="console"
    )


@router.get("/resolver")
async def get_resolver(desk: TheDesk, origin: _Origin = None) -> dict[str, Any]:
    """In which order sources are asked for songs of ``origin``, the numbers of each pair, and why.

    Without ``origin``: ``items``, one for each origin that there are numbers of, in use or not.
    """
    if origin is None:
        return {"items": await desk.resolver.all_standings(), "next": None}
    return await desk.resolver.standings(origin)
