"""Generated secrets: one folder for each account of the bus, holding only what that one needs.

A container is given its own folder and no other, so that who breaks into one service has the
rights of that service and not of all.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import hashlib
import io
import os
import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from dotenv import dotenv_values

from common.env_file import decoded
from common.errors import ConfigurationError
from common.private_files import sync_folder, write_private

SECRETS_DIR = "secrets"
SECRETS_FILE = "secrets.env"
TAKEN_OVER_FILE = "secrets.env.taken-over"
"""What the single file of older versions is called when its values are in the folders."""

ACCOUNTS: dict[str, tuple[str, ...]] = {
    "console": ("NATS_PASSWORD", "CONSOLE_TOKEN", "ORIGIN_TOKEN_SECRET"),
    "collector": ("NATS_PASSWORD",),
    "downloader": ("NATS_PASSWORD", "STACK_ID"),
    "uploader": ("NATS_PASSWORD",),
    "exporter": ("NATS_PASSWORD", "CATALOG_TOKEN", "SNAPSHOT_SIGNING_KEY"),
    "origin": ("NATS_PASSWORD", "ORIGIN_TOKEN_SECRET"),
    "operator": ("NATS_PASSWORD", "CONSOLE_TOKEN", "CATALOG_TOKEN", "STACK_ID"),
    "reader": ("NATS_PASSWORD",),
}
"""Who has which secrets. ``operator`` is the owner at the command line, ``reader`` anyone who subscribes."""
SHARED = ("CONSOLE_TOKEN", "CATALOG_TOKEN", "ORIGIN_TOKEN_SECRET", "STACK_ID")
"""The same value wherever it stands; every other secret belongs to one account."""

SIGNING_KEY, NEXT_SIGNING_KEY = "SNAPSHOT_SIGNING_KEY", "SNAPSHOT_NEXT_SIGNING_KEY"
"""What the exporter signs snapshots with, and what it will sign with next: a seed of Ed25519 in base64."""

_OLD_SERVICES, _OLD_READER = "NATS_PASSWORD", "NATS_READER_PASSWORD"
"""The passwords in the single file: that of an account for all services, which is no more, and the reader's."""
_PLAIN = re.compile(r"[A-Za-z0-9_.~+/=-]*")


def secrets_path(root: Path, account: str) -> Path:
    """The file of one account."""
    return root / SECRETS_DIR / account / SECRETS_FILE


def read_secrets(root: Path, account: str) -> dict[str, str]:
    """What the file of one account holds; empty where there is none."""
    path = secrets_path(root, account)
    return read_env(path) if path.is_file() else {}


def ensure_secrets(root: Path) -> dict[str, str]:
    """Make the secrets that are missing below ``root``; return those made now, to be shown once.

    What is there is never changed. The single file of older versions is taken over and kept beside. A
    shared secret is returned by its name, any other as ``account/NAME``. Raises OSError; ConfigurationError where
    a file is damaged.
    """
    folder = root / SECRETS_DIR
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _locked(folder):
        old = root / SECRETS_FILE
        before = read_env(old, interpolate=False) if old.is_file() else {}
        present = {
            account: read_env(secrets_path(root, account), interpolate=False)
            if secrets_path(root, account).is_file()
            else {}
            for account in ACCOUNTS
        }
        made: dict[str, str] = {}
        shared = _shared(present, before, made)
        for account, names in ACCOUNTS.items():
            wanted = {name: shared[name] for name in names if name in shared}
            taken = _taken_over(account, before)
            for name in names:
                if name not in SHARED and name not in present[account] and name not in taken:
                    wanted[name] = made[f"{account}/{name}"] = new_signing_key() if name == SIGNING_KEY else _new()
            content = {**taken, **wanted, **present[account]}
            if content != present[account]:
                _write(secrets_path(root, account), content)
        if old.is_file():
            # The values are on the disk before the file that had them is put aside.
            sync_folder(folder)
            old.replace(root / TAKEN_OVER_FILE)
    return made


def change_secrets(root: Path, account: str, change: Callable[[dict[str, str]], Mapping[str, str]]) -> None:
    """Replace what the file of one account holds by what ``change`` makes of it. Raises OSError."""
    with _locked(root / SECRETS_DIR):
        path = secrets_path(root, account)
        _write(path, change(read_env(path, interpolate=False) if path.is_file() else {}))


def new_signing_key() -> str:
    """A fresh key for signatures: any 32 bytes are one."""
    return base64.b64encode(secrets.token_bytes(32)).decode()


def signing_key_id(secret: str) -> str:
    """The id under which manifests name the key of ``secret``. Raises ValueError where that is none."""
    # Loaded only here: no other secret needs it.
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    public = Ed25519PrivateKey.from_private_bytes(base64.b64decode(secret, validate=True)).public_key()
    return hashlib.sha256(public.public_bytes_raw()).hexdigest()[:16]


def read_env(path: Path, *, interpolate: bool = True) -> dict[str, str]:
    """The values of an env file that are not empty. Raises OSError; ConfigurationError where it is damaged."""
    text = io.StringIO(decoded(path, path.read_bytes()), newline=None)
    return {key: value for key, value in dotenv_values(stream=text, interpolate=interpolate).items() if value}


def _shared(
    present: Mapping[str, Mapping[str, str]], before: Mapping[str, str], made: dict[str, str]
) -> dict[str, str]:
    found = {}
    for name in SHARED:
        known = [values[name] for account, values in present.items() if name in ACCOUNTS[account] and name in values]
        value = next(iter(known), before.get(name))
        if value is None:
            value = made[name] = _new()
        found[name] = value
    return found


def _taken_over(account: str, before: Mapping[str, str]) -> dict[str, str]:
    """What an account keeps of the single file: its own, and what the owner wrote there himself."""
    if account == "reader":
        return {"NATS_PASSWORD": before[_OLD_READER]} if _OLD_READER in before else {}
    return {name: value for name, value in before.items() if name not in {_OLD_SERVICES, _OLD_READER, *SHARED}}


def _new() -> str:
    return secrets.token_urlsafe(36)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Two first starts at once must not make two sets."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        # Whoever wrote these was killed at it: nobody else has the lock.
        for leftover in (*folder.glob(f"*/.{SECRETS_FILE}.*"), *folder.glob("*/secrets.tmp*")):
            leftover.unlink()
        yield
    finally:
        os.close(descriptor)


def _write(path: Path, values: Mapping[str, str]) -> None:
    lines = [f"{name}={_quoted(name, value)}\n" for name, value in values.items()]
    path.parent.mkdir(exist_ok=True, mode=0o700)
    write_private(path, "# Made at first start. Keep it: tokens and passwords depend on it.\n" + "".join(lines))


def _quoted(name: str, value: str) -> str:
    if _PLAIN.fullmatch(value):
        return value
    if "\n" in value or "\r" in value:
        raise ConfigurationError(f"{name} in {SECRETS_FILE} holds a line break; remove it.")
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
