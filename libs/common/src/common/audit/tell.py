"""Letting the console show why a service did not start."""

from __future__ import annotations

import asyncio
import contextlib
import secrets

import nats.errors

from common.audit.finding import StartRefused
from common.bus.connection import Bus
from common.contracts.envelope import now
from common.contracts.status import Heartbeat, Reason
from common.errors import MusicCloudError
from common.redaction import secrets_of
from common.settings import Settings
from common.telemetry import configure_logging

_PATIENCE = 2.0


async def tell(refused: StartRefused, *, name: str, settings: Settings, instance: str) -> None:
    """Send one heartbeat with the findings, if the bus is there; under a name that no worker has."""
    # A bus that is away as well is not what is to be mended first: the refusal stays the only thing that is said.
    configure_logging(
        level="critical",
        format=settings.log_format,
        service=name,
        instance=instance,
        secrets=secrets_of(settings),
    )
    with contextlib.suppress(MusicCloudError, nats.errors.Error, TimeoutError, OSError):
        async with asyncio.timeout(_PATIENCE):
            bus = await Bus.connect(settings, service=name, instance=f"{instance[:40]}-refused")
            beat = Heartbeat(
                service=name,
                instance=f"{instance[:40]}-refused",
                started_at=now(),
                ready=False,
                problems=tuple(Reason(code=one.code, message=f"{one.message}.") for one in refused.findings),
                detail={"findings": [finding.model_dump() for finding in refused.findings]},
            )
            await bus.send(beat.subject, beat, id=secrets.token_hex(8))
            await bus.close()
