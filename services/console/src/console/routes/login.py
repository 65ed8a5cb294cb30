"""``/login`` and ``/logout``."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Form, Query, Request
from starlette.responses import RedirectResponse, Response

from common.contracts.envelope import now
from console.adapters.ledger.sessions import LIFETIME
from console.errors import ClientError, Forbidden
from console.routes.desk import desk_of
from console.routes.gate import COOKIE, Keeper
from console.routes.rendering import render
from console.service.access import local_path, same_origin

router = APIRouter(include_in_schema=False)


@router.get("/login")
def login_page(request: Request, next: Annotated[str | None, Query(max_length=2000)] = None) -> Response:
    """The form that asks for the credential."""
    return render(request, "login.html", next=local_path(next), problem=None)


@router.post("/login")
async def login(
    request: Request,
    credential: Annotated[str, Form(max_length=4096)],
    next: Annotated[str | None, Form(max_length=2000)] = None,
) -> Response:
    """Start a session. The cookie is a random name of it, never the credential."""
    headers = request.headers
    if ("sec-fetch-site" in headers or "origin" in headers) and not same_origin("POST", headers):
        raise Forbidden("This login did not come from the console's own page.", code="cross-origin")
    keeper: Keeper = request.app.state.keeper
    try:
        await keeper.check(credential.strip(), request.client.host if request.client else "")
    except ClientError as error:
        return render(request, "login.html", status=error.status, next=local_path(next), problem=error.message)
    value = await asyncio.to_thread(desk_of(request).sessions.open, now())
    response = RedirectResponse(local_path(next), status_code=303)
    response.set_cookie(
        COOKIE,
        value,
        max_age=int(LIFETIME.total_seconds()),
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
        path="/",
    )
    return response


@router.post("/logout")
async def logout(request: Request) -> Response:
    """End the session for good."""
    value = request.cookies.get(COOKIE)
    if value:
        await asyncio.to_thread(desk_of(request).sessions.close, value)
    response = RedirectResponse("/login", status_code=303)
    response.delete_cookie(COOKIE, path="/")
    return response
