"""The commands: what each takes, and who does it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli import commands, nats_server
from cli.access import Options
from cli.adopt.commands import register as register_adopt
from cli.backup.commands import register as register_backup
from cli.config import register as register_config
from cli.files import make_secrets
from cli.schedules import register as register_schedules
from cli.settings import CliSettings
from cli.snapshots import register as register_snapshots
from cli.sources import register as register_sources
from common.contracts.names import JobType
from common.settings import load

HELP = """Music Cloud: collect, download, keep and serve a music library.

Exit status: 0 well, 1 failed or canceled, 2 wrong arguments or settings, 3 ended with failed items,
4 the console does not answer or refuses the credential.
"""
EXIT_WHEN_DONE_VARIABLE = "MUSIC_CLOUD_EXIT_WHEN_DONE"

app = typer.Typer(
    name="music-cloud",
    help=HELP,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
jobs_app = typer.Typer(
    help="List jobs, look at one, pause, resume, cancel, or try items again.",
    invoke_without_command=True,
    rich_markup_mode=None,
)
app.add_typer(jobs_app, name="jobs")
dead_app = typer.Typer(
    help="List what could not be handled, or try it again.", invoke_without_command=True, rich_markup_mode=None
)
app.add_typer(dead_app, name="dead")
register_schedules(app)
register_config(app)
register_backup(app)
register_adopt(app)
register_snapshots(app)
register_sources(app)

JobId = Annotated[int, typer.Argument(help="the job's number, as `music-cloud jobs` shows it", min=1)]


@app.callback()
def _common(
    context: typer.Context,
    url: Annotated[str | None, typer.Option(envvar="MUSIC_CLOUD_URL", help="address of the console")] = None,
    credential: Annotated[
        str | None,
        typer.Option(envvar="CONSOLE_TOKEN", help="credential of the console", show_envvar=True),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="answer in JSON, for programs")] = False,
) -> None:
    context.obj = Options(url=url, credential=credential, json=json)


@app.command()
def run(
    exit_when_done: Annotated[
        bool,
        typer.Option("--exit-when-done", envvar=EXIT_WHEN_DONE_VARIABLE, help="end after the summary"),
    ] = False,
    procfile: Annotated[Path | None, typer.Option(help="the Procfile; default: ours")] = None,
) -> None:
    """Start everything on this machine, run the main job, and serve until Ctrl-C."""
    # Imported here, as below: the other commands answer at once, without audio libraries and servers.
    from cli.run.main import run_here

    raise typer.Exit(run_here(exit_when_done=exit_when_done, procfile=procfile))


@app.command()
def init(
    nats_config: Annotated[
        Path | None, typer.Option(help="write nats-server's configuration, with all accounts, to this file")
    ] = None,
    nats_listen: Annotated[str | None, typer.Option(help="HOST:PORT in it; default: that of NATS_URL")] = None,
    nats_store: Annotated[Path | None, typer.Option(help="its folder of JetStream; default: ROOT_DIR/nats")] = None,
    nats_version: Annotated[str | None, typer.Option(help="for this version; default: the program here")] = None,
    nats_tls_cert: Annotated[Path | None, typer.Option(help="its certificate (PEM); default: NATS_TLS_CERT")] = None,
    nats_tls_key: Annotated[Path | None, typer.Option(help="the key of that (PEM); default: NATS_TLS_KEY")] = None,
    nats_name: Annotated[str | None, typer.Option(help="in a cluster: the name of this server")] = None,
    nats_cluster_listen: Annotated[
        str | None, typer.Option(help="in a cluster: HOST:PORT where the other servers reach this one")
    ] = None,
    nats_routes: Annotated[
        str | None, typer.Option(help="in a cluster: HOST:PORT of all its servers, separated by commas")
    ] = None,
) -> None:
    """Make the secrets that are missing, and bring nats-server's configuration up to date."""
    wanted = nats_server.Wanted(
        config=nats_config,
        listen=nats_listen,
        store=nats_store,
        version=nats_version,
        certificate=nats_tls_cert,
        key=nats_tls_key,
        name=nats_name,
        cluster_listen=nats_cluster_listen,
        routes=nats_routes,
    )
    commands.init(wanted)


@app.command()
def sync(
    context: typer.Context,
    wait: Annotated[bool, typer.Option("--wait", help="wait until the job has ended")] = False,
    type: Annotated[JobType, typer.Option(help="which stages")] = JobType.FULL,
    sources: Annotated[str, typer.Option(help="names of sources, separated by commas; default: all")] = "",
) -> None:
    """Ask for a job: collect, download and upload what is missing."""
    raise typer.Exit(commands.sync(context.obj, job_type=type, sources=sources, wait=wait))


@app.command()
def doctor(
    context: typer.Context, json: Annotated[bool, typer.Option("--json", help="answer in JSON, for programs")] = False
) -> None:
    """Look for what is wrong and name the command that mends it; exit status 0 well, 1 warnings, 2 errors."""
    from cli.doctor.main import doctor

    raise typer.Exit(doctor(context.obj, as_json=json or context.obj.json))


@app.command()
def status(context: typer.Context) -> None:
    """The services, and what they are doing."""
    raise typer.Exit(commands.status(context.obj))


@app.command()
def token(
    context: typer.Context,
    song_id: Annotated[int | None, typer.Argument(help="the song's id", min=0)] = None,
    locator: Annotated[str | None, typer.Option(help="the file's place in the library instead")] = None,
) -> None:
    """Print a link that plays a song, for as long as it is valid, without any other credential."""
    if (song_id is None) == (locator is None):
        raise typer.BadParameter("give either a song's id or --locator")
    commands.token(context.obj, song_id=song_id, locator=locator)


@app.command()
def nats() -> None:
    """Run the bus alone: become nats-server with our configuration (a line of the Procfile)."""
    make_secrets(load(CliSettings).root_dir)
    nats_server.run(load(CliSettings))


@app.command(hidden=True)
def demo() -> None:
    """Serve the feed of the demo music on loopback (a line of the Procfile)."""
    from cli.demo.library import ensure_demo
    from cli.demo.server import serve

    settings = load(CliSettings)
    serve(ensure_demo(settings.root_dir / "demo").feed, host="127.0.0.1", port=settings.demo_port)


@jobs_app.callback()
def _jobs(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        commands.list_jobs(context.obj)


@jobs_app.command("list")
def list_jobs(context: typer.Context) -> None:
    """The newest jobs."""
    commands.list_jobs(context.obj)


@dead_app.callback()
def dead(context: typer.Context) -> None:
    """Without a command: list them."""
    if context.invoked_subcommand is None:
        commands.list_dead(context.obj)


@dead_app.command("list")
def list_dead(context: typer.Context) -> None:
    """What could not be handled, with its reason."""
    commands.list_dead(context.obj)


@dead_app.command("replay")
def replay_dead(
    context: typer.Context,
    letter: Annotated[int | None, typer.Argument(help="its number; default: all", min=1)] = None,
) -> None:
    """Try an item again in its job, or put a message back where it came from."""
    commands.replay(context.obj, letter)


@jobs_app.command()
def show(context: typer.Context, job: JobId) -> None:
    """One job: its stages, and what failed and why."""
    commands.show_job(context.obj, job)


@jobs_app.command()
def pause(context: typer.Context, job: JobId) -> None:
    """Start nothing new; what runs is finished."""
    commands.command(context.obj, job, "pause")


@jobs_app.command()
def resume(context: typer.Context, job: JobId) -> None:
    """Go on where it was paused."""
    commands.command(context.obj, job, "resume")


@jobs_app.command()
def cancel(context: typer.Context, job: JobId) -> None:
    """End it; what is done stays."""
    commands.command(context.obj, job, "cancel")


@jobs_app.command()
def retry(
    context: typer.Context,
    job: JobId,
    item: Annotated[int | None, typer.Option(help="only this item; default: all that failed")] = None,
    force: Annotated[bool, typer.Option("--force", help="also an item that succeeded")] = False,
    error: Annotated[str | None, typer.Option(help="only what failed for this reason, by its code")] = None,
) -> None:
    """Try failed items again."""
    if force and item is None:
        raise typer.BadParameter("--force needs --item")
    if error is not None and item is not None:
        raise typer.BadParameter("--error goes without --item")
    raise typer.Exit(commands.retry(context.obj, job, item=item, force=force, error_code=error))


@jobs_app.command()
def priority(
    context: typer.Context,
    job: JobId,
    value: Annotated[int, typer.Argument(min=-3, max=3, help="-3 (seldom) to 3 (often); 0 is usual")],
) -> None:
    """Serve a job more often than others, or less."""
    commands.set_priority(context.obj, job, value)
