"""The end of a run in words: what is stored, what failed and why, where everything is."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding

from cli.client import ConsoleClient
from cli.errors import RequestRejected
from cli.reading import job_state, program, remarks_of, stage_counts, visible
from cli.run.catalog import CatalogState
from cli.run.place import Place
from cli.run.view import size
from common.contracts.names import ItemState, JobState, Stage
from common.secret_files import secrets_path

SNAPSHOT_FILE = "catalog_read.db"
_FAILURES_SHOWN = 20
_REMARKS_SHOWN = 5

Json = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Library:
    """What a snapshot says is stored. ``song``: (id, title) of one that can be played."""

    songs: int = 0
    missing: int = 0
    """Songs that are listed and not stored, whether tried now or given up before."""
    bytes: int = 0
    copies: int = 0
    playlists: int = 0
    song: tuple[int, str] | None = None


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Everything that the end of a run says."""

    job: Json
    failures: tuple[tuple[str, str], ...]
    """(title, reason)."""
    remarks: tuple[tuple[str, str], ...]
    """(playlist, what was left out of it or kept in it)."""
    snapshot_id: str
    snapshot_path: Path | None
    library: Library
    stream_url: str | None
    stream_problem: str | None

    @property
    def failed(self) -> bool:
        """Whether the job itself failed; single songs may fail without that."""
        return job_state(self.job) not in {JobState.COMPLETED, JobState.COMPLETED_WITH_ERRORS}

    @property
    def stored_now(self) -> int:
        return stage_counts(self.job, Stage.DOWNLOAD).get(ItemState.SUCCEEDED, 0)

    @property
    def nothing_to_do(self) -> bool:
        """Whether no song was stored and none was tried in vain."""
        return self.stored_now == 0 and not self.failures and self.library.songs > 0


def collect_summary(client: ConsoleClient, place: Place, job: Json, catalog: CatalogState) -> Summary:
    """Ask for everything that the summary says."""
    job_id = int(job["job_id"])
    failed = list(client.items(job_id, state=ItemState.FAILED))
    remarks = remarks_of(client.items(job_id, state=ItemState.SUCCEEDED, stage=Stage.SYNC))
    path = (place.settings.snapshots / "current").resolve() if catalog.snapshot_id else None
    library = read_library(path / SNAPSHOT_FILE) if path else Library()
    places = read_places(path / SNAPSHOT_FILE, [item["key"] for item in failed]) if path else {}
    failures = tuple(
        (_named(item, places), str((item.get("reason") or {}).get("message") or "no reason given")) for item in failed
    )
    url, problem = _stream(client, library)
    return Summary(
        job=job,
        failures=failures,
        remarks=tuple(remarks),
        snapshot_id=catalog.snapshot_id,
        snapshot_path=path,
        library=library,
        stream_url=url,
        stream_problem=problem,
    )


def read_library(snapshot: Path) -> Library:
    """Count what a snapshot holds."""
    with closing(sqlite3.connect(f"{snapshot.as_uri()}?mode=ro&immutable=1", uri=True)) as database:
        songs, size = database.execute(
            "SELECT count(*), coalesce(sum(size), 0) FROM (SELECT max(file_size_bytes) AS size FROM catalog_track_files"
            " WHERE backend_type = 'filesystem' AND status = 'active' GROUP BY song_id)"
        ).fetchone()
        (copies,) = database.execute(
            "SELECT count(*) FROM catalog_track_files WHERE backend_type = 'object_storage' AND status = 'active'"
        ).fetchone()
        (listed,) = database.execute("SELECT count(*) FROM catalog_tracks").fetchone()
        (playlists,) = database.execute("SELECT count(*) FROM catalog_playlists").fetchone()
        song = database.execute(
            "SELECT t.song_id, t.name FROM catalog_tracks t JOIN catalog_track_files f USING (song_id)"
            " WHERE f.backend_type = 'filesystem' AND f.status = 'active' ORDER BY t.name, t.song_id LIMIT 1"
        ).fetchone()
    return Library(songs=songs, missing=listed - songs, bytes=size, copies=copies, playlists=playlists, song=song)


def read_places(snapshot: Path, keys: Sequence[str]) -> dict[str, str]:
    """Where songs of the mounted folder lie in it, by their id: many files may have one title."""
    places = {}
    with closing(sqlite3.connect(f"{snapshot.as_uri()}?mode=ro&immutable=1", uri=True)) as database:
        for key in keys:
            if key.isdecimal():
                row = database.execute(
                    "SELECT remote_song_id FROM catalog_tracks WHERE song_id = ? AND platform = 'local'", (int(key),)
                ).fetchone()
                if row is not None:
                    places[key] = str(row[0])
    return places


def _named(item: Json, places: Mapping[str, str]) -> str:
    """A failed item's title, and its place in the folder where that says more."""
    title = str(item["title"])
    place = places.get(str(item["key"])) if item["stage"] == Stage.DOWNLOAD else None
    return title if place is None else f"{title} ({place})"


def print_summary(console: Console, place: Place, summary: Summary) -> None:
    """Print it. Names and reasons come from outside: they are printed as they are, never as markup."""
    out = console.print

    def entry(title: str, sentence: str) -> None:
        line = f"{escape(visible(title))}: {escape(visible(sentence))}"
        # Only a terminal has a width to wrap to; elsewhere one line is one entry.
        out(Padding(line, (0, 0, 0, 4), expand=False) if console.is_terminal else f"    {line}")

    out()
    if summary.nothing_to_do:
        out(f"[green]nothing to do:[/] {_songs(summary.library.songs)} already stored")
    else:
        out(f"[bold]job {summary.job['job_id']}: {job_state(summary.job).replace('_', ' ')}[/]")
        before = max(0, summary.library.songs - summary.stored_now)
        stored = f"{_number(summary.stored_now, 'song')}" + (f", besides {before} stored before" if before else "")
        out(f"  stored    {stored}")
    library = summary.library
    held = f"{_number(library.songs, 'song')} in {_number(library.playlists, 'playlist')}"
    out(f"  library   {held}, {size(library.bytes)}")
    if given_up := max(0, library.missing - stage_counts(summary.job, Stage.DOWNLOAD).get(ItemState.FAILED, 0)):
        out(f"  missing   {_number(given_up, 'song')} listed and not stored: an earlier job gave up and says why")
        out(f"            ({program()} jobs); the next one tries again when the source has changed")
    if uploaded := stage_counts(summary.job, Stage.UPLOAD):
        now = uploaded.get(ItemState.SUCCEEDED, 0)
        out(f"  uploaded  {now} files now, {summary.library.copies} in the object store")
    if summary.failures:
        out(f"  [red]failed    {len(summary.failures)}[/]")
        for title, reason in summary.failures[:_FAILURES_SHOWN]:
            entry(title, reason)
        if len(summary.failures) > _FAILURES_SHOWN:
            more = len(summary.failures) - _FAILURES_SHOWN
            out(f"    and {more} more: {program()} jobs show {summary.job['job_id']}")
        if place.music.demo:
            out("    [dim](one file of the demo is damaged on purpose, so that you see what a failure looks like)[/]")
    if summary.remarks:
        out(f"  [yellow]noticed   {len(summary.remarks)}[/]")
        for title, sentence in summary.remarks[:_REMARKS_SHOWN]:
            entry(title, sentence)
        if len(summary.remarks) > _REMARKS_SHOWN:
            more = len(summary.remarks) - _REMARKS_SHOWN
            out(f"    and {more} more: {program()} jobs show {summary.job['job_id']}")
    if summary.snapshot_path is None:
        out("  snapshot  none: the catalog is empty, for no song and no playlist was found")
    else:
        out(f"  snapshot  {summary.snapshot_id}")
        out(f"            {escape(str(summary.snapshot_path))}", soft_wrap=True)
    if summary.stream_url:
        assert summary.library.song is not None
        out(f"  listen    {escape(summary.library.song[1])}, for an hour, with any player or curl:")
        out(f"            {escape(summary.stream_url)}", soft_wrap=True)
    elif summary.stream_problem:
        out(f"  listen    not now: {escape(summary.stream_problem)}")
    out(f"  console   {escape(place.console_url)}")
    out(f"            {_credential(place)}", soft_wrap=True)


def _credential(place: Place) -> str:
    if "CONSOLE_TOKEN" in place.secrets_made:
        return f"credential, shown this once: [bold]{escape(place.credential)}[/]"
    mine, other = (escape(str(secrets_path(place.root, account))) for account in ("operator", "console"))
    return (
        f"the credential is CONSOLE_TOKEN in {mine}; for a new one, remove that line there and in {other} "
        "and start again"
    )


def _stream(client: ConsoleClient, library: Library) -> tuple[str | None, str | None]:
    """A link that was tried: (URL, None), or (None, why not)."""
    if library.song is None:
        return None, "no song is stored yet"
    try:
        url = str(client.token(song_id=library.song[0])["url"])
    except RequestRejected as error:
        return None, error.message
    try:
        answer = httpx.get(url, headers={"Range": "bytes=0-0"}, timeout=10, trust_env=False)
    except httpx.HTTPError as error:
        return None, f"the origin does not answer ({type(error).__name__})"
    if answer.status_code not in {200, 206}:
        return None, f"the origin answered with status {answer.status_code}"
    return url, None


def _number(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _songs(number: int) -> str:
    return "1 song is" if number == 1 else f"{number} songs are"
