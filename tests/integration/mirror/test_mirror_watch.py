"""A mirror that watches: by polling, by the bus, and with patience for a server that asks for it."""

from __future__ import annotations

import asyncio
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import nats
import pytest

from mirror.client import Limits, Mirror, Pulled
from mirror.errors import MirrorError
from mirror.problems import SettingsProblem
from mirror.watch import Watch
from tests.support.mirrors import PATIENCE, environment, mirror_command, shown
from tests.support.nats import NatsServer
from tests.support.ports import reserved_port
from tests.support.publisher import Asked, Publisher, PublisherServer, Reply, being_made, catalog, serving


@pytest.fixture
def publisher() -> Publisher:
    return Publisher()


@pytest.fixture
def server(publisher: Publisher) -> Iterator[PublisherServer]:
    with serving(publisher) as running:
        yield running


class Command:
    """``music-cloud-mirror watch`` as a process, with what it says."""

    def __init__(self, url: str, folder: Path, *arguments: object, **extra: str) -> None:
        self.said: list[str] = []
        self._process = subprocess.Popen(
            mirror_command("watch", url, "--into", folder, *arguments),
            env=environment(**extra),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        self.said.extend(iter(self._process.stdout.readline, ""))

    def until(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, f"waited in vain for {what}: {''.join(self.said)}"
            time.sleep(0.02)

    def until_said(self, words: str) -> None:
        self.until(lambda: any(words in line for line in self.said), words)

    def end(self) -> int:
        """As an owner ends a service."""
        self._process.terminate()
        return self.wait()

    def wait(self) -> int:
        try:
            return self._process.wait(PATIENCE)
        finally:
            self._process.kill()
            self._reader.join()
            if self._process.stdout is not None:
                self._process.stdout.close()


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[Callable[..., Command]]:
    running: list[Command] = []

    def start(url: str, *arguments: object, **extra: str) -> Command:
        running.append(Command(url, tmp_path / "mirror", *arguments, **extra))
        return running[-1]

    yield start
    for one in running:
        one.end()


def test_it_asks_from_time_to_time_and_only_for_what_changed(
    publisher: Publisher, server: PublisherServer, watch: Callable[..., Command], tmp_path: Path
) -> None:
    publisher.publish(catalog(10))
    command = watch(server.url, "--every", 1, "--quiet")
    command.until(lambda: len(server.requests("refs")) >= 3, "three questions")
    last = publisher.publish(catalog(11))
    command.until(lambda: shown(tmp_path / "mirror") == last.id, "the newest")

    command.until(lambda: sum(line.startswith("Now sha256:") for line in command.said) == 2, "what it says of it")
    assert command.end() == 0
    asked = server.requests("refs")
    assert "if-none-match" not in asked[0].headers
    assert all("if-none-match" in one.headers for one in asked[1:])
    assert len(server.requests("fetch")) == 2
    # It says what changed, not that it looked.
    assert not any("Nothing new" in line for line in command.said)


def test_it_goes_on_after_the_server_was_away(
    publisher: Publisher, watch: Callable[..., Command], tmp_path: Path
) -> None:
    with reserved_port() as port:
        with serving(publisher, port=port) as server:
            first = publisher.publish(catalog(10))
            command = watch(server.url, "--every", 1)
            command.until(lambda: shown(tmp_path / "mirror") == first.id, "the first")
        command.until_said("[server-")
        assert shown(tmp_path / "mirror") == first.id
        last = publisher.publish(catalog(11))

        with serving(publisher, port=port):
            command.until(lambda: shown(tmp_path / "mirror") == last.id, "the newest")


def test_it_keeps_what_it_has_while_it_is_offered_forgeries(
    publisher: Publisher, server: PublisherServer, watch: Callable[..., Command], tmp_path: Path
) -> None:
    first = publisher.publish(catalog(10))
    command = watch(server.url, "--every", 1)
    command.until(lambda: shown(tmp_path / "mirror") == first.id, "the first")
    forger = Publisher()
    forger.publish(catalog(12))
    server.publisher = forger
    command.until_said("[key-unknown]")
    server.publisher = publisher
    last = publisher.publish(catalog(13))

    command.until(lambda: shown(tmp_path / "mirror") == last.id, "the newest")


def test_it_hears_of_a_snapshot_on_the_bus_and_after_the_bus_was_away(
    publisher: Publisher,
    server: PublisherServer,
    nats_server: NatsServer,
    watch: Callable[..., Command],
    tmp_path: Path,
) -> None:
    publisher.publish(catalog(10))
    account = nats_server.account("reader")
    password = tmp_path / "password"
    password.write_text(account["NATS_PASSWORD"] + "\n")
    command = watch(server.url, "--every", 3600, "--nats", nats_server.url, "--nats-password-file", password, "--quiet")
    # Once at the start, once when the bus is found.
    command.until(lambda: len(server.requests("refs")) >= 2, "the bus")
    second = publisher.publish(catalog(11))
    announce(nats_server)
    command.until(lambda: shown(tmp_path / "mirror") == second.id, "what was announced")

    nats_server.kill()
    command.until_said("The bus is away")
    third = publisher.publish(catalog(12))
    nats_server.restart()
    command.until(lambda: shown(tmp_path / "mirror") == third.id, "what was announced meanwhile")
    assert command.end() == 0
    assert not any(account["NATS_PASSWORD"] in line for line in command.said)


def announce(server: NatsServer) -> None:
    """Publish as the exporter does; what is in it does not matter."""

    async def publish() -> None:
        account = server.account("exporter")
        connection = await nats.connect(server.url, user="exporter", password=account["NATS_PASSWORD"])
        await connection.publish("snapshot.published.main", b"{}")
        await connection.flush()
        await connection.close()

    asyncio.run(publish())


def test_a_bus_that_does_not_let_it_in_does_not_keep_it_from_asking(
    publisher: Publisher,
    server: PublisherServer,
    nats_server: NatsServer,
    watch: Callable[..., Command],
    tmp_path: Path,
) -> None:
    first = publisher.publish(catalog(10))
    command = watch(
        server.url, "--every", 1, "--nats", nats_server.url, MUSIC_CLOUD_MIRROR_NATS_PASSWORD="not the password"
    )
    command.until_said("The bus does not let us in")

    command.until(lambda: shown(tmp_path / "mirror") == first.id, "the first")


def test_a_server_that_asks_to_wait_is_not_asked_before(
    publisher: Publisher, server: PublisherServer, tmp_path: Path
) -> None:
    publisher.publish(catalog(10))
    server.replies["refs"] = [Reply(status=503, headers={"Retry-After": "2"})]
    outcomes: list[Pulled | MirrorError] = []
    rung = threading.Event()

    class Insistent:
        """A bell that rings all the time."""

        @property
        def rung(self) -> threading.Event:
            rung.set()
            return rung

    with Mirror(tmp_path / "mirror", server.url, limits=Limits(wait=0)) as mirror:

        def report(outcome: Pulled | MirrorError) -> None:
            outcomes.append(outcome)
            rung.set()
            if len(outcomes) == 2:
                watching.stop()

        watching = Watch(mirror=mirror, every=3600, report=report, bell=Insistent())
        began = time.monotonic()
        watching.run()

    assert time.monotonic() - began >= 2
    assert isinstance(outcomes[0], MirrorError)
    assert isinstance(outcomes[1], Pulled)


def test_the_first_pack_comes_though_snapshots_come_faster(
    publisher: Publisher, server: PublisherServer, watch: Callable[..., Command], tmp_path: Path
) -> None:
    first = publisher.publish(catalog(10))

    def moving_on(asked: Asked) -> Reply:
        publisher.publish(catalog(10 + len(publisher.snapshots)))
        # Longer than a watch waits for a server that is away.
        return being_made(retry_after=3)

    server.replies["fetch"] = [moving_on]
    command = watch(server.url, "--every", 3600)

    command.until(lambda: shown(tmp_path / "mirror") == first.id, "the snapshot whose pack was begun first")
    assert len(server.requests("refs")) == 1
    assert not any("Going on with what is here" in line for line in command.said)


def test_it_ends_where_a_person_has_to_choose_something_else(
    publisher: Publisher, server: PublisherServer, tmp_path: Path
) -> None:
    publisher.publish(catalog(1))
    with Mirror(tmp_path, server.url) as mirror:
        mirror.pull()
    with Mirror(tmp_path, f"{server.origin}/another/catalog") as mirror, pytest.raises(SettingsProblem):
        Watch(mirror=mirror, every=1, report=lambda _: None).run()
