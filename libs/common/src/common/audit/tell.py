"""Letting the console show why a service did not start."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from typing import ClassVar

import nats.errors

from common.audit.finding import StartRefused, finding_of
from common.bus.connection import Bus
from common.contracts.envelope import now
from common.contracts.status import Heartbeat, Reason
from common.errors import ConfigurationError, MusicCloudError
from common.redaction import secrets_of
from common.settings import Settings, load
from common.telemetry import configure_logging

_PATIENCE = 2.0


async def tell(error: ConfigurationError, *, name: str, settings: Settings, instance: str) -> None:
    """Send one heartbeat with what is to be mended, if the bus is there; under a name that no worker has."""
    findings = error.findings if isinstance(error, StartRefused) else (finding_of(error),)
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
                problems=tuple(Reason(code=one.code, message=f"{one.message}.") for one in findings),
                detail={"findings": [finding.model_dump() for finding in findings]},
            )
            await bus.send(beat.subject, beat, id=secrets.token_hex(8))
            await bus.close()


async def tell_of_settings(error: ConfigurationError, *, name: str, account: str) -> None:
    """The same for settings of one service that cannot be used, where those that all share can."""

    class Shared(Settings):
        SERVICE: ClassVar[str] = account

    with contextlib.suppress(ConfigurationError):
        await tell(error, name=name, settings=load(Shared), instance=secrets.token_hex(4))
