"""``music-cloud config``: versions of the configuration file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cli.access import Options, open_console
from cli.reading import local_time, visible

config_app = typer.Typer(
    help="List versions of the configuration, show or compare them, make one from a file, or apply one.",
    invoke_without_command=True,
    rich_markup_mode=None,
)

RevisionId = Annotated[int, typer.Argument(help="its number, as `music-cloud config` shows it", min=1)]


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    app.add_typer(config_app, name="config")


@config_app.callback()
def config(context: typer.Context) -> None:
    """Without a command: list them."""
    if context.invoked_subcommand is None:
        _list(context.obj)


@config_app.command("list")
def list_revisions(context: typer.Context) -> None:
    """The newest versions, and who runs which."""
    _list(context.obj)


@config_app.command()
def show(
    context: typer.Context,
    revision: Annotated[int | None, typer.Argument(help="its number; default: the one that runs", min=1)] = None,
) -> None:
    """The text of a version, secrets masked."""
    with open_console(context.obj) as client:
        if revision is None:
            current = client.config()["current"]
            if current is None:
                print("No version runs yet; every setting has its default, or comes from the environment.")
                return
            revision = int(current["id"])
        found = client.revision(revision)
    _say(context.obj, found, _plain(found["content_text"]))


@config_app.command()
def diff(
    context: typer.Context,
    revision: RevisionId,
    against: Annotated[int | None, typer.Option(help="the older one; default: the one that runs", min=1)] = None,
) -> None:
    """What differs between two versions."""
    with open_console(context.obj) as client:
        found = client.diff(revision, against=against)
    _say(context.obj, found, _plain(found["diff"]) or f"versions {found['old']} and {found['new']} are the same")


@config_app.command()
def add(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="the whole text; secrets as ********", exists=True, dir_okay=False)],
    note: Annotated[str, typer.Option(help="why")] = "",
) -> None:
    """Check a text and keep it as a version; it changes nothing until it is applied."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"{file} cannot be read as UTF-8 text ({type(error).__name__})") from None
    with open_console(context.obj) as client:
        made = client.add_revision(text, note=note)
    _say(context.obj, made, f"version {made['id']}; apply it with: music-cloud config apply {made['id']}")


@config_app.command()
def apply(context: typer.Context, revision: RevisionId) -> None:
    """Write a version to the file, with the secrets that are there now, and tell all services."""
    with open_console(context.obj) as client:
        outcome = client.apply_revision(revision)
    words = [f"version {outcome['revision']['id']} runs"]
    if outcome["live"]:
        words.append(f"changed at once: {', '.join(outcome['live'])}")
    if outcome["restart"]:
        words.append(f"changed by the next restart: {', '.join(outcome['restart'])}")
    if outcome["from_environment"]:
        words.append(f"kept by the environment, which wins: {', '.join(outcome['from_environment'])}")
    _say(context.obj, outcome, "\n".join(words))


def _list(options: Options) -> None:
    with open_console(options) as client:
        found, state = client.revisions(), client.config()
    if options.json:
        print(json.dumps({"items": found, **state}, ensure_ascii=False, indent=2))
        return
    out = Console(highlight=False)
    if state["problem"]:
        out.print(escape(visible(state["problem"])))
    if not found:
        out.print("There is no version yet; every setting has its default, or comes from the environment.")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("version", "made", "applied", "note"):
        table.add_column(column, overflow="fold")
    for one in found:
        applied = local_time(one["applied_at"]) if one["applied_at"] else ""
        words = (f"{one['id']}{' runs' if one['current'] else ''}", local_time(one["created_at"]), applied, one["note"])
        table.add_row(*(escape(visible(word)) for word in words))
    out.print(table)
    for worker in state["workers"]:
        wait = f"; needs a restart for {', '.join(worker['restart_for'])}" if worker["restart_for"] else ""
        out.print(escape(f"{worker['worker_name']} runs version {worker['settings_revision'] or 'none'}{wait}"))


def _plain(text: str) -> str:
    return "\n".join(visible(line) for line in text.splitlines())


def _say(options: Options, content: dict[str, Any], words: str) -> None:
    print(json.dumps(content, ensure_ascii=False, indent=2) if options.json else words)
