"""Bad surroundings: a real service is refused at its start, in one sentence, and nothing is changed."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import socket
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from common.audit import RESTORE_MARKER, read_findings
from common.audit.stack import MARKER
from common.bus import Bus
from common.contracts.envelope import decode
from common.contracts.status import Heartbeat
from tests.support.disks import fill, small_disk
from tests.support.nats import NatsServer
from tests.support.starts import environment, refused, start

AS_USER = ("setpriv", "--reuid=54321", "--regid=54321", "--clear-groups", "--")


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter, which those of pytest are not."""
    with tempfile.TemporaryDirectory(prefix="music-cloud-start-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


@pytest.fixture
def as_user() -> tuple[str, ...]:
    """What starts a program as a user who owns nothing here."""
    if os.geteuid() != 0 or subprocess.run([*AS_USER, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("another user can only be become as root, with setpriv")
    return AS_USER


def given_by(folder: Path) -> str:
    """The command that gives a folder to the user of :data:`AS_USER`."""
    return f"sudo chown -R 54321:54321 {folder}"


@pytest.mark.parametrize("service", ["console", "origin"])
def test_an_env_file_with_a_wrong_key(service: str, tmp_path: Path) -> None:
    (tmp_path / "music-cloud.env").write_text("LOG_LEVEL=info\nDOWNLOAD_CONCURENCY=4\n")
    said = refused(service, environment(tmp_path / "data"), cwd=tmp_path)
    assert "music-cloud.env" in said
    assert "line 2: DOWNLOAD_CONCURENCY: no such setting; did you mean DOWNLOAD_CONCURRENCY?" in said


def test_an_env_file_with_a_wrong_type(tmp_path: Path) -> None:
    (tmp_path / "music-cloud.env").write_text("DOWNLOAD_CONCURRENCY=eight\nMAX_FILE_SIZE=hunter2\n")
    said = refused("downloader", environment(tmp_path / "data"), cwd=tmp_path)
    assert "DOWNLOAD_CONCURRENCY (music-cloud.env line 1)" in said
    assert "MAX_FILE_SIZE (music-cloud.env line 2): should be a size" in said
    assert "hunter2" not in said


def test_an_env_file_with_windows_line_ends_works_and_one_that_is_utf16_is_refused(tmp_path: Path) -> None:
    text = "DOWNLOAD_CONCURRENCY=eight\r\nWEB_PORT=70000\r\n"
    (tmp_path / "music-cloud.env").write_bytes(b"\xef\xbb\xbf" + text.encode())
    # Read to its end, from behind the mark: what is refused is the wrong value alone.
    said = refused("downloader", environment(tmp_path / "data"), cwd=tmp_path)
    assert said.startswith("Mend these settings and start again: DOWNLOAD_CONCURRENCY (music-cloud.env line 1)")
    (tmp_path / "music-cloud.env").write_bytes(text.encode("utf-16"))
    assert "UTF-16" in refused("downloader", environment(tmp_path / "data"), cwd=tmp_path)


def test_a_missing_secret(tmp_path: Path) -> None:
    values = environment(tmp_path / "data")
    del values["NATS_PASSWORD"]
    said = refused("exporter", values, cwd=tmp_path)
    assert "NATS_PASSWORD is not set" in said
    assert said.endswith("music-cloud init")


@pytest.mark.parametrize("service", ["console", "collector", "downloader", "uploader", "exporter", "origin"])
def test_a_restore_that_has_not_ended(service: str, tmp_path: Path) -> None:
    state = tmp_path / "elsewhere"
    state.mkdir()
    (state / RESTORE_MARKER).write_text("{}")
    said = refused(service, {**environment(tmp_path / "data"), "STATE_DIR": str(state)}, cwd=tmp_path)
    assert "`music-cloud restore` again" in said


def test_the_first_start_of_a_console_that_is_refused_makes_no_secrets(tmp_path: Path) -> None:
    values = environment(tmp_path / "data")
    del values["NATS_PASSWORD"], values["CONSOLE_TOKEN"]
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        said = refused("console", {**values, "WEB_PORT": str(taken.getsockname()[1])}, cwd=tmp_path)
    assert "is in use by another program" in said


@contextlib.contextmanager
def dead_share(folder: Path) -> Iterator[Path]:
    """A mounted network file system whose other end is gone: what a NAS looks like when the server is off."""
    folder.mkdir(parents=True)
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        device = os.open("/dev/fuse", os.O_RDWR)
    except OSError:
        pytest.skip("no FUSE here")
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0".encode()
    mounted = libc.mount(b"nas:/music", os.fsencode(folder), b"fuse.sshfs", 0, options)
    os.close(device)
    if mounted != 0:
        pytest.skip("nothing can be mounted here: it takes root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("service", ["collector", "exporter"])
def test_a_library_on_a_network_share_with_sqlite_beside_it(service: str, tmp_path: Path) -> None:
    here = tmp_path / "here"
    here.mkdir()
    with dead_share(tmp_path / "share") as share:
        values = environment(here, STATE_DIR=str(share / "state"), NATS_URL="nats://127.0.0.1:1")
        said = refused(service, values, cwd=here)
    assert said.startswith("STATE_DIR lies on a network file system (fuse.sshfs)")
    assert "move it to a disk of this machine" in said


@pytest.mark.parametrize("service", ["console", "exporter"])
def test_a_volume_owned_by_root(service: str, open_folder: Path, as_user: tuple[str, ...]) -> None:
    (open_folder / "data").mkdir(mode=0o755)
    said = refused(service, environment(open_folder / "data"), cwd=open_folder, before=as_user)
    assert "cannot be written by user 54321, group 54321 (Permission denied)" in said
    assert said.endswith(f"mend it with: {given_by(open_folder / 'data')}")


def test_a_library_owned_by_root(open_folder: Path, as_user: tuple[str, ...]) -> None:
    data, library = open_folder / "data", open_folder / "library"
    data.mkdir(mode=0o777)
    data.chmod(0o777)
    library.mkdir(mode=0o755)
    said = refused("downloader", environment(data, LIBRARY_DIR=str(library)), cwd=open_folder, before=as_user)
    assert said.startswith("LIBRARY_DIR and SPOOL_DIR cannot be written by user 54321")
    assert given_by(library) in said


def test_a_database_that_root_left_behind(open_folder: Path, as_user: tuple[str, ...]) -> None:
    state = open_folder / "state"
    state.mkdir()
    state.chmod(0o777)
    (state / "ops.db").write_bytes(b"")
    (state / "ops.db").chmod(0o600)
    values = environment(open_folder / "data", STATE_DIR=str(state))
    said = refused("console", values, cwd=open_folder, before=as_user)
    assert "ops.db in STATE_DIR cannot be written by user 54321" in said
    assert said.endswith(f"mend it with: {given_by(state)}")


@pytest.mark.parametrize("service", ["console", "downloader"])
def test_a_full_disk_at_the_start(service: str, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", size="2m") as disk:
        fill(disk)
        said = refused(service, environment(disk), cwd=tmp_path)
    assert "is full; free some space" in said


@pytest.mark.parametrize(
    ("service", "setting"), [("console", "WEB_PORT"), ("exporter", "EXPORTER_PORT"), ("origin", "ORIGIN_PORT")]
)
def test_a_port_in_use(service: str, setting: str, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        said = refused(service, environment(tmp_path / "data", **{setting: str(port)}), cwd=tmp_path)
    assert said.startswith(f"Port {port} on 127.0.0.1 is in use by another program")
    assert f"set another {setting}" in said


def test_a_catalog_newer_than_the_program(tmp_path: Path) -> None:
    state = tmp_path / "data" / "state"
    state.mkdir(parents=True)
    with contextlib.closing(sqlite3.connect(state / "catalog.db")) as database:
        database.executescript(
            "PRAGMA journal_mode = WAL; CREATE TABLE projection_state (id INTEGER, schema_version INTEGER);"
            "INSERT INTO projection_state VALUES (1, 99)"
        )
    said = refused("exporter", environment(tmp_path / "data"), cwd=tmp_path)
    assert said.startswith("catalog.db was made by a newer exporter (schema 99")
    assert said.endswith("mend it with: exporter rebuild")


@pytest.mark.parametrize(
    ("service", "file"), [("console", "ops.db"), ("collector", "collector.db"), ("downloader", "downloader.db")]
)
async def test_a_database_newer_than_the_program(
    service: str, file: str, bus: Bus, nats_server: NatsServer, tmp_path: Path
) -> None:
    folder, said = tmp_path / "here", list[str]()
    folder.mkdir()
    values = environment(folder, **nats_server.settings)
    running = Running(service, values, folder)
    try:
        await running.until(lambda: "started" in running.log.read_text())
        running.process.terminate()
        assert await asyncio.to_thread(running.process.wait, 15) == 0
    finally:
        running.end()
    with contextlib.closing(sqlite3.connect(folder / "state" / file)) as database:
        database.execute("UPDATE alembic_version SET version_num = 'from-the-future'")
        database.commit()
    beat = await heard_of(service, bus, lambda: said.append(refused(service, values, cwd=folder)))
    assert f"{file} was made by a newer version" in said[0]
    assert [one.code for one in read_findings(beat.detail["findings"])] == ["database-newer"]


def test_spool_and_library_on_two_file_systems(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", size="3m") as disk:
        said = refused("downloader", environment(tmp_path / "data", SPOOL_DIR=str(disk)), cwd=tmp_path)
    assert said.startswith("SPOOL_DIR and LIBRARY_DIR lie on different file systems")


def test_spool_and_library_on_two_mounts_of_one_disk(tmp_path: Path) -> None:
    """As two volumes of a container on one disk: the same device, and yet no rename between them."""
    spool, inner = tmp_path / "spool", tmp_path / "inner"
    spool.mkdir()
    inner.mkdir()
    if subprocess.run(["mount", "--bind", str(inner), str(spool)], capture_output=True, check=False).returncode != 0:
        pytest.skip("nothing can be mounted here: it takes root")
    try:
        assert spool.stat().st_dev == tmp_path.stat().st_dev
        said = refused("downloader", environment(tmp_path / "data", SPOOL_DIR=str(spool)), cwd=tmp_path)
    finally:
        subprocess.run(["umount", "-l", str(spool)], check=True)
    assert said.startswith("SPOOL_DIR and LIBRARY_DIR lie on different file systems")


class Running:
    """A service that runs until the test ends."""

    def __init__(self, service: str, values: dict[str, str], cwd: Path) -> None:
        self.log = cwd.parent / f"{service}-{os.urandom(3).hex()}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", service], env=values, cwd=cwd, stdout=log, stderr=log
            )

    async def until(self, condition: object, *, seconds: float = 30) -> None:
        async with asyncio.timeout(seconds):
            while not condition():  # type: ignore[operator]
                assert self.process.poll() is None, self.log.read_text()
                await asyncio.sleep(0.05)

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


async def test_two_stacks_on_one_library(bus: Bus, nats_server: NatsServer, tmp_path: Path) -> None:
    library, first, second = tmp_path / "library", tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    shared = {**nats_server.settings, "LIBRARY_DIR": str(library), "HEARTBEAT_SECONDS": "0.2"}
    one = Running("downloader", environment(first, **shared), first)
    copy = Running("downloader", environment(first, **shared), first)
    try:
        await one.until((library / MARKER).exists)
        await copy.until(lambda: "started" in copy.log.read_text())
        await one.until(lambda: "started" in one.log.read_text())
        said = await asyncio.to_thread(refused, "downloader", environment(second, **shared), cwd=second)
        assert said.startswith("LIBRARY_DIR is in use by another Music Cloud that runs now")
        assert said.endswith(f"take over by removing its marker; mend it with: rm {library / MARKER}")
        # On purpose: then the first stack must end, however long it has run.
        (library / MARKER).unlink()
        taker = Running("downloader", environment(second, **shared), second)
        try:
            async with asyncio.timeout(20):
                while one.process.poll() is None or copy.process.poll() is None:
                    await asyncio.sleep(0.05)
            assert (one.process.returncode, copy.process.returncode) == (2, 2)
            assert "was taken over by another Music Cloud" in one.log.read_text()
            assert taker.process.poll() is None
        finally:
            taker.end()
    finally:
        one.end()
        copy.end()


@pytest.mark.parametrize("service", ["collector", "exporter"])
async def test_a_second_instance_of_what_must_be_alone(
    service: str, bus: Bus, nats_server: NatsServer, tmp_path: Path
) -> None:
    folder = tmp_path / "one"
    folder.mkdir()
    values = environment(folder, **nats_server.settings)
    alone = Running(service, values, folder)
    try:
        await alone.until(lambda: "started" in alone.log.read_text())
        ended = await asyncio.to_thread(start, service, values, cwd=folder)
        assert ended.returncode == 2
        assert ended.stderr.strip().splitlines() == [
            f"{service}: Another {service} works with the same database, and only one may; stop it, or give this one "
            f"its own STATE_DIR; mend it with: pgrep -af {service}"
        ]
    finally:
        alone.end()


@pytest.mark.parametrize(
    ("service", "wrong", "says"),
    [
        ("collector", {"SOURCES": "local,nowhere"}, "SOURCES names 'nowhere'"),
        ("downloader", {"DOWNLOAD_LAYOUT": "{nothing}"}, "DOWNLOAD_LAYOUT cannot be used"),
        ("uploader", {"ADOPTED_LIBRARIES": "older"}, "ADOPTED_LIBRARIES is a list"),
        ("exporter", {"SNAPSHOT_SIGNING_KEY": "short"}, "SNAPSHOT_SIGNING_KEY cannot be used"),
    ],
)
def test_settings_that_nothing_can_be_made_of(service: str, wrong: dict[str, str], says: str, tmp_path: Path) -> None:
    said = refused(service, {**environment(tmp_path / "data"), **wrong}, cwd=tmp_path)
    assert says in said


def test_a_damaged_file_of_secrets(tmp_path: Path) -> None:
    values = {**environment(tmp_path / "data"), "ROOT_DIR": "data"}
    del values["CONSOLE_TOKEN"]
    (tmp_path / "data" / "secrets" / "operator").mkdir(parents=True)
    (tmp_path / "data" / "secrets" / "operator" / "secrets.env").write_bytes(b"\xff\xfe")
    assert "secrets.env is UTF-16" in refused("console", values, cwd=tmp_path)


async def heard_of(service: str, bus: Bus, act: Callable[[], object]) -> Heartbeat:
    """The next heartbeat of a service that is told while ``act`` runs."""
    beats: asyncio.Queue[bytes] = asyncio.Queue()

    async def heard(message: object) -> None:
        beats.put_nowait(message.data)  # type: ignore[attr-defined]

    await bus.nc.subscribe(f"hb.{service}.*", cb=heard)
    await bus.nc.flush()
    await asyncio.to_thread(act)
    return decode(await asyncio.wait_for(beats.get(), 5), Heartbeat).data


async def test_what_only_the_building_shows_is_told_to_the_bus_as_well(
    bus: Bus, nats_server: NatsServer, tmp_path: Path
) -> None:
    values = environment(tmp_path, **nats_server.settings, NATS_REPLICAS="3")
    beat = await heard_of("console", bus, lambda: start("console", values, cwd=tmp_path))
    (finding,) = read_findings(beat.detail["findings"])
    assert finding.severity == "error"
    assert finding.message.startswith("NATS_REPLICAS is 3, but the nats-server of NATS_URL is no member of a cluster")
    assert finding.mend == '"${EDITOR:-vi}" music-cloud.env'


async def test_settings_of_one_service_alone_are_told_as_well(
    bus: Bus, nats_server: NatsServer, tmp_path: Path
) -> None:
    values = environment(tmp_path, **nats_server.settings, VERIFY="hardly")
    beat = await heard_of("downloader", bus, lambda: refused("downloader", values, cwd=tmp_path))
    (finding,) = read_findings(beat.detail["findings"])
    assert "VERIFY (in the environment)" in finding.message


async def test_a_refusal_is_told_to_the_bus(bus: Bus, nats_server: NatsServer, tmp_path: Path) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    values = environment(folder, **nats_server.settings, SPOOL_DIR="/dev/shm/not-made-by-this-test")
    beat = await heard_of("downloader", bus, lambda: refused("downloader", values, cwd=folder))
    assert not beat.ready
    assert beat.concurrency == 0
    assert beat.instance.endswith("-refused")
    assert [one["code"] for one in beat.detail["findings"]] == ["two-file-systems"]


async def test_warnings_let_it_start_and_are_shown(bus: Bus, nats_server: NatsServer, tmp_path: Path) -> None:
    import httpx

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    values = environment(
        tmp_path / "data",
        **nats_server.settings,
        PUID="54321",
        HEALTH_PORT=str(port),
        LOCAL_MEDIA_IMPORT_PATH=str(tmp_path / "not-mounted"),
    )
    collector = Running("collector", values, tmp_path)
    try:
        async with httpx.AsyncClient() as client, asyncio.timeout(30):
            while True:
                assert collector.process.poll() is None, collector.log.read_text()
                try:
                    ready = (await client.get(f"http://127.0.0.1:{port}/readyz")).json()
                    break
                except httpx.TransportError:
                    await asyncio.sleep(0.05)
    finally:
        collector.end()
    found = {one["code"]: one for one in ready["detail"]["findings"]}
    assert set(found) == {"folder-missing", "other-user"}
    assert {one["severity"] for one in found.values()} == {"warning"}
    assert str(tmp_path) not in str(found)
