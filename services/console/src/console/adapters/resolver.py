"""What the downloaders answer about searches: any copy of them does."""

from __future__ import annotations

import json
from typing import Any

import nats.errors

from common.bus.connection import Bus
from common.questions import question_subject
from console.errors import InvalidRequest, Unavailable

_PATIENCE = 5.0


class ResolverDesk:
    """Asks over the bus."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def matches(self, song_id: int) -> dict[str, Any]:
        """The last search for a song: ``items``, its results, best first, each with its verdict and reasons.

        ``search``: which sources were asked, in order, and why in this one; None where none was searched.
        """
        return await self._ask("matches", song_id=song_id)

    async def standings(self, origin: str) -> dict[str, Any]:
        """In which order sources are asked for songs of ``origin``, the numbers of each, and why.

        ``others``: sources that are not asked now, with the numbers that there are of them.
        """
        return await self._ask("resolver", origin=origin)

    async def all_standings(self) -> list[dict[str, Any]]:
        """The same for each origin that there are numbers of, whether it is still in use or not."""
        told: list[dict[str, Any]] = (await self._ask("resolver"))["items"]
        return told

    async def _ask(self, name: str, **question: Any) -> dict[str, Any]:
        try:
            answer = await self._bus.nc.request(
                question_subject("downloader", name), json.dumps(question).encode(), timeout=_PATIENCE
            )
        except nats.errors.NoRespondersError:
            raise Unavailable("No downloader is running to be asked. Start one.", code="no-downloader") from None
        except (nats.errors.Error, TimeoutError):
            raise Unavailable(
                "The downloader did not answer. Try again in a moment.", code="downloader-silent", retry_after=5
            ) from None
        headers = answer.headers or {}
        if "Nats-Service-Error" in headers:
            code = headers.get("Nats-Service-Error-Code", "refused")
            raise InvalidRequest(headers["Nats-Service-Error"][:500], code=code)
        told: dict[str, Any] = json.loads(answer.data)
        return told
