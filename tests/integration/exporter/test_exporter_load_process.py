"""A new catalog is loaded as a whole: killed or stopped in the middle, nothing of it is taken for the whole."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from common.bus import Bus, FactWriter
from common.catalog.tables import metadata
from common.contracts.envelope import decode
from common.contracts.facts import Fact, SnapshotPublished
from common.contracts.status import DeadLetter, Heartbeat
from exporter.adapters.database import attach_beside, close_catalog, detach_beside, open_catalog, without_log
from exporter.service.load import Load
from exporter.service.projection import Projection, read_batch
from tests.support.catalog_facts import Log, playlist, pool, rows, song, stored
from tests.support.nats import NatsServer
from tests.support.stack import free_port

TABLES = (*metadata.tables, "projection_state", "fact_songs_listed", "fact_files")
PATIENCE = 30.0

STEPS = ("facts", "songs", "playlists", "indexes", "disk")
KILLED = """
import os, signal, sys
from pathlib import Path
from tests.integration.exporter.test_exporter_load_process import STEPS, load

for step in STEPS:
    if os.fork() == 0:
        def tell(now, done, of):
            if now == step:
                os.kill(os.getpid(), signal.SIGKILL)

        load(Path(sys.argv[1], step, "catalog.db"), tell, cache=10)
    assert os.wait()[1] == signal.SIGKILL, step
"""


def library(count: int) -> list[Fact]:
    names = [f"s{number}" for number in range(count)]
    return [*map(song, names), *map(stored, names), *playlist("p", names), pool("top", ["p"])]


def load(database: Path, tell: Callable[[str, int, int], None], *, cache: int = 1000) -> None:
    log = Log()
    log.write(*library(400))
    connection = open_catalog(database)
    try:
        projection = Projection(connection)
        # So few pages that most are written to the file before the end.
        connection.exec_driver_sql(f"PRAGMA cache_size = {cache}")
        attach_beside(connection)
        loading = Load(projection)
        loading.add(read_batch(log.all))
        with without_log(connection):
            loading.finish(tell)
        detach_beside(connection)
    finally:
        close_catalog(connection)


def test_killed_at_any_step_it_leaves_an_empty_catalog_and_begins_anew(tmp_path: Path) -> None:
    root = Path(__file__).parents[3]
    subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(root)},
        check=True,
    )
    load(tmp_path / "other.db", lambda *_: None)
    whole = rows(tmp_path / "other.db", TABLES)
    assert len(whole["file_locations"]) == 400
    for step in STEPS:
        database = tmp_path / step / "catalog.db"
        assert (tmp_path / step / "catalog.db.load").exists()

        close_catalog(open_catalog(database))
        assert not any(rows(database, TABLES).values()), step
        assert not (tmp_path / step / "catalog.db.load").exists()

        load(database, lambda *_: None)
        assert rows(database, TABLES) == whole


class Exporter:
    """The service as a process, started several times over one database."""

    def __init__(self, folder: Path, server: NatsServer) -> None:
        self.folder = folder
        self._environment = {
            **{key: value for key, value in os.environ.items() if key in {"PATH", "HOME", "LANG", "TMPDIR"}},
            **server.account("exporter"),
            "ROOT_DIR": str(folder / "data"),
            "EXPORTER_PORT": str(free_port()),
            "EXPORT_SETTLE_SECONDS": "0.3",
            "HEARTBEAT_SECONDS": "0.2",
        }
        self._process: subprocess.Popen[bytes] | None = None
        self.detail: dict[str, Any] = {}
        folder.mkdir()

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "exporter"], cwd=self.folder, env=self._environment, stdout=log, stderr=log
            )

    def end(self, number: signal.Signals) -> int:
        assert self._process is not None
        self._process.send_signal(number)
        code = self._process.wait(PATIENCE)
        self.detail = {}
        return code

    async def listen(self, bus: Bus) -> None:
        async def heard(message: Any) -> None:
            self.detail = decode(message.data, Heartbeat).data.detail

        await bus.nc.subscribe("hb.exporter.*", cb=heard)

    async def until(self, condition: Callable[[dict[str, Any]], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition(self.detail):
            if time.monotonic() > deadline:
                said = (self.folder / "log").read_text()[-3000:]
                raise AssertionError(f"waited in vain for {what}; {self.detail}\n{said}")
            await asyncio.sleep(0.02)


@pytest.fixture
def exporter(tmp_path: Path, nats_server: NatsServer) -> Iterator[Exporter]:
    one = Exporter(tmp_path / "exporter", nats_server)
    yield one
    if one.detail:
        one.end(signal.SIGKILL)


async def test_killed_and_stopped_while_it_loads_it_shows_the_whole_catalog_or_none(
    exporter: Exporter, bus: Bus
) -> None:
    await bus.js.publish("song.listed.77", b"\x00 not ours")
    names = [f"s{number}" for number in range(12_000)]
    await FactWriter(bus).publish_many([*map(song, names), *playlist("p", names)], cause="first")
    last = (await bus.js.stream_info("CATALOG")).state.last_seq
    await exporter.listen(bus)

    def loads(detail: dict[str, Any]) -> bool:
        return bool(detail.get("loading")) and detail["projected_sequence"] == 0 and detail["lag"] > 0

    for end, code in ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, 0)):
        exporter.start()
        await exporter.until(loads, "the load")
        began = time.monotonic()
        assert exporter.end(end) == code
        assert time.monotonic() - began < 10
        assert await bus.last("CATALOG", "snapshot.published.main") is None
    assert not any((exporter.folder / "data" / "state").glob("catalog.db.load")), "stopped, it tidies up"

    exporter.start()
    await exporter.until(lambda detail: detail.get("snapshot_sequence", 0) >= last, "the snapshot")
    fact = await bus.last_message("CATALOG", "snapshot.published.main", SnapshotPublished)
    assert fact is not None
    assert fact.data.manifest["track_count"] == 12_000
    assert fact.data.parent is None
    assert exporter.detail["problems"] == 1
    assert await bus.last_message("DEAD", "dead.0.catalog.exporter.1", DeadLetter) is not None
    assert exporter.end(signal.SIGTERM) == 0
