"""`music-cloud nats`: a real server with our configuration, and what its two accounts may do."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import nats
import nats.errors
import pytest
from dotenv import dotenv_values
from nats.aio.client import Client
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import APIError, NotFoundError

from common.bus.connection import Bus
from common.bus.streams import ensure_streams
from common.contracts.facts import SongListed
from common.settings import Settings

MUSIC_CLOUD = str(Path(sys.executable).parent / "music-cloud")


@dataclass
class Server:
    root: Path
    url: str
    process: "subprocess.Popen[bytes]"

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "ROOT_DIR": str(self.root), "NATS_URL": self.url}

    def secret(self, name: str) -> str:
        value = dotenv_values(self.root / "secrets.env")[name]
        assert value
        return value


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"nats://127.0.0.1:{port}"
    environment = {**os.environ, "ROOT_DIR": str(tmp_path / "data"), "NATS_URL": url}
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([MUSIC_CLOUD, "nats"], env=environment, cwd=tmp_path, stdout=log, stderr=log)
    deadline = time.monotonic() + 20
    while True:
        assert process.poll() is None, (tmp_path / "log").read_text()
        assert time.monotonic() < deadline
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.05)
    yield Server(tmp_path / "data", url, process)
    process.send_signal(signal.SIGTERM)
    process.wait(10)


@pytest.fixture
async def services(server: Server) -> AsyncIterator[Bus]:
    settings = Settings.model_validate({"nats_url": server.url, "nats_password": server.secret("NATS_PASSWORD")})
    bus = await Bus.connect(settings, service="test", instance="one")
    await ensure_streams(bus)
    fact = SongListed(song_id=7, platform="local", remote_id="a.flac", name="A", revision=1)
    await bus.publish(fact.subject, fact, msg_id="one")
    yield bus
    await bus.close()


@pytest.fixture
async def reader(server: Server, services: Bus) -> AsyncIterator[Client]:
    async def ignore(_: Exception) -> None:
        return None

    client = await nats.connect(
        server.url, user="reader", password=server.secret("NATS_READER_PASSWORD"), error_cb=ignore
    )
    yield client
    await client.close()


async def test_a_stranger_gets_nowhere(server: Server) -> None:
    async def ignore(_: Exception) -> None:
        return None

    for user, password in ((None, None), ("reader", "guess")):
        client = Client()
        with pytest.raises((nats.errors.Error, TimeoutError)):
            await client.connect(
                server.url, user=user, password=password, allow_reconnect=False, connect_timeout=2, error_cb=ignore
            )
        await client.close()


async def test_the_reader_reads_the_catalog_in_every_usual_way(reader: Client, services: Bus) -> None:
    js = reader.jetstream(timeout=2)
    subscription = await js.pull_subscribe("song.listed.*", stream="CATALOG")
    assert b'"A"' in (await subscription.fetch(1, timeout=2))[0].data
    ordered = await js.subscribe("song.listed.*", stream="CATALOG", ordered_consumer=True)
    assert b'"A"' in (await ordered.next_msg(timeout=2)).data
    assert b'"A"' in ((await js.get_last_msg("CATALOG", "song.listed.7", direct=True)).data or b"")
    live = await reader.subscribe("song.listed.>")
    await reader.flush()
    fact = SongListed(song_id=8, platform="local", remote_id="b.flac", name="B", revision=1)
    await services.publish(fact.subject, fact, msg_id="two")
    assert b'"B"' in (await live.next_msg(timeout=2)).data


async def test_the_reader_sees_no_work_and_changes_nothing(reader: Client, services: Bus) -> None:
    js = reader.jetstream(timeout=0.3)
    work = await reader.subscribe("song.download.requested.>")
    await services.nc.publish("song.download.requested.1.local.7", b"x")
    with pytest.raises((nats.errors.TimeoutError, nats.errors.Error)):
        await work.next_msg(timeout=0.3)
    refused = (nats.errors.TimeoutError, NotFoundError, APIError)
    with pytest.raises(refused):
        await js.publish("song.listed.7", b"forged")
    with pytest.raises(refused):
        await js.publish("song.download.requested.1.local.9", b"forged")
    with pytest.raises(refused):
        await js.stream_info("WORK")
    with pytest.raises(refused):
        await js.delete_stream("CATALOG")
    with pytest.raises(refused):
        await js.purge_stream("STATUS")
    info = await services.js.stream_info("WORK")
    assert info.state.messages == 1


async def test_the_reader_cannot_take_over_a_consumer_of_ours(reader: Client, services: Bus) -> None:
    config = ConsumerConfig(
        durable_name="exporter",
        deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
        opt_start_seq=1,
        ack_policy=AckPolicy.NONE,
    )
    await services.js.add_consumer("CATALOG", config)
    js = reader.jetstream(timeout=0.3)
    with pytest.raises((nats.errors.TimeoutError, APIError)):
        await js.delete_consumer("CATALOG", "exporter")
    with pytest.raises((nats.errors.TimeoutError, APIError)):
        await js.add_consumer("CATALOG", config)
    subscription = await js.pull_subscribe_bind(durable="exporter", stream="CATALOG")
    with pytest.raises(nats.errors.TimeoutError):
        await subscription.fetch(1, timeout=0.3)
    assert (await services.js.consumer_info("CATALOG", "exporter")).num_pending == 1


def test_a_second_server_on_the_same_store_is_refused(server: Server) -> None:
    second = subprocess.run(
        [MUSIC_CLOUD, "nats"],
        env={**server.environment, "NATS_URL": "nats://127.0.0.1:1"},
        cwd=server.root,
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert second.returncode == 2
    assert "already runs on this data" in second.stderr


def test_only_the_owner_can_read_the_passwords(server: Server) -> None:
    for path in (server.root / "secrets.env", server.root / "nats" / "nats-server.conf"):
        assert path.stat().st_mode & 0o077 == 0
