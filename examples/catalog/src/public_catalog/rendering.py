"""Pages as bytes: templates, what they may use, and the headers that every answer has."""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response

from public_catalog.catalog import Song
from public_catalog.playback import Place, site_of

STATIC_TYPES = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8", "svg": "image/svg+xml"}
HUES = 12

_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
}
_SCRIPTS = (
    ("ja", re.compile("[\u3040-\u30ff]")),
    ("ko", re.compile("[\uac00-\ud7af]")),
    ("zh", re.compile("[\u3400-\u9fff]")),
)


class Renderer:
    """Makes answers out of templates. Everything in them is escaped."""

    def __init__(self, *, title: str, covers: bool) -> None:
        self.static = _static()
        self._covers = covers
        environment = Environment(
            loader=PackageLoader("public_catalog"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.filters.update(
            lang=lang, clock=clock, size=size, short=short, hue=hue, initial=initial, many=many, moment=moment
        )
        digest = hashlib.sha256(repr(sorted(self.static.items())).encode())
        environment.globals.update(site_title=title, assets=digest.hexdigest()[:12], cover=self._cover)
        self._environment = environment
        for name in environment.list_templates():
            digest.update(str(environment.loader and environment.loader.get_source(environment, name)[0]).encode())
        digest.update(f"{title}\0{covers}".encode())
        self.version = digest.hexdigest()
        """Of everything that the program itself puts into a page."""

    def page(
        self,
        request: Request,
        template: str,
        *,
        status: int = 200,
        headers: dict[str, str] | None = None,
        media: Iterable[str] = (),
        **values: Any,
    ) -> Response:
        """A page. ``media``: the sites that it may play from."""
        base = request.scope.get("root_path", "").rstrip("/")
        html = self._environment.get_template(template).render(
            base=base, path=request.url.path, sources=functools.partial(_sources, base), **values
        )
        return Response(
            html,
            status_code=status,
            media_type="text/html; charset=utf-8",
            headers={**_HEADERS, "Content-Security-Policy": self._policy(media), **(headers or {})},
        )

    def asset(self, name: str) -> Response | None:
        """A file that pages refer to; its address changes with its content."""
        content = self.static.get(name)
        if content is None:
            return None
        headers = {**_HEADERS, "Cache-Control": "public, max-age=31536000, immutable"}
        return Response(content, media_type=STATIC_TYPES[name.rpartition(".")[2]], headers=headers)

    def _policy(self, media: Iterable[str]) -> str:
        pictures = "'self' https: http:" if self._covers else "'self'"
        return "; ".join(
            (
                "default-src 'none'",
                "style-src 'self'",
                "script-src 'self'",
                f"img-src {pictures}",
                " ".join(("media-src 'self'", *sorted(set(media)))),
                "form-action 'self'",
                "base-uri 'none'",
                "frame-ancestors 'none'",
            )
        )

    def _cover(self, url: str | None) -> str | None:
        return url if self._covers and url and site_of(url) else None


def lang(text: str) -> Markup:
    """The attribute that lets a browser choose the right glyphs and a screen reader the right voice."""
    for name, script in _SCRIPTS:
        if script.search(text):
            return Markup(' lang="{}"').format(name)
    return Markup("")


def clock(seconds: int | None) -> str:
    """A length: ``3:07``, ``1:02:03``."""
    if seconds is None:
        return ""
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def size(count: int) -> str:
    """A number of bytes: ``31.4 MB``."""
    return f"{count / 1e6:,.1f} MB" if count >= 100_000 else f"{count / 1e3:,.1f} KB"


def short(count: int) -> str:
    """A large number as people say it: ``12.3K``, ``4M``."""
    for step, unit in ((10**9, "B"), (10**6, "M"), (10**3, "K")):
        if count >= step:
            return f"{count / step:.1f}".removesuffix(".0") + unit
    return str(count)


def many(count: int, one: str) -> str:
    """``1 song``, ``2,345 songs``."""
    return f"{count:,} {one}{'' if count == 1 else 's'}"


def moment(when: datetime) -> Markup:
    """A point in time, for people and for programs."""
    when = when.astimezone(UTC)
    return Markup('<time datetime="{}">{}</time>').format(when.isoformat(), f"{when.day} {when:%B %Y, %H:%M} UTC")


def hue(identity: int) -> int:
    """One of the colours that stand for a cover; always the same for the same thing."""
    return int.from_bytes(hashlib.blake2b(str(identity).encode(), digest_size=2).digest(), "big") % HUES


def initial(name: str) -> str:
    """The letter on a cover that has no picture."""
    return next((letter.upper() for letter in name if letter.isalnum()), "♪")


def _sources(base: str, song: Song, places: Sequence[Place]) -> list[dict[str, str]]:
    """What an audio element tries, in turn. Links of the private origin expire, so that they are made when needed."""
    private = f"{base}/songs/{song.song_id}/files/"
    return [{"src": place.public_url or private + place.key, "type": place.media_type} for place in places]


def _static() -> dict[str, bytes]:
    folder = resources.files("public_catalog") / "static"
    files = [entry for entry in folder.iterdir() if entry.name.rpartition(".")[2] in STATIC_TYPES]
    return {entry.name: entry.read_bytes() for entry in files}
