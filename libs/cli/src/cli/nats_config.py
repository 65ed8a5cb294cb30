"""The configuration of nats-server: loopback, JetStream below ROOT_DIR, two accounts."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

from common.errors import ConfigurationError

Version = tuple[int, int, int]

CONFIG_FILE = "nats-server.conf"
SYNC_ALWAYS_SINCE: Version = (2, 10, 0)
"""Older servers refuse to start with that key (2.9.10 does)."""

FACTS = (
    "pool.defined.>",
    "song.listed.>",
    "playlist.collected.>",
    "file.stored.>",
    "song.described.>",
    "song.pinned.>",
    "backend.defined.>",
    "snapshot.published.>",
)
READABLE_STREAMS = ("CATALOG", "STATUS")
OWN_CONSUMERS = ("exporter", "collector", "uploader", "console", "origin")
"""Consumers of our services on those streams: a reader may neither take from them nor change them."""


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
    user: str,
    password: str,
    reader_password: str,
    version: Version,
) -> str:
    """The configuration as text, for a server of this version."""
    sync = "\n  # an acked message is on the disk, also after a power cut\n  sync_interval: always"
    return f"""# Made by `music-cloud`; made anew at every start.
server_name: music-cloud
listen: {_quoted(f"{host}:{port}")}

jetstream {{
  store_dir: {_quoted(str(store))}{sync if version >= SYNC_ALWAYS_SINCE else ""}
}}

authorization {{
  users = [
    {{ user: {_quoted(user)}, password: {_quoted(password)} }}
    {{
      # Reads the catalog and the states of items; sees no work, changes nothing.
      user: "reader", password: {_quoted(reader_password)}
      permissions {{
        publish {{
          allow: {_list(_reader_may_publish())}
          deny: {_list(_reader_may_not_publish())}
        }}
        subscribe {{ allow: {_list([*FACTS, "item.>", "_INBOX.>"])} }}
      }}
    }}
  ]
}}
"""


def _reader_may_publish() -> list[str]:
    subjects = ["$JS.API.INFO", "$JS.API.STREAM.NAMES"]
    for stream in READABLE_STREAMS:
        subjects += [
            f"$JS.API.STREAM.INFO.{stream}",
            f"$JS.API.DIRECT.GET.{stream}",
            f"$JS.API.DIRECT.GET.{stream}.>",
            f"$JS.API.STREAM.MSG.GET.{stream}",
            f"$JS.API.CONSUMER.CREATE.{stream}",
            f"$JS.API.CONSUMER.CREATE.{stream}.>",
            f"$JS.API.CONSUMER.DURABLE.CREATE.{stream}.*",
            f"$JS.API.CONSUMER.INFO.{stream}.*",
            f"$JS.API.CONSUMER.MSG.NEXT.{stream}.*",
            f"$JS.API.CONSUMER.DELETE.{stream}.*",
            f"$JS.ACK.{stream}.>",
            f"$JS.FC.{stream}.>",
        ]
    return subjects


def _reader_may_not_publish() -> list[str]:
    subjects = []
    for stream in READABLE_STREAMS:
        for name in OWN_CONSUMERS:
            subjects += [
                f"$JS.API.CONSUMER.CREATE.{stream}.{name}",
                f"$JS.API.CONSUMER.CREATE.{stream}.{name}.>",
                f"$JS.API.CONSUMER.DURABLE.CREATE.{stream}.{name}",
                f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{name}",
                f"$JS.API.CONSUMER.DELETE.{stream}.{name}",
                f"$JS.ACK.{stream}.{name}.>",
            ]
    return subjects


def _list(subjects: list[str]) -> str:
    return "[" + ", ".join(_quoted(subject) for subject in subjects) + "]"


def _quoted(text: str) -> str:
    if "\n" in text or "\r" in text:
        raise ConfigurationError("A setting of the bus (path, user or password) holds a line break; remove it.")
    return json.dumps(text, ensure_ascii=False)
