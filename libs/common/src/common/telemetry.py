"""Logs: structured, one line an event, with job and item where they are known; never a secret."""

from __future__ import annotations

import contextvars
import logging
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar
from functools import partial
from typing import Any, ParamSpec, TypeVar

import structlog

from common.redaction import Redaction

P = ParamSpec("P")
T = TypeVar("T")

_LEVELS = frozenset({"debug", "info", "warning", "error"})


def get_logger() -> Any:
    """The process's logger; keyword arguments become fields."""
    return structlog.get_logger()


class LogContext:
    """Every line of this task, and of the threads that it uses (:class:`ContextThreads`), carries these fields.

    One variable for all fields: structlog's own, one for each, cost four times as much in the work loop.
    """

    __slots__ = ("_fields", "_token")

    def __init__(self, **fields: Any) -> None:
        self._fields = fields

    def __enter__(self) -> None:
        self._token = _FIELDS.set({**_FIELDS.get(), **self._fields})

    def __exit__(self, *_: object) -> None:
        _FIELDS.reset(self._token)


_FIELDS: ContextVar[dict[str, Any]] = ContextVar("log_fields", default={})  # noqa: B039 - never changed in place


class ContextThreads(ThreadPoolExecutor):
    """Threads whose log lines carry the fields of whoever gave them the work."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        return super().submit(partial(contextvars.copy_context().run, fn, *args, **kwargs))

    def hold(self, count: int) -> None:
        """From now on at most ``count`` threads are made; those that are there stay."""
        self._max_workers = count


def set_log_level(level: str) -> None:
    """Say more or less from now on. Raises ValueError for a level that is none."""
    if level.lower() not in _LEVELS:
        raise ValueError("should be debug, info, warning or error")
    numeric = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(numeric))
    logging.getLogger().setLevel(max(numeric, logging.WARNING))


def configure_logging(*, level: str, format: str, service: str, instance: str, secrets: Iterable[str] = ()) -> None:
    """Send our logs and those of libraries to standard error. ``format`` is ``text`` or ``json``.

    ``secrets`` are masked wherever they occur, as are credentials in URLs.
    """
    numeric = logging.getLevelNamesMapping().get(level.upper(), logging.INFO)

    def origin(_: Any, __: str, event: Any) -> Any:
        # Not a context variable: threads and callbacks of libraries have a context of their own.
        return {"service": service, "instance": instance, **_FIELDS.get(), **event}

    shared: list[Any] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        origin,
    ]
    if format == "json":
        renderer: list[Any] = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    else:
        # The plain formatter: the default one shows local variables, secrets and paths among them, and
        # takes a second to do so, in which the process does nothing else.
        plain = structlog.dev.plain_traceback
        renderer = [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)]
    redact = Redaction(secrets)

    def mask(_: Any, __: str, line: Any) -> str:
        return redact(str(line))

    structlog.configure(
        processors=[*shared, *renderer, mask],
        wrapper_class=structlog.make_filtering_bound_logger(numeric),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, _name_of_logger],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer, mask],
        )
    )
    logging.basicConfig(handlers=[handler], level=max(numeric, logging.WARNING), force=True)
    logging.captureWarnings(True)


def _name_of_logger(_: Any, __: str, event: Any) -> Any:
    record = event.get("_record")
    return {**event, "logger": record.name} if record is not None else event
