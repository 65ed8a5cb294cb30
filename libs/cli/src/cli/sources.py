"""``music-cloud sources``: what the sources say when they are tried for real."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from typing import Annotated

import typer

ELSEWHERE = (
    "The sources are not installed here. Where Music Cloud runs in containers, ask one that has them:\n"
    "  docker compose exec collector python -P -m sources check"
)


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    sources = typer.Typer(help="Look at the sources that songs come from.", no_args_is_help=True, rich_markup_mode=None)

    @sources.command("check")
    def check(
        context: typer.Context,
        names: Annotated[list[str] | None, typer.Argument(help="names of sources; default: those of SOURCES")] = None,
        search: Annotated[str, typer.Option(help="what to look for; default: a song of its own lists")] = "",
        timeout: Annotated[float, typer.Option(help="seconds for each step of a source; default: 400")] = 0.0,
        json: Annotated[bool, typer.Option("--json", help="answer in JSON, for programs")] = False,
    ) -> None:
        """Try each source over the network: lists, a search, the beginning of a file. Nothing is stored."""
        asked = [f"--search={search}"] if search else []
        asked += [f"--timeout={timeout}"] if timeout else []
        asked += ["--json"] if json or context.obj.json else []
        raise typer.Exit(run_check([*(names or []), *asked]))

    app.add_typer(sources, name="sources")


def run_check(arguments: list[str]) -> int:
    """Run the check of the package that has the sources, in a process of its own; returns its exit status.

    The command line itself does without that package: in containers it is not there.
    """
    if importlib.util.find_spec("sources") is None:
        typer.echo(ELSEWHERE, err=True)
        return 2
    # -P: a folder named sources where the command is typed is not the package.
    return subprocess.run([sys.executable, "-P", "-m", "sources", "check", *arguments], check=False).returncode
