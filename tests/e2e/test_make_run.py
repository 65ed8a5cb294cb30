"""`make run` as a person sees it: the real program, its real processes, real files and links."""

from __future__ import annotations

import http.server
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import httpx
import pytest

from cli.demo.library import DAMAGED_TITLE, FEED_SONGS, FOLDER_SONGS, ensure_demo
from common.contracts.names import ImportMode
from tests.support.s3 import S3Bucket

pytestmark = pytest.mark.timeout(300)

MUSIC_CLOUD = str(Path(sys.executable).parent / "music-cloud")
GOOD_SONGS = len(FOLDER_SONGS) + len(FEED_SONGS)
PATIENCE = 180.0


class Run:
    """One `music-cloud run` with a folder of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.output = ""

    @property
    def environment(self) -> dict[str, str]:
        inherited = {
            key: value for key, value in os.environ.items() if not key.startswith(("OBJECT_", "NATS_", "WEB_"))
        }
        # Free ports, so that runs beside one another, and other tests, do not meet.
        free = dict.fromkeys(("WEB_PORT", "ORIGIN_PORT", "EXPORTER_PORT", "DEMO_PORT"), "0")
        return {**inherited, **free, "ROOT_DIR": str(self.root), "NATS_URL": "nats://127.0.0.1:0"}

    def to_the_end(self, environment: Mapping[str, str] | None = None, *, status: int = 0) -> str:
        """Run with --exit-when-done; returns what it said."""
        ended = subprocess.run(
            [MUSIC_CLOUD, "run", "--exit-when-done"],
            env={**self.environment, **(environment or {})},
            cwd=self.root.parent,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert ended.returncode == status, ended.stdout + ended.stderr + self.logs()
        self.assert_nothing_left()
        return ended.stdout + ended.stderr

    @contextmanager
    def serving(self) -> Iterator[subprocess.Popen[str]]:
        """Run until it serves; what it said is in ``output``."""
        with subprocess.Popen(
            [MUSIC_CLOUD, "run"],
            env=self.environment,
            cwd=self.root.parent,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            assert process.stdout is not None
            try:
                for line in process.stdout:
                    self.output += line
                    if line.startswith("Serving"):
                        break
                else:
                    raise AssertionError(self.output + self.logs())
                yield process
            finally:
                process.kill()

    def processes(self) -> dict[int, str]:
        """Every process of this run that is alive, however it was started."""
        found = {}
        for folder in Path("/proc").iterdir():
            try:
                mine = folder.name.isdigit() and f"ROOT_DIR={self.root}".encode() in (folder / "environ").read_bytes()
                if mine:
                    found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
            except OSError:
                continue
        return found

    def assert_nothing_left(self, *, within: float = 1.0) -> None:
        deadline = time.monotonic() + within
        while left := self.processes():
            assert time.monotonic() < deadline, left
            time.sleep(0.02)

    def logs(self) -> str:
        """The ends of all logs, for a test that failed."""
        return "".join(f"\n== {log.name}\n{log.read_text()[-1500:]}" for log in (self.root / "logs").glob("*.log"))

    def files(self) -> dict[str, tuple[int, int]]:
        """The library's songs: (size, time of change in ns)."""
        library = self.root / "library"
        return {
            str(path.relative_to(library)): (path.stat().st_size, path.stat().st_mtime_ns)
            for path in library.rglob("*")
            if path.is_file() and not path.relative_to(library).parts[0].startswith(".")
        }


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path / "data")


def found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    assert match, f"{pattern!r} is not in:\n{text}"
    return match[1]


def check_snapshot(output: str, *, tracks: int, files: int) -> None:
    """The snapshot that the summary names is a complete pair and holds what was stored."""
    snapshot_id = found(r"snapshot\s+(sha256:[0-9a-f]{64})", output)
    folder = Path(found(r"snapshot\s+sha256:\w+\n\s+(/.+)", output).strip())
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["snapshot_id"] == snapshot_id
    assert (manifest["track_count"], manifest["file_count"]) == (tracks, files)
    with closing(sqlite3.connect(folder / "catalog_read.db")) as database:
        assert database.execute("SELECT count(*) FROM catalog_track_files").fetchone() == (files,)


def check_stream(output: str) -> None:
    """The link of the summary plays, with ranges and without any credential."""
    url = found(r"(http://127\.0\.0\.1:\d+/api/private-origin/stream/\S+)", output)
    whole = httpx.get(url, trust_env=False)
    assert whole.status_code == 200
    assert whole.headers["content-type"].startswith("audio/")
    part = httpx.get(url, headers={"Range": "bytes=10-19"}, trust_env=False)
    assert (part.status_code, part.content) == (206, whole.content[10:20])


def test_the_demo_runs_once_serves_and_ends_with_ctrl_c_and_a_second_run_has_nothing_to_do(run: Run) -> None:
    with run.serving() as process:
        output = run.output
        assert f"stored    {GOOD_SONGS} songs" in output
        assert DAMAGED_TITLE in output
        check_snapshot(output, tracks=GOOD_SONGS + 1, files=GOOD_SONGS)
        check_stream(output)

        console = found(r"console\s+(http://\S+)", output)
        credential = found(r"credential, shown this once: (\S+)", output)
        assert httpx.get(f"{console}/api/dashboard", trust_env=False).status_code == 401
        answer = httpx.get(
            f"{console}/api/dashboard", headers={"Authorization": f"Bearer {credential}"}, trust_env=False
        )
        assert answer.json()["download_stats"]["downloaded_songs"] == GOOD_SONGS

        status = subprocess.run(
            [MUSIC_CLOUD, "status"],
            env=run.environment,
            cwd=run.root.parent,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert status.returncode == 0, status.stderr
        assert "download-1" in status.stdout

        refused = subprocess.run(
            [MUSIC_CLOUD, "run"], env=run.environment, cwd=run.root.parent, capture_output=True, text=True, timeout=60
        )
        assert refused.returncode == 2
        assert "already runs on this data" in refused.stderr

        started = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.wait(5) == 0
        run.assert_nothing_left(within=5 - (time.monotonic() - started))

    assert len(run.files()) == GOOD_SONGS
    before, titles = run.files(), " ".join(run.files())
    assert "月光" in titles
    assert "Closing Theme" in titles

    second = run.to_the_end()

    assert f"nothing to do: {GOOD_SONGS} songs are already stored" in second
    assert "CONSOLE_TOKEN in " in second
    assert credential not in second
    assert run.files() == before


def test_a_folder_of_ones_own_is_used_in_place_and_never_doubled(run: Run, tmp_path: Path) -> None:
    music = tmp_path / "my music"
    shutil.copytree(ensure_demo(tmp_path / "demo").music / "Aurora Lane", music / "Aurora Lane")
    before = {path: path.stat().st_mtime_ns for path in music.rglob("*")}

    output = run.to_the_end({"LOCAL_MEDIA_IMPORT_PATH": str(music)})

    assert "stay where they are" in output
    assert "stored    2 songs" in output
    check_snapshot(output, tracks=2, files=2)
    assert "/api/private-origin/stream/" in output
    assert {path: path.stat().st_mtime_ns for path in music.rglob("*")} == before
    assert run.files() == {}
    assert not (run.root / "demo").exists()


def test_the_mode_that_a_person_sets_is_used(run: Run, tmp_path: Path) -> None:
    music = tmp_path / "music"
    shutil.copytree(ensure_demo(tmp_path / "demo").music / "Harbour Trio", music / "Harbour Trio")

    output = run.to_the_end({"LOCAL_MEDIA_IMPORT_PATH": str(music), "IMPORT_MODE": ImportMode.COPY})

    assert "stay where they are" not in output
    assert len(run.files()) == 2


def test_feeds_alone_bring_no_demo(run: Run, tmp_path: Path) -> None:
    feed = ensure_demo(tmp_path / "demo").feed
    handler = partial(QuietHandler, directory=str(feed))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            output = run.to_the_end({"FEEDS": f"http://127.0.0.1:{server.server_port}/radio.xspf"})
        finally:
            server.shutdown()

    assert f"stored    {len(FEED_SONGS)} songs" in output
    assert not (run.root / "demo").exists()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        return


def test_where_an_object_store_is_set_up_every_file_gets_a_copy_there(run: Run, s3_bucket: S3Bucket) -> None:
    output = run.to_the_end(s3_bucket.settings_env)

    assert f"uploaded  {GOOD_SONGS} files now, {GOOD_SONGS} in the object store" in output
    check_snapshot(output, tracks=GOOD_SONGS + 1, files=2 * GOOD_SONGS)
    assert len(s3_bucket.keys()) == GOOD_SONGS
    assert s3_bucket.server.secret_key not in output + run.logs()

    assert f"nothing to do: {GOOD_SONGS} songs are already stored" in run.to_the_end(s3_bucket.settings_env)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_other_signals_end_everything_too(run: Run, number: signal.Signals, status: int) -> None:
    with run.serving() as process:
        assert len(run.processes()) >= 8
        started = time.monotonic()
        process.send_signal(number)
        assert process.wait(5) == status
        run.assert_nothing_left(within=5 - (time.monotonic() - started))


def test_what_is_killed_while_serving_is_started_again_and_the_next_job_runs(run: Run) -> None:
    with run.serving() as process:
        for program in ("nats-server", "/exporter"):
            victim = next(pid for pid, line in run.processes().items() if program in line)
            os.kill(victim, signal.SIGKILL)
            assert process.stdout is not None
            assert "was started again" in process.stdout.readline()

        ended = subprocess.run(
            [MUSIC_CLOUD, "sync", "--wait"],
            env=run.environment,
            cwd=run.root.parent,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        assert "completed" in ended.stdout

        process.send_signal(signal.SIGINT)
        assert process.wait(5) == 0


def test_a_service_that_cannot_start_is_shown_with_its_reason_and_everything_ends(run: Run) -> None:
    (run.root).mkdir(parents=True)
    (run.root / "library").write_text("not a folder")

    output = run.to_the_end(status=1)

    # Whichever of the two that need it was first.
    assert "downloader" in output or "origin" in output
    assert "LIBRARY_DIR" in output


def test_secrets_that_cannot_be_read_are_one_sentence(run: Run) -> None:
    run.root.mkdir(exist_ok=True)
    (run.root / "secrets").write_text("")
    said = run.to_the_end(status=2)
    assert "cannot be read or made" in said and "Traceback" not in said


def test_a_folder_that_is_not_there_is_one_sentence(run: Run) -> None:
    output = run.to_the_end({"LOCAL_MEDIA_IMPORT_PATH": "/nowhere/music"}, status=2)
    assert output.startswith("error: LOCAL_MEDIA_IMPORT_PATH names /nowhere/music")
    assert output.count("\n") <= 3
