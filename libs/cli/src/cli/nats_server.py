"""Running nats-server with our configuration, one at a time per store."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NoReturn

from cli import nats_config
from cli.files import Locked, take_lock, write_private
from cli.settings import CliSettings
from common.errors import ConfigurationError


def prepare(settings: CliSettings) -> tuple[str, Path]:
    """Write the server's configuration; returns its program and that file."""
    if settings.nats_password is None or settings.nats_reader_password is None:
        raise ConfigurationError("The passwords of the bus are missing. Make them with: music-cloud init")
    program = nats_config.find_server()
    host, port = nats_config.listen_address(settings.nats_url)
    folder = settings.root_dir.absolute() / "nats"
    store = folder / "jetstream"
    store.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / nats_config.CONFIG_FILE
    write_private(
        path,
        nats_config.render(
            host=host,
            port=port,
            store=store,
            user=settings.nats_user,
            password=settings.nats_password.get_secret_value(),
            reader_password=settings.nats_reader_password.get_secret_value(),
            version=nats_config.server_version(program),
        ),
    )
    return program, path


def run(settings: CliSettings) -> NoReturn:
    """Become nats-server. Raises :class:`ConfigurationError` when another one has the same store."""
    folder = settings.root_dir.absolute() / "nats"
    try:
        take_lock(folder / "lock", note=f"process {os.getpid()}", inherit=True)
    except Locked as error:
        raise ConfigurationError(
            f"A nats-server already runs on this data ({error}). Two on one store would damage it: stop that one first."
        ) from None
    program, config = prepare(settings)
    os.execv(program, [program, "--config", str(config)])  # noqa: S606 (this process becomes the server)
