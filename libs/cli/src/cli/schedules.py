"""``music-cloud schedules``: jobs that run again and again."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cli.access import Options, open_console
from cli.reading import local_time, visible
from common.contracts.names import JobType
from common.settings import split_list

schedules_app = typer.Typer(
    help="List schedules, add one, let it rest, or remove it.", invoke_without_command=True, rich_markup_mode=None
)

ScheduleId = Annotated[int, typer.Argument(help="its number, as `music-cloud schedules` shows it", min=1)]


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    app.add_typer(schedules_app, name="schedules")


@schedules_app.callback()
def schedules(context: typer.Context) -> None:
    """Without a command: list them."""
    if context.invoked_subcommand is None:
        _list(context.obj)


@schedules_app.command("list")
def list_schedules(context: typer.Context) -> None:
    """When each runs next, and what became of its last run."""
    _list(context.obj)


@schedules_app.command()
def add(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="a name for people")],
    cron: Annotated[
        str | None, typer.Option(help="minute, hour, day, month, weekday by the console's clock, such as '30 3 * * *'")
    ] = None,
    every: Annotated[int | None, typer.Option(help="seconds between two runs, instead of --cron", min=60)] = None,
    jitter: Annotated[int, typer.Option(help="each run begins up to so many seconds later", min=0)] = 0,
    job_type: Annotated[JobType, typer.Option("--type", help="what it does")] = JobType.FULL,
    sources: Annotated[str, typer.Option(help="names of sources, separated by commas; default: all")] = "",
    pools: Annotated[str, typer.Option(help="ids of pools, separated by commas; default: all")] = "",
) -> None:
    """Let a job run again and again; one that still runs is left to run."""
    if (cron is None) == (every is None):
        raise typer.BadParameter("give either --cron or --every")
    try:
        scope = [int(pool) for pool in split_list(pools)]
    except ValueError:
        raise typer.BadParameter("--pools takes numbers") from None
    wanted: dict[str, Any] = {
        "name": name,
        "job_type": job_type.value,
        "sources": list(split_list(sources)),
        "pool_scope": scope,
        "cron": cron,
        "every_seconds": every,
        "jitter_seconds": jitter,
    }
    with open_console(context.obj) as client:
        made = client.add_schedule(wanted)
    _say(context.obj, made, f"schedule {made['id']} runs next at {local_time(made['next_at'])}")


@schedules_app.command()
def rest(context: typer.Context, schedule: ScheduleId) -> None:
    """Let it rest; what it misses does not happen later."""
    with open_console(context.obj) as client:
        changed = client.change_schedule(schedule, enabled=False)
    _say(context.obj, changed, f"schedule {schedule} rests")


@schedules_app.command()
def go(context: typer.Context, schedule: ScheduleId) -> None:
    """Let it run again."""
    with open_console(context.obj) as client:
        changed = client.change_schedule(schedule, enabled=True)
    _say(context.obj, changed, f"schedule {schedule} runs next at {local_time(changed['next_at'])}")


@schedules_app.command()
def remove(context: typer.Context, schedule: ScheduleId) -> None:
    """Forget it; its jobs stay."""
    with open_console(context.obj) as client:
        client.remove_schedule(schedule)
    _say(context.obj, {"id": schedule, "removed": True}, f"schedule {schedule} is removed")


def _list(options: Options) -> None:
    with open_console(options) as client:
        found = client.schedules()
    if options.json:
        print(json.dumps(found, ensure_ascii=False, indent=2))
        return
    out = Console(highlight=False)
    if not found:
        out.print("There are no schedules; add one with: music-cloud schedules add")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("schedule", "name", "job", "when", "next", "last run"):
        table.add_column(column, overflow="fold")
    for one in found:
        when = one["cron"] or f"every {one['every_seconds']} s"
        following = local_time(one["next_at"]) if one["enabled"] else "rests"
        words = (str(one["id"]), one["name"], one["job_type"], when, following, one["note"])
        table.add_row(*(escape(visible(word)) for word in words))
    out.print(table)


def _say(options: Options, content: dict[str, Any], words: str) -> None:
    print(json.dumps(content, ensure_ascii=False, indent=2) if options.json else words)
