"""The commands that talk to a console."""

from __future__ import annotations

import json
import time
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cli import nats_server
from cli.access import Options, open_console
from cli.client import ConsoleClient
from cli.errors import ConsoleUnreachable, Exit
from cli.files import make_secrets
from cli.reading import job_state, local_time, picture_of, remarks_of, visible
from cli.run.view import STAGE_TITLES, Bars, Lines
from cli.settings import CliSettings
from common.contracts.names import ItemState, JobState, Stage
from common.errors import ConfigurationError
from common.secret_files import SECRETS_DIR
from common.settings import load, split_list

_EVERY = 0.5
_SILENCE = 60.0
"""Seconds without an answer of the console after which waiting ends."""

Json = dict[str, Any]


def init(wanted: nats_server.Wanted) -> None:
    """Make the secrets that are missing, and the configuration of nats-server where one is asked for."""
    root = load(CliSettings).root_dir
    made = make_secrets(root)
    out = _out()
    folder = root / SECRETS_DIR
    out.print(f"Made below {folder}: {', '.join(made)}." if made else f"The secrets are in {folder}.", markup=False)
    if "CONSOLE_TOKEN" in made:
        out.print(f"The console's credential, shown this once: {made['CONSOLE_TOKEN']}", markup=False)
    if wanted.config is not None:
        path, changed = nats_server.write_config(load(CliSettings), wanted)
        out.print(f"{path} {'was written' if changed else 'is as it should be'}.", markup=False)
    elif wanted != nats_server.Wanted():
        raise ConfigurationError("The options about nats-server need --nats-config, the file to write.")
    if made:
        out.print("Every setting is explained in music-cloud.env.example; copy it to music-cloud.env to change one.")


def sync(options: Options, *, job_type: str, sources: str, wait: bool) -> int:
    """Ask for a job; with ``wait`` follow it to its end."""
    with open_console(options) as client:
        job = client.create_job(job_type, sources=list(split_list(sources)))
        out = _out()
        if not wait:
            if options.json:
                _print_json(job)
            else:
                already = " (it was running already)" if job.get("already_running") else ""
                out.print(f"job {job['job_id']} is {job['state']}{already}; see: music-cloud jobs show {job['job_id']}")
            return Exit.OK
        job = _wait(client, int(job["job_id"]), Console(stderr=True, highlight=False) if options.json else out)
        _print_json(job) if options.json else _print_job(client, job, out)
        return exit_of(job_state(job))


def list_jobs(options: Options) -> None:
    """The newest jobs."""
    with open_console(options) as client:
        jobs = client.jobs()
    if options.json:
        _print_json(jobs)
        return
    table = _table("job", "type", "state", "songs", "failed", "created")
    for job in jobs:
        download = next((stage for stage in job["stages"] if stage["stage"] == "download"), None)
        songs = f"{_ended(download['counts'])}/{download['total']}" if download else ""
        created = local_time(job["created_at"])
        table.add_row(str(job["job_id"]), job["job_type"], job["state"], songs, str(job["totals"]["failed"]), created)
    _out().print(table if jobs else "There are no jobs yet; make one with: music-cloud sync")


def show_job(options: Options, job_id: int) -> None:
    """One job: its stages, and what failed."""
    with open_console(options) as client:
        job = client.job(job_id)
        if options.json:
            _print_json(job)
        else:
            _print_job(client, job, _out())


def command(options: Options, job_id: int, name: str) -> None:
    """Pause, resume or cancel."""
    with open_console(options) as client:
        job = client.command(job_id, name)
    if options.json:
        _print_json(job)
    else:
        _out().print(f"job {job_id} is {job['state']}")


def retry(options: Options, job_id: int, *, item: int | None, force: bool, error_code: str | None) -> int:
    """Try one item again, or all that failed (for one reason)."""
    with open_console(options) as client:
        failed = sum(stage["counts"]["failed"] for stage in client.job(job_id)["stages"])
        if item is not None:
            job = client.command(job_id, "force_retry_item" if force else "retry_item", item=item)
            words = f"item {item} of job {job_id} is tried again"
        elif not failed:
            job, words = client.job(job_id), f"job {job_id} has no failed items"
        else:
            job = client.command(job_id, "retry_failed", error_code=error_code)
            kind = f" for the reason {error_code}" if error_code else f" ({failed} items)"
            words = f"what failed of job {job_id}{kind} is tried again"
    if options.json:
        _print_json(job)
    else:
        _out().print(words)
    return Exit.OK


def list_dead(options: Options) -> None:
    """What could not be handled."""
    with open_console(options) as client:
        letters = list(client.dead_letters())
    if options.json:
        _print_json(letters)
        return
    table = _table("letter", "job", "from", "reason")
    for letter in letters:
        origin = letter["from_subject"] or letter["subject"]
        words = (str(letter["id"]), str(letter["job_id"] or ""), origin, letter["reason"]["message"])
        table.add_row(*(escape(visible(word)) for word in words))
    _out().print(table if letters else "There are no dead letters: everything could be handled.")


def replay(options: Options, letter: int | None) -> None:
    """Try dead letters again."""
    with open_console(options) as client:
        done = client.replay(letter)
    if options.json:
        _print_json(done)
    elif letter is not None:
        _out().print(escape(visible(done["message"])))
    else:
        _out().print(f"{done['replayed']} replayed, {done['refused']} could not be and stay listed")


def set_priority(options: Options, job_id: int, priority: int) -> None:
    """Serve a job more often than others, or less."""
    with open_console(options) as client:
        job = client.command(job_id, "set_priority", priority=priority)
    if options.json:
        _print_json(job)
    else:
        _out().print(f"job {job_id} has priority {job['priority']}")


def status(options: Options) -> int:
    """The services, the sources and the jobs under way."""
    with open_console(options) as client:
        dashboard, sources = client.dashboard(), client.sources()
    if options.json:
        _print_json({**dashboard, "sources": sources})
        return Exit.OK
    out = _out()
    table = _table("worker", "state", "doing", "problem")
    for worker in dashboard["workers"]:
        doing = worker.get("current_song") or worker.get("current_playlist") or ""
        problem = "; ".join(problem["message"] for problem in worker["problems"])
        table.add_row(escape(worker["worker_name"]), worker["status"], escape(doing), escape(problem))
    out.print(table)
    for source in sources:
        state = "available" if source.get("available") else source.get("message") or "not available"
        out.print(f"source {escape(str(source.get('name')))}: {escape(str(state))}")
    store = dashboard.get("object_store") or {}
    out.print(f"object store: {escape(str(store.get('message') or 'set up'))}")
    running = [job for job in dashboard["jobs"] if not JobState(job["state"]).ended]
    for job in running:
        out.print(f"job {job['job_id']} ({job['job_type']}): {job['state']}")
    if not running:
        out.print("no job is under way")
    return Exit.OK


def token(options: Options, *, song_id: int | None, locator: str | None) -> None:
    """Print a link that plays a song."""
    with open_console(options) as client:
        made = client.token(song_id=song_id, locator=locator)
    if options.json:
        _print_json(made)
    else:
        print(made["url"])


def exit_of(state: JobState) -> int:
    """The exit status for how a job ended."""
    if state is JobState.COMPLETED:
        return Exit.OK
    return Exit.WITH_ERRORS if state is JobState.COMPLETED_WITH_ERRORS else Exit.FAILED


def _wait(client: ConsoleClient, job_id: int, out: Console) -> Json:
    heard = time.monotonic()
    with Bars(out) if out.is_terminal else Lines(out) as view:
        while True:
            try:
                job = client.job(job_id)
                view.show(picture_of(job, client.dashboard()))
                heard = time.monotonic()
            except ConsoleUnreachable:
                # The job goes on without the console, which may only be starting again.
                if time.monotonic() - heard > _SILENCE:
                    raise
            else:
                if job_state(job).ended:
                    return job
            time.sleep(_EVERY)


def _print_job(client: ConsoleClient, job: Json, out: Console) -> None:
    out.print(f"job {job['job_id']} ({job['job_type']}): {job['state']}")
    if reason := job.get("waits_for"):
        out.print(f"[yellow]it does not move[/]: {escape(visible(reason['message']))}")
    for note in job.get("notes", ()):
        out.print(f"note: {escape(note)}")
    table = _table("stage", "state", "done", "failed", "skipped", "waiting")
    for stage in job["stages"]:
        if stage["stage"] in STAGE_TITLES:
            counts = stage["counts"]
            waiting = stage["total"] - _ended(counts)
            done = f"{_ended(counts)}/{stage['total']}"
            numbers = (str(counts["failed"]), str(counts["skipped"]), str(waiting))
            table.add_row(STAGE_TITLES[stage["stage"]], stage["state"], done, *numbers)
    out.print(table)
    for item in client.items(int(job["job_id"]), state="failed"):
        reason = (item.get("reason") or {}).get("message", "no reason given")
        out.print(f"[red]failed[/] {escape(visible(item['title']))} (item {item['id']}): {escape(visible(reason))}")
    read = client.items(int(job["job_id"]), state=ItemState.SUCCEEDED, stage=Stage.SYNC)
    for title, sentence in remarks_of(read):
        out.print(f"[yellow]noticed[/] {escape(visible(title))}: {escape(visible(sentence))}")


def _ended(counts: dict[str, int]) -> int:
    return sum(counts.get(state, 0) for state in ItemState if state.ended)


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _out() -> Console:
    console = Console(highlight=False)
    # A pipe has no width: programs must find one line where there is one.
    return console if console.is_terminal else Console(highlight=False, width=10_000)


def _print_json(content: object) -> None:
    print(json.dumps(content, ensure_ascii=False, indent=2))
