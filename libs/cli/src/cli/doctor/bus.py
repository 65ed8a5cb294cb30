"""What the bus says: does it answer, which version is it, are the streams as they must be."""

from __future__ import annotations

import asyncio
import re
import shlex
from pathlib import Path

import nats.errors
from nats.js.api import StreamConfig
from nats.js.errors import NotFoundError

from cli import nats_config
from cli.doctor.row import Row, error, from_finding, ok, warning
from cli.settings import CliSettings
from common.audit.commands import in_container, init_command
from common.audit.process import clock_finding
from common.bus.connection import Bus
from common.bus.streams import JOBS_STREAM
from common.contracts.streams import STREAMS, StreamSpec
from common.errors import BusUnavailable, ConfigurationError

_COMPARED = (
    "max_msgs_per_subject",
    "discard_new_per_subject",
    "duplicate_window",
    "allow_direct",
    "deny_purge",
    "max_age",
)
_SYNC_ALWAYS = re.compile(r'^\s*sync_interval\s*[:=]?\s*"?always', re.MULTILINE)
_PATIENCE = 20.0


def bus_rows(settings: CliSettings) -> list[Row]:
    """Connect and look. A bus that does not answer is one row."""
    try:
        return asyncio.run(asyncio.wait_for(_look(settings), _PATIENCE))
    except BusUnavailable as problem:
        return [error("bus", problem.message, _start_command(settings))]
    except ConfigurationError as problem:
        return [error("bus", problem.message, init_command())]
    except TimeoutError:
        words = f"The bus answers, but not to every question within {_PATIENCE:.0f} s."
        return [error("bus", words, _log_command(settings))]


def durability_row(settings: CliSettings, version: nats_config.Version) -> Row:
    """Whether what the bus acknowledged survives a power cut."""
    if version < nats_config.SYNC_ALWAYS_SINCE:
        return warning(
            "durability",
            "This nats-server has no `sync_interval: always`, so that a power cut may lose what it acknowledged in "
            "the last two minutes. Use version 2.10 or newer.",
            "grep -n NATS_VERSION config/music-cloud.env" if in_container() else "nats-server --version",
        )
    path = settings.root_dir / "nats" / nats_config.CONFIG_FILE
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ok("durability", "The server's configuration is not here; it must hold `sync_interval: always`.")
    if _SYNC_ALWAYS.search(text):
        return ok("durability", "sync_interval is always: what is acknowledged is on the disk.")
    return warning(
        "durability",
        f"{path} lacks `sync_interval: always`, so that a power cut may lose what was acknowledged. Start the server "
        "again with a configuration made for its version.",
        _configure_command(path),
    )


def stream_row(spec: StreamSpec, config: StreamConfig) -> Row | None:
    """What of a stream is not as our guarantees need it; None when all is."""
    wrong = [name for name in _COMPARED if (getattr(config, name) or 0) != (getattr(spec, name) or 0)]
    if sorted(config.subjects or ()) != sorted(spec.subjects):
        wrong.append("subjects")
    if str(config.retention) != str(spec.retention) and getattr(config.retention, "value", "") != spec.retention:
        wrong.append("retention")
    if not wrong:
        return None
    return warning(
        "streams",
        f"{spec.name} has another {' and '.join(wrong)} than we need. The console mends it when it starts.",
        _console_command(),
    )


async def _look(settings: CliSettings) -> list[Row]:
    bus = await Bus.connect(settings, service="operator", instance="doctor")
    try:
        answered = bus.nc.connected_server_version
        version = (answered.major, answered.minor, answered.patch)
        words = ".".join(map(str, version))
        rows = [ok("bus", f"nats-server {words} answers."), durability_row(settings, version)]
        rows += await _stream_rows(bus, _log_command(settings))
        if (off := await clock_finding(bus.nc)) is not None:
            rows.append(from_finding("clock", off))
        return rows
    finally:
        await bus.close()


async def _stream_rows(bus: Bus, log: str) -> list[Row]:
    rows: list[Row] = []
    missing = []
    names = [spec.name for spec in STREAMS]
    for name, spec in ((JOBS_STREAM, None), *zip(names, STREAMS, strict=True)):
        try:
            info = await bus.js.stream_info(name)
        except NotFoundError:
            missing.append(name)
            continue
        except (nats.errors.Error, TimeoutError) as problem:
            words = str(problem) or type(problem).__name__
            return [error("streams", f"JetStream does not answer ({words}). The log of nats-server says why.", log)]
        if spec is not None and (row := stream_row(spec, info.config)) is not None:
            rows.append(row)
    if missing:
        words = f"{', '.join(missing)} are not there yet; the console makes them at its start."
        rows.append(warning("streams", words, _console_command()))
    return rows or [ok("streams", f"{', '.join(names)} are as they should be.")]


def _start_command(settings: CliSettings) -> str:
    host, _ = nats_config.listen_address(settings.nats_url)
    return "make run" if host in {"127.0.0.1", "localhost", "::1"} else "docker compose up -d nats"


def _log_command(settings: CliSettings) -> str:
    if in_container():
        return "docker compose logs --tail 20 nats"
    return f"tail -n 20 {shlex.quote(str(settings.logs / 'nats.log'))}"


def _console_command() -> str:
    return "docker compose restart console" if in_container() else "console"


def _configure_command(path: Path) -> str:
    if in_container():
        return f"{init_command()} && docker compose up -d --force-recreate nats"
    return f"music-cloud init --nats-config {shlex.quote(str(path))}"
