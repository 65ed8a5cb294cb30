"""The commands about snapshots: make one now, and change the key that they are signed with."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from typing import Annotated, Any

import typer

from cli.settings import CliSettings
from common.errors import ConfigurationError, MusicCloudError
from common.settings import load

signing_app = typer.Typer(
    help="Change the key that snapshots are signed with, so that no mirror notices.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    app.command()(export)
    app.add_typer(signing_app, name="signing-key")


class ExportFailed(MusicCloudError):
    """The exporter made no snapshot."""

    code = "export-failed"


def export(
    context: typer.Context,
    patience: Annotated[float, typer.Option(help="seconds to wait for it", min=1)] = 600,
) -> None:
    """Publish a snapshot of the catalog now, without waiting for changes to settle."""
    manifest = asyncio.run(_ask(patience))
    if context.obj.json:
        print(json.dumps(manifest, ensure_ascii=False, indent=2))
        return
    print(f"{manifest['snapshot_id']} of {manifest['generated_at']}")
    print(f"{manifest['track_count']} tracks, {manifest['playlist_count']} playlists, {manifest['file_count']} files")


@signing_app.command()
def announce() -> None:
    """Make the next key. From the exporter's next start on, mirrors are told to trust it."""
    from common.secret_files import NEXT_SIGNING_KEY, SIGNING_KEY, new_signing_key

    def change(held: dict[str, str]) -> dict[str, str]:
        if SIGNING_KEY not in held:
            raise ConfigurationError("There is no signing key yet. `music-cloud init` makes it.")
        if NEXT_SIGNING_KEY in held:
            raise ConfigurationError(
                "A next key is announced already. When all mirrors have seen it: `music-cloud signing-key switch`."
            )
        return {**held, NEXT_SIGNING_KEY: new_signing_key()}

    _change(change)
    print("Restart the exporter: its manifests then name the next key. Give mirrors the time to fetch one, a week")
    print("perhaps, then run `music-cloud signing-key switch`.")


@signing_app.command()
def switch(
    unseen: Annotated[bool, typer.Option("--unseen", help="although no snapshot names it: no mirror follows")] = False,
) -> None:
    """Let the next key sign from the exporter's next start on, and forget the one before."""
    from common.secret_files import NEXT_SIGNING_KEY, SIGNING_KEY, signing_key_id

    def change(held: dict[str, str]) -> dict[str, str]:
        if NEXT_SIGNING_KEY not in held:
            raise ConfigurationError("No next key was announced. First: `music-cloud signing-key announce`.")
        if not unseen and signing_key_id(held[NEXT_SIGNING_KEY]) not in _named_keys():
            raise ConfigurationError(
                "The newest snapshot does not name the next key yet, so that no mirror could follow. Restart the "
                "exporter, give mirrors the time to fetch, then switch. If none has to follow: --unseen."
            )
        kept = {name: value for name, value in held.items() if name != NEXT_SIGNING_KEY}
        return {**kept, SIGNING_KEY: held[NEXT_SIGNING_KEY]}

    _change(change)
    print("Restart the exporter: it then signs with the key that was announced. A mirror that never saw it asks its")
    print("owner to trust it: its id is the signature's key_id in the manifest.")


def _named_keys() -> set[str]:
    """The keys that the newest snapshot names, as far as it can be read from here."""
    manifest = load(CliSettings).snapshots / "current" / "manifest.json"
    try:
        keys = json.loads(manifest.read_text("utf-8"))["keys"]
        return {str(key["key_id"]) for key in keys}
    except (OSError, ValueError, TypeError, KeyError):
        return set()


def _change(change: Callable[[dict[str, str]], dict[str, str]]) -> None:
    from common.secret_files import change_secrets

    try:
        change_secrets(load(CliSettings).root_dir, "exporter", change)
    except OSError as error:
        raise ConfigurationError(
            f"The exporter's secrets below ROOT_DIR cannot be changed ({error.strerror}). They must belong to the "
            "user that runs this; `music-cloud init` makes them."
        ) from None


async def _ask(patience: float) -> dict[str, Any]:
    from nats.errors import NoRespondersError

    from common.bus import Bus
    from common.questions import question_subject

    bus = await Bus.connect(load(CliSettings), service="operator", instance=f"export-{os.getpid()}")
    try:
        answer = await bus.nc.request(question_subject("exporter", "export"), b"{}", timeout=patience)
    except NoRespondersError:
        raise ExportFailed("No exporter answers. Is it running? `music-cloud status` says so.") from None
    except TimeoutError:
        raise ExportFailed(
            f"The exporter has not finished within {patience:.0f} s; it goes on. `music-cloud status` shows it."
        ) from None
    finally:
        await bus.close()
    headers = answer.headers or {}
    if "Nats-Service-Error" in headers:
        raise ExportFailed(headers["Nats-Service-Error"], code=headers.get("Nats-Service-Error-Code", "export-failed"))
    told: dict[str, Any] = json.loads(answer.data)
    return told
