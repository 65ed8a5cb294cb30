"""Turning values into HTML: one environment that escapes everything, and a few filters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import Request
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import HTMLResponse

from console.routes.desk import desk_of

TEMPLATES = Path(__file__).parent.parent / "templates"
_UNITS = ("B", "kB", "MB", "GB", "TB")
_LEAST = 6.0
"""Width of what must be seen, of 1000."""
_ENDED = ("succeeded", "skipped", "failed", "canceled")
_WORDS = {
    "pause_requested": "pausing",
    "completed_with_errors": "completed with errors",
    "collect_only": "collect only",
    "sync_only": "sync only",
    "download_only": "download only",
    "upload_only": "upload only",
}


def make_environment() -> Environment:
    """The templates. Names from outside are text, whatever they contain: everything is escaped."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"size": size, "words": words, "count": count, "duration": duration}
    environment.globals |= {"segments": segments, "done_of": done_of}
    return environment


def render(request: Request, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
    """A page."""
    page = desk_of(request).pages.get_template(template).render(path=request.url.path, **values)
    return HTMLResponse(page, status_code=status)


def size(count: float | None) -> str:
    """Bytes in words: 12.3 MB."""
    value = float(count or 0)
    for unit in _UNITS:
        if value < 1000 or unit == _UNITS[-1]:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
        value /= 1000
    raise AssertionError("unreachable")


def words(state: str) -> str:
    """A state as people say it."""
    return _WORDS.get(state, state)


def count(value: object) -> str:
    """A number with thin spaces between thousands; anything else as it is."""
    if not isinstance(value, int):
        return str(value)
    return f"{value:,}".replace(",", "\u202f")


def duration(seconds: float) -> str:
    """A length as players show it: 4:05, 1:02:09."""
    whole = round(seconds)
    minutes, rest = divmod(whole, 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"


def done_of(counts: dict[str, int]) -> int:
    """How many items have ended."""
    return sum(counts[state] for state in _ENDED)


def segments(counts: dict[str, int], total: int) -> list[dict[str, Any]]:
    """The parts of a progress bar, 0 to 1000: (state, start, width)."""
    states = ("succeeded", "skipped", "failed", "canceled", "running")
    widths = {state: 1000.0 * counts[state] / total if total else 0.0 for state in states}
    for state in ("failed", "running"):
        if counts[state]:
            # One failure among a million must be seen.
            widths[state] = max(widths[state], _LEAST)
    largest = max(widths, key=lambda state: widths[state])
    widths[largest] -= max(0.0, sum(widths.values()) - 1000.0)
    parts: list[dict[str, Any]] = []
    start = 0.0
    for state in states:
        parts.append({"state": state, "x": round(start, 1), "width": round(widths[state], 1)})
        start += widths[state]
    return parts
