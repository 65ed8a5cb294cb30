"""Getting this machine ready for a run: folders, lock, secrets, ports, demo music."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

from cli import nats_config
from cli.access import RUN_FILE, read_run_file
from cli.demo.library import ensure_demo
from cli.files import Locked, make_secrets, require_room, take_lock
from cli.ports import pick
from cli.run.plan import DEMO, Music, Ports, choose_music, demo_feed
from cli.settings import CliSettings
from common.contracts.names import ImportMode
from common.errors import ConfigurationError
from common.private_files import write_private
from common.settings import load, split_list

SERVICES = ("console", "collector", "downloader", "uploader", "exporter", "origin")
_DEMO_PORT_FILE = "feed-port.json"
_LOOPBACK = {"127.0.0.1", "localhost", "::1"}
_LEASE_SECONDS = 15.0
"""What was in hand at Ctrl-C is given back, but older servers forget that when they end, and wait for the lease."""


@dataclass(kw_only=True)
class Place:
    """Everything that a run needs to know of this machine. ``secrets_made``: names of secrets made just now."""

    root: Path
    settings: CliSettings
    music: Music
    ports: Ports
    secrets_made: frozenset[str]
    notices: list[str] = field(default_factory=list)

    @property
    def logs(self) -> Path:
        return self.settings.logs

    @property
    def console_url(self) -> str:
        return f"http://{_reachable(self.settings.web_host)}:{self.ports.console}"

    @property
    def origin_url(self) -> str:
        return f"http://{_reachable(self.settings.origin_host)}:{self.ports.origin}"

    @property
    def nats_url(self) -> str:
        # The host that was named: with TLS the certificate is for that one.
        host, _ = nats_config.listen_address(self.settings.nats_url)
        scheme = "tls" if self.settings.nats_tls_cert else "nats"
        return f"{scheme}://{host if host in _LOOPBACK - {'::1'} else '127.0.0.1'}:{self.ports.nats}"

    @property
    def credential(self) -> str:
        assert self.settings.console_token is not None
        return self.settings.console_token.get_secret_value()

    @property
    def processes(self) -> tuple[str, ...]:
        """The lines of the Procfile that this run needs, besides the bus."""
        return (*((DEMO,) if self.music.demo else ()), *SERVICES)

    def environment(self, name: str) -> dict[str, str]:
        """The environment of one process: ours, and what this run decided."""
        values = {
            **os.environ,
            # The Procfile names programs that stand beside this interpreter.
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "PYTHONUNBUFFERED": "1",
            "ROOT_DIR": str(self.root),
            "NATS_URL": self.nats_url,
            "WEB_PORT": str(self.ports.console),
            "ORIGIN_PORT": str(self.ports.origin),
            "EXPORTER_PORT": str(self.ports.exporter),
            "DEMO_PORT": str(self.ports.demo),
            "HEALTH_PORT": str(self.ports.health.get(name, 0)),
            "FEEDS": ",".join(self.music.feeds),
        }
        if self.settings.origin_public_url is None:
            values["ORIGIN_PUBLIC_URL"] = self.origin_url
        if "lease_seconds" not in self.settings.model_fields_set:
            values["LEASE_SECONDS"] = str(_LEASE_SECONDS)
        if self.music.folder is not None:
            values["LOCAL_MEDIA_IMPORT_PATH"] = str(self.music.folder)
        if self.music.import_mode is not None:
            values["IMPORT_MODE"] = str(self.music.import_mode)
        if self.music.demo:
            allowed = (*split_list(self.settings.allow_private_hosts), f"127.0.0.1:{self.ports.demo}")
            values["ALLOW_PRIVATE_HOSTS"] = ",".join(allowed)
        return values


def prepare() -> Place:
    """Read the settings, take the lock, make secrets, choose ports, make the demo.

    Raises :class:`ConfigurationError` with what to do.
    """
    settings = load(CliSettings)
    music = choose_music(settings)
    nats_config.find_server()
    root = settings.root_dir.absolute()
    if music.folder is not None and settings.library.resolve().is_relative_to(music.folder.resolve()):
        raise ConfigurationError(
            "The library lies inside LOCAL_MEDIA_IMPORT_PATH, so that what is stored would be collected again. "
            "Choose a ROOT_DIR (or LIBRARY_DIR) outside of that folder."
        )
    require_room(root)
    try:
        root.mkdir(parents=True, exist_ok=True)
        take_lock(root / "run.lock", note=f"process {os.getpid()}")
    except Locked as error:
        console = read_run_file(root).get("console")
        where = f"; its console is {console}" if console else ""
        raise ConfigurationError(
            f"Music Cloud already runs on this data ({error}{where}). Use that one, end it with Ctrl-C, "
            "or give this one a folder of its own with ROOT_DIR."
        ) from None
    except OSError as error:
        raise ConfigurationError(
            f"ROOT_DIR ({root}) cannot be written: {error.strerror}. Mend that, or name another folder."
        ) from None
    made = frozenset(make_secrets(root))
    settings = load(CliSettings)
    if settings.library_dir is None:
        # Ours, below ROOT_DIR. A folder that a person named may be a disk that is not mounted. What is in the way
        # is told by the service that needs it.
        with contextlib.suppress(OSError):
            settings.library.mkdir(exist_ok=True)
    ports, notices = _choose_ports(settings, demo=music.demo, root=root)
    if music.demo:
        library = ensure_demo(root / DEMO)
        music = Music(
            demo=True,
            folder=library.music,
            feeds=(demo_feed(ports.demo),),
            import_mode=settings.import_mode or ImportMode.COPY,
        )
    return Place(
        root=root,
        settings=settings,
        music=music,
        ports=ports,
        secrets_made=made,
        notices=[*music.notices, *notices],
    )


def forget(place: Place) -> None:
    """Take back what told other commands where this run listens."""
    (place.root / RUN_FILE).unlink(missing_ok=True)


def _choose_ports(settings: CliSettings, *, demo: bool, root: Path) -> tuple[Ports, list[str]]:
    taken: set[int] = set()
    notices = []

    def choose(title: str, host: str, wanted: int) -> int:
        port = pick(host, wanted, taken=taken)
        if port != wanted and wanted:
            notices.append(f"Port {wanted} is in use by another program, so {title} is on port {port} this time.")
        return port

    host, wanted_nats = nats_config.listen_address(settings.nats_url)
    if host not in _LOOPBACK:
        notices.append(
            f"NATS_URL names the bus of another machine ({host}). This command always starts one of its own, here; "
            "to use the other, start the services themselves."
        )
    nats = choose("the bus (nats-server)", "127.0.0.1", wanted_nats)
    console = choose("the console", settings.web_host, settings.web_port)
    origin = choose("the origin", settings.origin_host, settings.origin_port)
    exporter = choose("the exporter", settings.exporter_host, settings.exporter_port)
    demo_port = _demo_port(settings, root, taken, notices) if demo else 0
    health = {name: pick(settings.health_host, 0, taken=taken) for name in SERVICES}
    return Ports(nats=nats, console=console, origin=origin, exporter=exporter, demo=demo_port, health=health), notices


def _demo_port(settings: CliSettings, root: Path, taken: set[int], notices: list[str]) -> int:
    """The port of the first run, if it is free: the addresses of the demo's songs contain it."""
    path = root / DEMO / _DEMO_PORT_FILE
    try:
        before = int(json.loads(path.read_text(encoding="utf-8"))["port"])
    except (OSError, ValueError, KeyError, TypeError):
        before = None
    port = pick("127.0.0.1", before or settings.demo_port, taken=taken)
    if before is not None and port != before:
        notices.append(
            f"Port {before}, where the demo's feed was, is in use by another program. The feed is on port {port} now; "
            "its songs have new addresses and count as new ones."
        )
    if port != before:
        write_private(path, json.dumps({"port": port}) + "\n")
    return port


def _reachable(host: str) -> str:
    """An address of this machine for links, where a server listens on ``host``."""
    if host in {"0.0.0.0", "::", ""}:  # noqa: S104 (compared, not listened on)
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host
