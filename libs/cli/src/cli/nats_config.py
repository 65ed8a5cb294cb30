"""The configuration of nats-server: where it listens and keeps its data, and who may do what."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from cli.nats_config_users import HANDED_OVER_LIVE, HANDED_OVER_REQUESTS, MUSIC, OUTSIDE, USERS, User
from common.errors import ConfigurationError

Version = tuple[int, int, int]

_UNNAMED_ACCOUNT = "$G"

CONFIG_FILE = "nats-server.conf"
ROUTE_USER = "server"
SYNC_ALWAYS_SINCE: Version = (2, 10, 0)
"""Older servers refuse to start with that key (2.9.10 does)."""


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """One server of a cluster: its own name, where the others reach it, and all of them (HOST:PORT)."""

    name: str
    listen: str
    routes: tuple[str, ...]


HEADER = "# Made by `music-cloud`; made anew when what it is made from changes."
"""The first line tells a file of ours, which is kept up to date, from one that a person wrote."""


@dataclass(frozen=True, kw_only=True)
class Tls:
    """Where nats-server finds its certificate and the key of it."""

    certificate: Path
    key: Path


def find_server() -> str:
    """The nats-server program. Raises :class:`ConfigurationError` with how to get it."""
    # Debian puts it into /usr/sbin, which is not in everyone's PATH.
    found = shutil.which("nats-server") or shutil.which("nats-server", path="/usr/local/sbin:/usr/sbin:/sbin")
    if found is None:
        raise ConfigurationError(
            "nats-server is not installed. Install it with: sudo apt-get install nats-server "
            "(or put the program into your PATH)."
        )
    return found


def server_version(program: str) -> Version:
    """The version that the program says it is; (0, 0, 0) if it does not tell."""
    answer = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=10, check=False)
    numbers = re.search(r"v?(\d+)\.(\d+)\.(\d+)", answer.stdout + answer.stderr)
    return (int(numbers[1]), int(numbers[2]), int(numbers[3])) if numbers else (0, 0, 0)


def parse_version(text: str) -> Version:
    """A version as people write it. Raises :class:`ConfigurationError`."""
    numbers = re.fullmatch(r"v?(\d+)\.(\d+)\.(\d+)", text.strip())
    if numbers is None:
        raise ConfigurationError(f"{text} is not a version of nats-server; write it like 2.10.29.")
    return int(numbers[1]), int(numbers[2]), int(numbers[3])


def parse_listen(text: str) -> tuple[str, int]:
    """HOST:PORT as people write it. Raises :class:`ConfigurationError`."""
    host, separator, port = text.strip().rpartition(":")
    if not (separator and host and port.isdecimal() and int(port) <= 65535):
        raise ConfigurationError(f"{text} is not an address to listen on; write it like 127.0.0.1:4222.")
    return host.strip("[]"), int(port)


def listen_address(nats_url: str) -> tuple[str, int]:
    """Host and port of the first URL of NATS_URL."""
    first = nats_url.split(",")[0].strip()
    parts = urlsplit(first if "://" in first else f"nats://{first}")
    return parts.hostname or "127.0.0.1", 4222 if parts.port is None else parts.port


def render(
    *,
    host: str,
    port: int,
    store: Path,
    passwords: Mapping[str, str],
    version: Version,
    tls: Tls | None = None,
    cluster: Cluster | None = None,
) -> str:
    """The configuration as text, for a server of this version. ``passwords``: one for each user."""
    sync = "\n  # an acked message is on the disk, also after a power cut\n  sync_interval: always"
    return f"""{HEADER}
server_name: {_quoted(cluster.name) if cluster else "music-cloud"}
listen: {_quoted(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")}
{_tls(tls)}{_cluster(cluster, passwords)}
jetstream {{
  store_dir: {_quoted(str(store))}{sync if version >= SYNC_ALWAYS_SINCE else ""}
}}

accounts {{
  {MUSIC} {{
    jetstream: enabled
    users: [
{_users(MUSIC, passwords)}
    ]
    exports: [
{_lines(8, [f"{{ stream: {_quoted(one)} }}" for one in HANDED_OVER_LIVE])}
{_lines(8, [f"{{ service: {_quoted(one)} }}" for one in HANDED_OVER_REQUESTS])}
    ]
  }}
  {OUTSIDE} {{
    users: [
{_users(OUTSIDE, passwords)}
    ]
    imports: [
{_lines(8, [f"{{ stream: {_of_music(one)} }}" for one in HANDED_OVER_LIVE])}
{_lines(8, [f"{{ service: {_of_music(one)} }}" for one in HANDED_OVER_REQUESTS])}
    ]
  }}
}}
"""


def has_older_store(store: Path) -> bool:
    """Whether the streams still lie in the account that has no name, where older versions kept them."""
    folder = store / "jetstream"
    return (folder / _UNNAMED_ACCOUNT).is_dir() and not (folder / MUSIC).exists()


def take_over_store(store: Path) -> bool:
    """Give the account MUSIC the streams that an older version kept in the account that has no name.

    True when there were any. The server must not run.
    """
    if not has_older_store(store):
        return False
    (store / "jetstream" / _UNNAMED_ACCOUNT).rename(store / "jetstream" / MUSIC)
    return True


def _tls(tls: Tls | None) -> str:
    if tls is None:
        return ""
    return f"\ntls {{\n  cert_file: {_quoted(str(tls.certificate))}\n  key_file: {_quoted(str(tls.key))}\n}}\n"


def _cluster(cluster: Cluster | None, passwords: Mapping[str, str]) -> str:
    if cluster is None:
        return ""
    host, port = parse_listen(cluster.listen)
    password = route_password(passwords)
    routes = _lines(4, [_quoted(f"nats-route://{ROUTE_USER}:{password}@{route}") for route in cluster.routes])
    return f"""
cluster {{
  name: music-cloud
  listen: {_quoted(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")}
  # who comes in here as a server may read and write everything
  authorization {{ user: {ROUTE_USER}, password: {_quoted(password)}, timeout: 2 }}
  routes: [
{routes}
  ]
}}
"""


def route_password(passwords: Mapping[str, str]) -> str:
    """How the servers of a cluster know each other: made from the operator's password, so all three agree."""
    return hmac.new(passwords["operator"].encode(), b"music-cloud routes", hashlib.sha256).hexdigest()


_ANSWERS = """
          allow_responses: { max: 1, expires: "30s" }"""


def _users(account: str, passwords: Mapping[str, str]) -> str:
    return "\n".join(_user(user, passwords[user.name]) for user in USERS if user.account == account)


def _user(user: User, password: str) -> str:
    head = f"      # {user.purpose}\n      {{ user: {_quoted(user.name)}, password: {_quoted(password)}"
    if user.publish is None or user.subscribe is None:
        return f"{head} }}"
    publish, subscribe = (_lines(12, map(_quoted, subjects)) for subjects in (user.publish, user.subscribe))
    return f"""{head}
        permissions: {{
          publish: {{ allow: [
{publish}
          ] }}
          subscribe: {{ allow: [
{subscribe}
          ] }}{_ANSWERS if user.answers else ""}
        }}
      }}"""


def _of_music(subject: str) -> str:
    return f"{{ account: {MUSIC}, subject: {_quoted(subject)} }}"


def _lines(indent: int, entries: Iterable[str]) -> str:
    return "\n".join(f"{' ' * indent}{entry}" for entry in entries)


def _quoted(text: str) -> str:
    if "\n" in text or "\r" in text:
        raise ConfigurationError("A setting of the bus (path, user or password) holds a line break; remove it.")
    return json.dumps(text, ensure_ascii=False)
