"""The source ``wikimedia-commons``: free audio of Wikimedia Commons, by the MediaWiki API."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from common.errors import MusicCloudError, PermanentError
from common.settings import Settings, split_list

from .api.client import ApiClient, make_client
from .api.fields import Answer, Count, Id, Name, Seconds, Url, licence_of, take
from .api.source import MAX_PAGES, MAX_RESULTS, ApiSource, Listing, search_words
from .paths import LOSSLESS_EXTENSIONS, extension, is_audio
from .playlists.model import clean_text
from .port import About, Candidate, Found, KnownSongs, Licence, Playlist, PlaylistRef, Pool, Progress, SearchQuery
from .tags import name_of_file

NAME = "wikimedia-commons"
RATE = 2.0
POOL = "categories"
PREFIX = "Category:"
PAGE = 50
"""Files whose details one answer holds."""
MAX_LAG = "5"
"""Seconds that the database copies may be behind before we are to wait: the value that is recommended for programs."""
_TAG = re.compile(r"<[^<>]{0,2000}>")
_BUSY = {"maxlag": 10.0, "ratelimited": 60.0, "readonly": 60.0}
_DETAILS = (
    ("prop", "imageinfo"),
    ("iiprop", "url|size|mime|extmetadata"),
    ("iiextmetadatafilter", "LicenseShortName|LicenseUrl|Artist|ObjectName|DateTimeOriginal"),
)


def create(settings: Settings) -> WikimediaCommonsSource:
    """The entry point: with SOURCE_CONTACT, the categories that WIKIMEDIA_COMMONS_CATEGORIES lists."""
    client = None
    if settings.source_contact:
        client = make_client(
            settings,
            source=NAME,
            base_url=settings.wikimedia_commons_url,
            setting="WIKIMEDIA_COMMONS_URL",
            rate=RATE,
            access_hint="Wikimedia refuses programs that do not say who asks: check SOURCE_CONTACT.",
        )
    return WikimediaCommonsSource(client=client, categories=split_list(settings.wikimedia_commons_categories))


class _Error(Answer):
    code: str = ""


class _Query(Answer):
    pages: list[Any] = Field(default_factory=list)


class _Answer(Answer):
    error: _Error | None = None
    query: _Query = _Query()
    continue_: dict[str, str] = Field(default_factory=dict, alias="continue", max_length=10)


def _value(entry: object) -> object:
    return entry.get("value") if isinstance(entry, dict) else None


def _plain(entry: object) -> str | None:
    """The text of a value that is HTML."""
    value = _value(entry)
    return clean_text(html.unescape(_TAG.sub(" ", value[:8000]))) if isinstance(value, str) else None


_Html = Annotated[str | None, BeforeValidator(_plain)]


class _About(Answer):
    LicenseShortName: _Html = None
    LicenseUrl: Annotated[Url, BeforeValidator(_value)] = None
    Artist: _Html = None
    ObjectName: _Html = None
    DateTimeOriginal: _Html = None


class _Details(Answer):
    url: Url = None
    size: Count = None
    duration: Seconds = None
    extmetadata: Annotated[_About, BeforeValidator(lambda value: value if isinstance(value, dict) else {})] = _About()


class CommonsFile(Answer):
    pageid: Id
    title: Name
    imageinfo: list[_Details] = Field(min_length=1, max_length=10)


class WikimediaCommonsSource(ApiSource[CommonsFile]):
    """One pool; a playlist for each category that the settings name, without the categories below it."""

    name = NAME

    def __init__(self, *, client: ApiClient | None, categories: Sequence[str]) -> None:
        super().__init__(
            client=client,
            missing="Wikimedia asks programs to say how their owner can be reached. Set SOURCE_CONTACT to your "
            "e-mail address or page.",
        )
        self.about = About(
            title="Wikimedia Commons",
            licence="Free licences, each file its own: most ask to name the author, some to share alike.",
            rate=client.pace.rate if client else RATE,
            homepage="https://commons.wikimedia.org",
        )
        names = (name.replace("%2C", ",").replace("_", " ").strip() for name in categories)
        self._categories = tuple(PREFIX + name.removeprefix(PREFIX).strip() for name in names)

    def pools(self) -> Iterator[Pool]:
        if self._client is not None and self._categories:
            yield Pool(external_id=POOL, name="Wikimedia Commons categories", kind="category")

    def playlists(self, pool_external_id: str, *, progress: Progress) -> Iterator[PlaylistRef]:
        if pool_external_id != POOL or self._client is None:
            raise PermanentError("The Wikimedia Commons source has no such pool.", code="pool-missing")
        for category in self._categories:
            yield _ref(category)

    def read(self, playlist_remote_id: str, *, known: KnownSongs, progress: Progress) -> Playlist:
        if playlist_remote_id not in self._categories:
            raise PermanentError("This category is no longer in WIKIMEDIA_COMMONS_CATEGORIES.", code="playlist-missing")
        listing = Listing()
        follow: dict[str, str] = {}
        for _ in range(MAX_PAGES):
            answer = self._ask(
                ("generator", "categorymembers"),
                ("gcmtitle", playlist_remote_id),
                ("gcmtype", "file"),
                ("gcmlimit", str(PAGE)),
                *_DETAILS,
                *follow.items(),
            )
            pages = take(CommonsFile, answer.query.pages, limit=PAGE)
            progress(len(listing))
            # Pictures and videos stand in the same categories: they are no songs that were withheld.
            audio = [file for file in pages.entries if is_audio(file.title)]
            again, follow = follow, answer.continue_
            if audio and not listing.add(map(self.found, audio), refused=pages.refused + pages.cut):
                break
            if not follow or follow == again:
                break
        else:
            listing.problem(f"The category goes on after {MAX_PAGES * PAGE} files; the rest was left out.")
        return listing.playlist(_ref(playlist_remote_id))

    def search(self, query: SearchQuery, *, limit: int) -> Sequence[Found]:
        def ask(words: str) -> Iterator[Found | None]:
            answer = self._ask(
                ("generator", "search"),
                ("gsrnamespace", "6"),
                ("gsrsearch", f"filetype:audio {words}"),
                ("gsrlimit", str(min(limit, MAX_RESULTS))),
                *_DETAILS,
            )
            # The pages come in no order; the place that the search gave each stands in it.
            pages = sorted((page for page in answer.query.pages if isinstance(page, dict)), key=_place)
            return map(self.found, take(CommonsFile, pages, limit=MAX_RESULTS).entries)

        return search_words(query, limit=limit, ask=ask, clean=_quoted)

    def entry(self, remote_id: str) -> CommonsFile | None:
        if not (remote_id.isascii() and remote_id.isdigit() and len(remote_id) < 16):
            return None
        pages = self._ask(("pageids", remote_id), *_DETAILS).query.pages
        pages = [page for page in pages if not (isinstance(page, dict) and ("missing" in page or "invalid" in page))]
        return next(iter(take(CommonsFile, pages, limit=1).entries), None)

    def found(self, entry: CommonsFile) -> Found | None:
        """Without a licence that a program can read, a file is not offered: it may be about to be deleted."""
        file, about = entry.imageinfo[0], entry.imageinfo[0].extmetadata
        licence = _licence(about)
        if licence is None or file.url is None or not is_audio(entry.title):
            return None
        ext = extension(entry.title)
        extra = {"title": entry.title, "date": about.DateTimeOriginal}
        return Found(
            source=NAME,
            remote_id=entry.pageid,
            name=about.ObjectName or name_of_file(entry.title.partition(":")[2]),
            singers=(about.Artist,) if about.Artist else (),
            duration_seconds=file.duration,
            ext=ext,
            size=file.size,
            lossless=ext in LOSSLESS_EXTENSIONS,
            licence=licence,
            metadata={key: value for key, value in extra.items() if value is not None},
        )

    def places(self, entry: CommonsFile) -> Sequence[Candidate]:
        url = entry.imageinfo[0].url
        return () if url is None else (self.http_candidate(url),)

    def _ask(self, *query: tuple[str, str]) -> _Answer:
        common = (("action", "query"), ("format", "json"), ("formatversion", "2"), ("maxlag", MAX_LAG))
        answer = self.client.get(_Answer, "", [*common, *query])
        if answer.error is not None:
            self._fail(answer.error.code)
        return answer

    def _fail(self, code: str) -> None:
        error: MusicCloudError
        if code in _BUSY or code.startswith("internal_api_error"):
            error = self.client.busy(
                "Wikimedia Commons asks programs to wait, since its servers are busy.", seconds=_BUSY.get(code, 60.0)
            )
        else:
            shown = code if re.fullmatch(r"[a-z0-9_-]{1,60}", code) else "unknown"
            error = PermanentError(f"Wikimedia Commons refuses the request (its error {shown}).", code="api-error")
        raise error


def _ref(category: str) -> PlaylistRef:
    return PlaylistRef(remote_id=category, name=clean_text(category.removeprefix(PREFIX)) or "unnamed")


def _licence(about: _About) -> Licence | None:
    return licence_of(about.LicenseUrl, about.LicenseShortName) if about.LicenseShortName else None


def _place(page: dict[str, Any]) -> int:
    index = page.get("index")
    return index if isinstance(index, int) else 1_000_000


def _quoted(words: str) -> str:
    """A phrase of the search's language; what could be an operator of it is only a word then."""
    words = re.sub(r'["\\]', " ", words).strip()
    return f'"{words}"' if words else ""
