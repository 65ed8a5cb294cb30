"""Following the job through the console, and the catalog until it holds what the job did."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from cli.client import ConsoleClient
from cli.errors import ConsoleUnreachable
from cli.reading import job_state, picture_of, retry_note
from cli.run.catalog import CatalogState, catalog_state
from cli.run.view import View
from common.errors import MusicCloudError

_EVERY = 0.4
_CATALOG_PATIENCE = 120.0
_SAY_AFTER = 5.0
"""Seconds without a change after which a reason is looked for and shown."""
_SILENCE = 30.0
"""Seconds without an answer of the console after which we give up; it may be started again meanwhile."""

Tick = Callable[[], None]
Sleep = Callable[[float], None]
Json = dict[str, Any]


class CatalogBehind(MusicCloudError):
    """The catalog does not catch up; the message says what the exporter says."""

    code = "catalog-behind"


def follow_job(client: ConsoleClient, view: View, *, tick: Tick, sleep: Sleep) -> Json:
    """Make the main job and show it until it ends; returns the job as it ended."""
    job_id = int(_patiently(lambda: client.create_job("full"), tick, sleep)["job_id"])
    before, changed = None, time.monotonic()
    while True:
        tick()
        job = _patiently(lambda: client.job(job_id), tick, sleep)
        dashboard = _patiently(client.dashboard, tick, sleep)
        picture = picture_of(job, dashboard)
        if picture.stages != before:
            before, changed = picture.stages, time.monotonic()
        elif not picture.note.startswith("waiting") and time.monotonic() - changed > _SAY_AFTER:
            waiting = _patiently(lambda: {"items": client.waiting(job_id)}, tick, sleep)["items"]
            picture = replace(picture, note=retry_note(waiting) or picture.note)
        view.show(picture)
        if job_state(job).ended:
            return job
        sleep(_EVERY)


def wait_for_catalog(client: ConsoleClient, view: View, *, sequence: int, tick: Tick, sleep: Sleep) -> CatalogState:
    """Wait until the newest snapshot holds every fact up to ``sequence``.

    Raises :class:`CatalogBehind` with the exporter's reason when that does not come.
    """
    started = time.monotonic()
    said = ""
    view.note("the catalog takes in what is new; its snapshot follows")
    while True:
        tick()
        state = catalog_state(_patiently(client.dashboard, tick, sleep))
        if state.holds(sequence):
            return state
        waited = time.monotonic() - started
        if state.problem and state.problem != said and waited > _SAY_AFTER:
            said = state.problem
            view.say(f"the catalog waits: {said}")
        if waited > _CATALOG_PATIENCE:
            raise CatalogBehind(
                "The job has ended, but the catalog does not catch up. "
                + (said or "The exporter does not say why; see exporter.log in the folder of logs.")
            )
        sleep(_EVERY)


def _patiently(ask: Callable[[], Json], tick: Tick, sleep: Sleep) -> Json:
    """Ask the console, again if it does not answer: it may be busy, or being started again."""
    deadline = time.monotonic() + _SILENCE
    while True:
        try:
            return ask()
        except ConsoleUnreachable:
            tick()
            if time.monotonic() > deadline:
                raise
            sleep(_EVERY)
