"""`music-cloud nats`: a real server with our configuration, and the accounts that it knows."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import nats
import nats.errors
import pytest
from nats.aio.client import Client
from pydantic import SecretStr

from common.bus.connection import Bus
from common.bus.streams import ensure_streams
from common.contracts.facts import BackendDefined, SongListed
from common.contracts.names import BackendKind
from common.secret_files import ACCOUNTS, read_secrets, secrets_path
from common.settings import Settings
from tests.support.nats import find_server
from tests.support.stack import free_port

MUSIC_CLOUD = str(Path(sys.executable).parent / "music-cloud")


@dataclass
class Server:
    root: Path
    url: str
    process: "subprocess.Popen[bytes]"

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "ROOT_DIR": str(self.root), "NATS_URL": self.url}

    def password(self, account: str) -> str:
        return read_secrets(self.root, account)["NATS_PASSWORD"]


@contextmanager
def running(command: list[str], folder: Path, port: int, **environment: str) -> "Iterator[subprocess.Popen[bytes]]":
    """A server on ``port``, until the block ends."""
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(command, env={**os.environ, **environment}, cwd=folder, stdout=log, stderr=log)
    deadline = time.monotonic() + 20
    while True:
        assert process.poll() is None, (folder / "log").read_text()
        assert time.monotonic() < deadline
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.05)
    yield process
    process.send_signal(signal.SIGTERM)
    process.wait(10)


def secret(values: dict[str, str]) -> dict[str, SecretStr]:
    return {"nats_password": SecretStr(values["NATS_PASSWORD"])}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    port = free_port()
    url = f"nats://127.0.0.1:{port}"
    with running([MUSIC_CLOUD, "nats"], tmp_path, port, ROOT_DIR=str(tmp_path / "data"), NATS_URL=url) as process:
        yield Server(tmp_path / "data", url, process)


@pytest.fixture
async def services(server: Server) -> AsyncIterator[Bus]:
    settings = Settings.model_validate(
        {"nats_url": server.url, "nats_user": "console", "nats_password": server.password("console")}
    )
    bus = await Bus.connect(settings, service="console", instance="one")
    await ensure_streams(bus)
    fact = BackendDefined(backend="library", kind=BackendKind.FILESYSTEM, revision=1)
    await bus.publish(fact.subject, fact, msg_id="one")
    yield bus
    await bus.close()


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


async def test_each_service_connects_as_itself(server: Server, services: Bus) -> None:
    for account in ACCOUNTS:
        client = await nats.connect(server.url, user=account, password=server.password(account), allow_reconnect=False)
        await client.close()
    assert (await services.js.stream_info("CATALOG")).state.messages == 1


async def test_the_streams_of_an_older_version_are_found_again(tmp_path: Path) -> None:
    """Older versions had one account without a name, and one file of secrets."""
    root, port = tmp_path / "data", free_port()
    store = root / "nats" / "jetstream"
    store.mkdir(parents=True)
    (root / "secrets.env").write_text("NATS_PASSWORD=everyones\nCONSOLE_TOKEN=a-token-that-people-have\n")
    config = tmp_path / "older.conf"
    config.write_text(
        f'listen: "127.0.0.1:{port}"\njetstream {{ store_dir: "{store}" }}\n'
        "authorization { users = [ { user: services, password: everyones } ] }\n"
    )
    older = Settings.model_validate(
        {"nats_url": f"nats://127.0.0.1:{port}", "nats_user": "services", "nats_password": "everyones"}
    )
    with running([find_server(), "-c", str(config)], tmp_path, port):
        bus = await Bus.connect(older, service="test", instance="one")
        await ensure_streams(bus)
        fact = SongListed(song_id=7, platform="local", remote_id="a.flac", name="A", revision=1)
        await bus.publish(fact.subject, fact, msg_id="one")
        created = (await bus.js.stream_info("CATALOG")).created
        await bus.close()
    with running([MUSIC_CLOUD, "nats"], tmp_path, port, ROOT_DIR=str(root), NATS_URL=older.nats_url):
        newer = older.model_copy(update={"nats_user": "operator", **secret(read_secrets(root, "operator"))})
        bus = await Bus.connect(newer, service="test", instance="one")
        info = await bus.js.stream_info("CATALOG")
        assert (info.state.messages, info.created) == (1, created)
        await bus.close()
    assert read_secrets(root, "console")["CONSOLE_TOKEN"] == "a-token-that-people-have"


def test_streams_of_an_older_version_are_not_moved_under_a_server_that_runs(server: Server, tmp_path: Path) -> None:
    """As `music-cloud init` would, run before the older version's server was stopped."""
    store = server.root / "nats" / "jetstream"
    older = store / "jetstream" / "$G"
    older.mkdir(parents=True)

    def init() -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [MUSIC_CLOUD, "init", "--nats-config", str(tmp_path / "new.conf")],
            env=server.environment,
            cwd=server.root,
            capture_output=True,
            text=True,
            timeout=20,
        )

    refused = init()
    assert refused.returncode == 2 and "still runs" in refused.stderr and "Traceback" not in refused.stderr
    assert older.is_dir() and not (tmp_path / "new.conf").exists()
    server.process.send_signal(signal.SIGTERM)
    server.process.wait(10)
    assert init().returncode == 0
    assert not older.exists() and (store / "jetstream" / "MUSIC").is_dir()


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
    secrets = [secrets_path(server.root, account) for account in ACCOUNTS]
    for path in (*secrets, server.root / "nats" / "nats-server.conf"):
        assert path.stat().st_mode & 0o077 == 0
