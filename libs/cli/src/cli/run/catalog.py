"""How far the exporter is: whether the newest snapshot holds every fact of the bus."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import nats.errors
from nats.aio.client import Client

from cli.settings import CliSettings
from common.bus.credentials import credentials
from common.contracts.streams import CATALOG
from common.errors import BusUnavailable

_PATIENCE = 10.0


@dataclass(frozen=True, kw_only=True)
class CatalogState:
    """What the exporter says. An empty ``snapshot_id``: there is no snapshot yet."""

    projected: int = 0
    changes_pending: bool = True
    snapshot_id: str = ""
    problem: str = ""

    def holds(self, sequence: int) -> bool:
        """Whether the snapshot has everything up to ``sequence`` of CATALOG."""
        return self.projected >= sequence and not self.changes_pending


def catalog_state(dashboard: dict[str, Any]) -> CatalogState:
    """The exporter's state out of the dashboard."""
    told = dashboard.get("snapshot")
    if not isinstance(told, dict):
        return CatalogState(problem="no exporter is running")
    problems = "; ".join(str(problem.get("message", "")) for problem in told.get("problems", ()))
    return CatalogState(
        projected=int(told.get("projected_sequence") or 0),
        changes_pending=bool(told.get("changes_pending", True)),
        snapshot_id=str(told.get("snapshot_id") or ""),
        problem=problems,
    )


def catalog_end(settings: CliSettings, *, url: str) -> int:
    """The last sequence of CATALOG now. Raises :class:`BusUnavailable`."""
    return asyncio.run(_catalog_end(settings, url))


async def _catalog_end(settings: CliSettings, url: str) -> int:
    client = Client()
    try:
        async with asyncio.timeout(_PATIENCE):
            await client.connect(url, **credentials(settings), name="music-cloud run")
            info = await client.jetstream().stream_info(CATALOG)
            return int(info.state.last_seq)
    except (TimeoutError, OSError, nats.errors.Error) as error:
        raise BusUnavailable(f"The bus does not say how far the catalog is ({type(error).__name__}).") from None
    finally:
        await client.close()
