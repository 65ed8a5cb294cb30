"""Running nats-server with our configuration, one at a time per store."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from cli import nats_config
from cli.files import Locked, take_lock
from cli.nats_config_users import MUSIC
from cli.settings import CliSettings
from common.errors import ConfigurationError
from common.private_files import write_private
from common.secret_files import ACCOUNTS, read_secrets
from common.settings import split_list

LOCK = "lock"
"""Beside the store, held by the server that runs on it."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What was asked for on the command line instead of what the settings say."""

    config: Path | None = None
    listen: str | None = None
    store: Path | None = None
    version: str | None = None
    certificate: Path | None = None
    key: Path | None = None
    name: str | None = None
    cluster_listen: str | None = None
    routes: str | None = None


def write_config(settings: CliSettings, wanted: Wanted, *, stopped: bool = False) -> tuple[Path, bool]:
    """Write the server's configuration if it is not as it should be; returns the file and whether it changed.

    ``stopped``: the caller holds the store's lock. Raises :class:`ConfigurationError`: secrets are missing, an
    option cannot be used, a file of another hand lies there, or a server runs on a store that is to be taken over.
    """
    folder = settings.root_dir.absolute() / "nats"
    path = wanted.config or folder / nats_config.CONFIG_FILE
    store = wanted.store or folder / "jetstream"
    listen = wanted.listen
    host, port = nats_config.parse_listen(listen) if listen else nats_config.listen_address(settings.nats_url)
    version = wanted.version
    text = nats_config.render(
        host=host,
        port=port,
        store=store,
        passwords=_passwords(settings.root_dir),
        version=nats_config.parse_version(version)
        if version
        else nats_config.server_version(nats_config.find_server()),
        tls=_tls(wanted.certificate or settings.nats_tls_cert, wanted.key or settings.nats_tls_key),
        cluster=_cluster(wanted),
    )
    before = path.read_text(encoding="utf-8") if path.is_file() else None
    if before is not None and not before.startswith("# Made by `music-cloud`"):
        raise ConfigurationError(
            f"{path} was not made by this program, so it is left as it is. Move it away, or name another file."
        )
    if before is None or f"{MUSIC} {{" not in before:
        # A server that runs with this file already has them where it looks.
        _take_over(store, lock=None if stopped else folder / LOCK)
    if before == text:
        return path, False
    try:
        write_private(path, text)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written ({error.strerror}); name another file.") from None
    return path, True


def _take_over(store: Path, *, lock: Path | None) -> None:
    if not nats_config.has_older_store(store):
        return
    try:
        held = take_lock(lock, note=f"process {os.getpid()}") if lock is not None else None
    except Locked as error:
        raise ConfigurationError(
            f"A nats-server of an older version still runs on {store} ({error}). Stop it first: its streams go to "
            "another account now, which must not happen under it."
        ) from None
    try:
        nats_config.take_over_store(store)
    finally:
        if held is not None:
            os.close(held)


def _passwords(root: Path) -> dict[str, str]:
    found = {account: read_secrets(root, account).get("NATS_PASSWORD") for account in ACCOUNTS}
    if missing := [account for account, password in found.items() if not password]:
        raise ConfigurationError(
            f"The passwords of the bus for {', '.join(missing)} are missing. Make them with: music-cloud init"
        )
    return {account: password for account, password in found.items() if password}


def _tls(certificate: Path | None, key: Path | None) -> nats_config.Tls | None:
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise ConfigurationError("NATS_TLS_CERT and NATS_TLS_KEY belong together: set both, or neither.")
    return nats_config.Tls(certificate=certificate, key=key)


def _cluster(wanted: Wanted) -> nats_config.Cluster | None:
    given = (wanted.name, wanted.cluster_listen, wanted.routes)
    if given == (None, None, None):
        return None
    if not (wanted.name and wanted.cluster_listen and wanted.routes):
        raise ConfigurationError("--nats-name, --nats-cluster-listen and --nats-routes belong together: give all.")
    routes = split_list(wanted.routes)
    for address in (wanted.cluster_listen, *routes):
        nats_config.parse_listen(address)
    return nats_config.Cluster(name=wanted.name, listen=wanted.cluster_listen, routes=routes)


def run(settings: CliSettings) -> NoReturn:
    """Become nats-server. Raises :class:`ConfigurationError` when another one has the same store."""
    folder = settings.root_dir.absolute() / "nats"
    try:
        take_lock(folder / LOCK, note=f"process {os.getpid()}", inherit=True)
    except Locked as error:
        raise ConfigurationError(
            f"A nats-server already runs on this data ({error}). Two on one store would damage it: stop that one first."
        ) from None
    program = nats_config.find_server()
    (folder / "jetstream").mkdir(parents=True, exist_ok=True, mode=0o700)
    config, _ = write_config(settings, Wanted(), stopped=True)
    os.execv(program, [program, "--config", str(config)])  # noqa: S606 (this process becomes the server)
