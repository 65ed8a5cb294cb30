"""Logs: structured, one line an event, with job and item where they are known; never a secret."""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog


def get_logger() -> Any:
    """The process's logger; keyword arguments become fields."""
    return structlog.get_logger()


def configure_logging(*, level: str, format: str, service: str, instance: str) -> None:
    """Send our logs and those of libraries to standard error. ``format`` is ``text`` or ``json``."""
    numeric = logging.getLevelNamesMapping().get(level.upper(), logging.INFO)
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if format == "json":
        renderer: list[Any] = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    else:
        # The plain formatter: the default one shows local variables, secrets and paths among them, and
        # takes a second to do so, in which the process does nothing else.
        plain = structlog.dev.plain_traceback
        renderer = [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)]
    structlog.configure(
        processors=[*shared, *renderer],
        wrapper_class=structlog.make_filtering_bound_logger(numeric),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service, instance=instance)
    logging.basicConfig(
        stream=sys.stderr, level=max(numeric, logging.WARNING), format="%(levelname)s %(name)s %(message)s"
    )
