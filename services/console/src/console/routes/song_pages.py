"""The pages about songs: which could not be had, what was found for one, and how sources are ordered."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Query, Request
from starlette.responses import RedirectResponse, Response

from common.contracts.names import Stage, Token
from console.errors import ClientError
from console.routes.api_jobs import Cursor, TheDesk, number
from console.routes.api_songs import SongId
from console.routes.rendering import render
from console.service.songs import Action
from console.service.views import item_view

router = APIRouter(include_in_schema=False)

_PAGE = 50


@router.get("/songs")
def songs_page(
    request: Request, desk: TheDesk, reason: Annotated[str, Query(max_length=64)] = "", cursor: Cursor = None
) -> Response:
    """Songs that could not be had, the newest first."""
    found = desk.items.failed_of_stage(
        Stage.DOWNLOAD, error_code=reason or None, before=number(cursor), limit=_PAGE + 1
    )
    shown = found[:_PAGE]
    query = {"reason": reason} if reason else {}
    more = f"/songs?{urlencode({**query, 'cursor': shown[-1].item_id})}" if len(found) > _PAGE else None
    return render(request, "songs.html", items=[item_view(item) for item in shown], reason=reason, more=more)


@router.get("/songs/{song_id}")
async def song_page(request: Request, desk: TheDesk, song_id: SongId) -> Response:
    """One song, and the recordings that may be it."""
    song = await desk.songs.view(song_id)
    told: dict[str, Any] = {"items": []}
    problem = None
    try:
        told = await desk.resolver.matches(song_id)
    except ClientError as error:
        problem = error.message
    matches, search = _marked(song, told["items"]), told.get("search")
    return render(request, "song.html", song=song, matches=matches, search=search, problem=problem)


@router.post("/songs/{song_id}/choice")
async def choose(
    desk: TheDesk,
    song_id: SongId,
    action: Annotated[Action, Form()],
    source: Annotated[Token, Form()],
    remote_id: Annotated[str, Form(min_length=1, max_length=2000)],
) -> Response:
    """Keep a choice, and show the song again."""
    await desk.songs.choose(song_id, action, source=source, remote_id=remote_id, by="console")
    return RedirectResponse(f"/songs/{song_id}", status_code=303)


@router.get("/resolver")
async def resolver_page(request: Request, desk: TheDesk) -> Response:
    """In which order sources are asked for the songs of each other, and why; and what was counted for others."""
    names = desk.settings.source_names
    tables: list[dict[str, Any]] = []
    problem = None
    try:
        counted = {one["origin"]: one for one in await desk.resolver.all_standings()}
        fresh = [name for name in names if name not in counted]
        counted |= zip(fresh, await asyncio.gather(*map(desk.resolver.standings, fresh)), strict=True)
        tables = [counted[name] for name in (*names, *sorted(counted.keys() - set(names)))]
    except ClientError as error:
        problem = error.message
    return render(request, "resolver.html", tables=tables, problem=problem, names=names)


def _marked(song: dict[str, Any], matches: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Search results with what a person decided about each."""
    choice = song["choice"]
    banned = {(one["source"], one["remote_id"]) for one in choice["banned"]}
    match = choice["match"] and (choice["match"]["source"], choice["match"]["remote_id"])
    taken = song["stored"] and (song["stored"]["source"], song["stored"]["remote_id"])
    return [
        {
            **one,
            "pinned": (key := (one["source"], one["remote_id"])) == match,
            "banned": key in banned,
            "taken": key == taken,
        }
        for one in matches
    ]
