"""The command ``music-cloud-mirror``: what a person types, and what they read."""

from __future__ import annotations

import argparse
import base64
import importlib.util
import json
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from mirror.bell import SUBJECT, BusBell
from mirror.client import Limits, Mirror, Pulled, current_snapshot
from mirror.errors import KeyFormatError, MirrorError
from mirror.folder import Folder
from mirror.format.keys import decode_public_key
from mirror.problems import Busy, LocalProblem, NotOffered, SettingsProblem, Unavailable
from mirror.progress import for_terminal, megabytes
from mirror.verifying import verify_folder
from mirror.watch import Watch

TOKEN = "MUSIC_CLOUD_MIRROR_TOKEN"  # noqa: S105 - the name of a variable
BUS_PASSWORD = "MUSIC_CLOUD_MIRROR_NATS_PASSWORD"  # noqa: S105
STATUSES: tuple[tuple[type[MirrorError], int], ...] = (
    (LocalProblem, 1),
    (SettingsProblem, 2),
    (KeyFormatError, 2),
    (Unavailable, 3),
    (NotOffered, 4),
    (Busy, 6),
)
REFUSED = 5
"""For whatever else is expected: what came, or lies here, is not to be trusted."""
_MIB = 1 << 20
_SECRET_AT_MOST = 16 * 1024
_MOST = 10**9
"""Of seconds (30 years), snapshots, MiB: the clocks of Python take ten times as much."""


def run(arguments: list[str]) -> int:
    """Run one command; returns its exit status."""
    given = _parser().parse_args(arguments)
    try:
        return int(given.command(given))
    except MirrorError as error:
        print(f"{error.message} [{error.code}]", file=sys.stderr)
        return status_of(error)
    except KeyboardInterrupt:
        return 130


def status_of(error: MirrorError) -> int:
    """The exit status that tells programs what kind of problem it was."""
    return next((status for kind, status in STATUSES if isinstance(error, kind)), REFUSED)


def _pull(given: argparse.Namespace) -> int:
    with _mirror(given) as mirror:
        _say(mirror.pull(full=given.full, allow_rollback=given.allow_rollback))
    return 0


def _watch(given: argparse.Namespace) -> int:
    bell = _bell(given)
    with _mirror(given) as mirror:
        watch = Watch(mirror=mirror, every=given.every, report=_report, bell=bell)
        if bell is not None:
            bell.start()
        try:
            watch.run()
        except SystemExit:
            return 0
        finally:
            if bell is not None:
                bell.stop()
    return 0


def _verify(given: argparse.Namespace) -> int:
    verified = verify_folder(given.directory, keys=_keys(given.key))
    manifest = verified.snapshot.manifest
    rows = sum(table.rows for table in manifest.tables.values())
    print(f"{manifest.snapshot_id}: signed by {verified.key_id}, {rows:,} rows as signed.")
    return 0


def _status(given: argparse.Namespace) -> int:
    memory = Folder(given.directory.absolute()).memory()
    snapshot = current_snapshot(given.directory)
    manifest = snapshot.manifest if snapshot else None
    outcome = memory.outcome
    keys = {name: base64.b64encode(key).decode() for name, key in memory.keys.items()}
    found: dict[str, object] = {
        "catalog": memory.catalog,
        "snapshot_id": manifest and manifest.snapshot_id,
        "generated_at": manifest and manifest.generated_at.isoformat(),
        "lineage": manifest and manifest.lineage,
        "revision": manifest and manifest.revision,
        "playlist_count": manifest and manifest.raw["playlist_count"],
        "track_count": manifest and manifest.raw["track_count"],
        "file_count": manifest and manifest.raw["file_count"],
        "database": snapshot and str(snapshot.database),
        "database_bytes": snapshot and snapshot.database.stat().st_size,
        "trusted_keys": keys,
        "last_pull_at": outcome and outcome.at.isoformat(timespec="seconds"),
        "last_pull": outcome and outcome.code,
        "last_pull_message": outcome and outcome.message,
    }
    if given.json:
        print(json.dumps(found, indent=2))
    else:
        if manifest is not None:
            found["age"] = f"{(datetime.now(UTC) - manifest.generated_at).total_seconds() / 3600:,.1f} h"
        found["trusted_keys"] = ", ".join(f"{name} {value}" for name, value in keys.items())
        for name, value in found.items():
            if value not in (None, ""):
                print(f"{name.replace('_', ' '):<18} {value}")
        if manifest is None:
            print("There is no snapshot in this folder yet.")
    return 0 if manifest is not None else 1


def _mirror(given: argparse.Namespace) -> Mirror:
    return Mirror(
        given.into,
        given.url,
        keys=_keys(given.key),
        token=_secret(given.token_file, TOKEN),
        allow_http=given.allow_http,
        limits=Limits(
            pack_bytes=given.max_pack_size * _MIB, wait=given.wait, pack_wait=given.pack_wait, keep=given.keep
        ),
        progress=for_terminal(quiet=given.quiet or (given.command is _watch and not sys.stderr.isatty())),
    )


def _bell(given: argparse.Namespace) -> BusBell | None:
    if given.nats is None:
        return None
    if importlib.util.find_spec("nats") is None:
        raise SettingsProblem(
            "nats-missing",
            "The bus takes the library nats-py: pip install './libs/mirror[watch]' in a clone of Music Cloud.",
        )
    return BusBell(
        url=given.nats,
        user=given.nats_user,
        password=_secret(given.nats_password_file, BUS_PASSWORD),
        allow_plain=given.allow_http,
        report=lambda sentence: print(sentence, file=sys.stderr, flush=True),
        subject=given.nats_subject,
    )


def _keys(texts: list[str]) -> list[bytes]:
    """Public keys, each as base64 or as a file that holds it."""
    keys = []
    for text in texts:
        try:
            keys.append(decode_public_key(text))
        except KeyFormatError:
            keys.append(decode_public_key(_read(Path(text), "key")))
    return keys


def _secret(file: Path | None, variable: str) -> str | None:
    text = (os.environ.get(variable, "") if file is None else _read(file, "secret")).strip()
    if not text.isascii() or not text.isprintable():
        raise SettingsProblem("secret-unreadable", "A token or password is one line of plain letters and signs.")
    return text or None


def _read(path: Path, what: str) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_SECRET_AT_MOST).decode()
    except (OSError, ValueError):
        raise SettingsProblem(f"{what}-unreadable", f"The {what} cannot be read from {path}.") from None


def _report(outcome: Pulled | MirrorError) -> None:
    if isinstance(outcome, MirrorError):
        print(f"{outcome.message} [{outcome.code}] Going on with what is here.", file=sys.stderr, flush=True)
    elif outcome.changed:
        _say(outcome)


def _say(pulled: Pulled) -> None:
    manifest = pulled.snapshot.manifest
    for name, key in pulled.first_keys.items():
        print(
            f"Trusting the key {name} from now on, because it came first. Ask the publisher whether it is this one:\n"
            f"  {base64.b64encode(key).decode()}"
        )
    if pulled.changed and not pulled.received:
        print(f"Now {manifest.snapshot_id}: the same content, published again.", flush=True)
    elif pulled.changed:
        how = "changes" if pulled.delta else "everything"
        print(f"Now {manifest.snapshot_id}, by a pack of {how} ({megabytes(pulled.received)}).", flush=True)
    else:
        print(f"Nothing new: {manifest.snapshot_id}.", flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="music-cloud-mirror",
        description="Keeps a folder equal to a catalog that somebody publishes, and never shows anything else.",
        epilog="Exit status: 0 well; 1 this machine (disk, folder); 2 arguments; 3 the server, later; 4 the server "
        "knows no such catalog, or not for us; 5 refused: not to be trusted; 6 another one is at work on the folder.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    pull = commands.add_parser("pull", help="fetch the newest snapshot, if it is not here yet")
    watch = commands.add_parser("watch", help="go on fetching, until it is ended")
    for command in (pull, watch):
        command.add_argument("url", metavar="URL", help="https://HOST/OWNER/SLUG")
        command.add_argument("--into", type=Path, required=True, metavar="DIR", help="the mirror's folder")
        _add_keys(command)
        command.add_argument(
            "--token-file", type=Path, metavar="FILE", help=f"for a private catalog; or the variable {TOKEN}"
        )
        command.add_argument(
            "--keep", type=_number(0), default=1, metavar="N", help="snapshots to keep beside the current one (1)"
        )
        command.add_argument("--allow-http", action="store_true", help="without encryption, also to other machines")
        command.add_argument("--max-pack-size", type=_number(1), default=8192, metavar="MIB", help="at most (8192)")
        command.add_argument(
            "--pack-wait", type=_number(0), default=900, metavar="SECONDS", help="for a pack that is being made (900)"
        )
        command.add_argument("--quiet", action="store_true", help="no progress")
    pull.add_argument("--full", action="store_true", help="everything anew, where what is here is damaged")
    pull.add_argument("--allow-rollback", action="store_true", help="accept, this once, what is older")
    pull.add_argument(
        "--wait", type=_number(0), default=120, metavar="SECONDS", help="for a server that is not ready (120)"
    )
    pull.set_defaults(command=_pull)
    watch.add_argument("--every", type=_number(1), default=300, metavar="SECONDS", help="between two questions (300)")
    watch.add_argument("--nats", metavar="URL", help="the publisher's bus, to hear of a snapshot at once")
    watch.add_argument("--nats-user", default="reader", metavar="NAME", help="its account (reader)")
    watch.add_argument(
        "--nats-password-file", type=Path, metavar="FILE", help=f"its password; or the variable {BUS_PASSWORD}"
    )
    watch.add_argument("--nats-subject", default=SUBJECT, metavar="SUBJECT", help=f"({SUBJECT})")
    watch.set_defaults(command=_watch, wait=2)
    verify = commands.add_parser("verify", help="check signature and content of what is here")
    verify.add_argument("directory", type=Path, metavar="DIR", help="a mirror's folder, or one that holds a snapshot")
    _add_keys(verify)
    verify.set_defaults(command=_verify)
    status = commands.add_parser("status", help="what is here, and how the last pull ended")
    status.add_argument("directory", type=Path, metavar="DIR")
    status.add_argument("--json", action="store_true")
    status.set_defaults(command=_status)
    return parser


def _add_keys(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--key",
        action="append",
        default=[],
        metavar="KEY",
        help="the publisher's public key (base64) or a file that holds it; may be given again. Without one, the first "
        "that comes is trusted from then on",
    )


def _number(least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not text.isascii() or not text.isdigit() or len(text) > 20 or not least <= int(text) <= _MOST:
            raise argparse.ArgumentTypeError(f"give a whole number from {least} to {_MOST}")
        return int(text)

    return number
