"""A song that its own source has lost, and another source that may have it."""

from __future__ import annotations

from pathlib import Path

from tests.support.nats import NatsServer
from tests.support.source_apis import JamendoApi
from tests.support.stack import Stack


def stack_with(directory: Path, nats_server: NatsServer, jamendo: JamendoApi, **environment: str) -> Stack:
    """A stack that may ask ``jamendo``."""
    given = {name.upper(): str(value) for name, value in jamendo.settings().items() if name != "jamendo_albums"}
    return Stack(directory, nats_server, **given, ALLOW_PRIVATE_HOSTS=f"127.0.0.1:{jamendo.port}", **environment)


def stack_of_a_lost_song(directory: Path, nats_server: NatsServer, jamendo: JamendoApi, **environment: str) -> Stack:
    """The same with a feed of one song, "Night Song" by Singer, whose address leads nowhere."""
    feed = directory / "list.m3u"
    feed.write_text(f"#EXTM3U\n#EXTINF:2,Singer - Night Song\n{jamendo.url}/gone.mp3\n")
    return stack_with(directory, nats_server, jamendo, **{"SOURCES": "feed,jamendo", "FEEDS": str(feed), **environment})
