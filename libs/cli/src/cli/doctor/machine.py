"""What can be seen from here without anybody's answer: settings, secrets, folders, ports."""

from __future__ import annotations

import stat
from collections.abc import Iterator

from cli.doctor.row import Row, error, from_finding, ok, warning
from cli.ports import is_free
from cli.settings import CliSettings
from common.audit import Needs, examine, library_place, media_place, snapshots_place, state_place
from common.audit.commands import command, in_container, init_command, owner_command
from common.audit.needs import root_place
from common.audit.stack import own_ids
from common.errors import ConfigurationError
from common.secret_files import ACCOUNTS, SECRETS_DIR, read_secrets, secrets_path
from common.settings import ENV_FILES, env_files

_SEEN_ELSEWHERE = {"secret-missing", "port-in-use", "port-unusable", "few-open-files"}
"""Found of this command, not of the services, or looked at more closely here."""


def settings_rows(settings: CliSettings) -> list[Row]:
    """Which file the settings come from. What is wrong in it ends the command before this."""
    files = env_files()
    if not files:
        return [ok("settings", f"There is no {ENV_FILES[0]}; the defaults and the environment hold.")]
    return [ok("settings", f"{files[0]} is read, and every name in it is known.")]


def secret_rows(settings: CliSettings) -> list[Row]:
    """The secrets that are here: whole, and their owner's alone."""
    root = settings.root_dir
    folder = root.absolute() / SECRETS_DIR
    try:
        present = [account for account in ACCOUNTS if secrets_path(root, account).is_file()]
        if not present and settings.nats_password is None:
            return [error("secrets", f"There are no secrets below {folder}.", init_command())]
        lacking = [
            f"{account} ({', '.join(missing)})"
            for account in present
            if (missing := [name for name in ACCOUNTS[account] if name not in read_secrets(root, account)])
        ]
        open_ones = [
            path
            for account in present
            for path in (secrets_path(root, account), secrets_path(root, account).parent)
            if stat.S_IMODE(path.stat().st_mode) & 0o077
        ]
    except OSError as problem:
        words = f"The secrets below {folder} cannot be read ({problem.strerror})."
        return [error("secrets", words, owner_command(folder))]
    except ConfigurationError as problem:
        return [error("secrets", problem.message, command("ls", "-lR", folder))]
    rows = []
    if lacking:
        rows.append(error("secrets", f"Secrets are missing: {'; '.join(lacking)}.", init_command()))
    if open_ones:
        mend = command("chmod", "-R", "go=", folder, root=True)
        rows.append(warning("secrets", f"Others may read secrets below {folder}.", mend))
    return rows or [ok("secrets", f"{', '.join(present) or 'from the environment'}: whole, and their owner's alone.")]


def folder_rows(settings: CliSettings) -> list[Row]:
    """Folders and disks, as the services look at them."""
    root, library, state = root_place(settings), library_place(settings), state_place(settings)
    media = media_place(settings)
    if not settings.root_dir.exists():
        return [warning("folders", f"ROOT_DIR ({root.path}) is not there yet; the first start makes it.")]
    known = own_ids(root.path, settings.stack_id)
    needs = Needs(
        writes=(library, state, snapshots_place(settings)),
        reads=() if media is None else (media,),
        databases=((state, settings.state / "ops.db"), (state, settings.state / "catalog.db")),
        # Without an id of ours nothing can be said of whose the library is.
        claims=library if known else None,
    )
    rows = [
        from_finding("folders", finding) for finding in examine(settings, needs) if finding.code not in _SEEN_ELSEWHERE
    ]
    return rows or [ok("folders", f"Library ({library.path}) and databases ({state.path}) can be written.")]


def port_rows(settings: CliSettings, running: frozenset[str] | None) -> list[Row]:
    """The addresses that services listen on; in a container those are not to be seen.

    ``running``: who is known to run; None when nobody told.
    """
    return [] if in_container() else list(_port_rows(settings, running))


def _port_rows(settings: CliSettings, running: frozenset[str] | None) -> Iterator[Row]:
    addresses = (
        ("console", "WEB_PORT", settings.web_host, settings.web_port),
        ("origin", "ORIGIN_PORT", settings.origin_host, settings.origin_port),
        ("exporter", "EXPORTER_PORT", settings.exporter_host, settings.exporter_port),
    )
    for service, setting, host, port in addresses:
        subject = f"port {port}"
        if not port:
            continue
        try:
            free = is_free(host, port)
        except ConfigurationError as problem:
            yield error(subject, f"{problem.message} Correct the address of the {service}.", "ip -brief address")
            continue
        if free:
            yield ok(subject, f"Free: the {service} does not run, or runs elsewhere.")
        elif running is None:
            yield warning(
                subject,
                f"In use, by the {service} or by another program: the console does not answer to tell.",
                f"sudo ss -ltnp 'sport = :{port}'",
            )
        elif service in running:
            yield ok(subject, f"The {service} listens on {host}.")
        else:
            yield error(
                subject,
                f"In use by another program, so that the {service} cannot start. Stop that one, or set another "
                f"{setting}.",
                f"sudo ss -ltnp 'sport = :{port}'",
            )
