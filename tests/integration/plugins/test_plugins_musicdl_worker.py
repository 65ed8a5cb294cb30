"""The bridge to musicdl, with its real worker and a library that misbehaves: each fault costs its own song only."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from common.errors import DependencyDown, MusicCloudError, PermanentError, TransientError, Waiting
from musicdl_bridge import process
from musicdl_bridge.source import MusicdlSource
from sources.port import SearchQuery
from tests.support.musicdl import bridge, interpreter, leftovers, look_for


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return interpreter(tmp_path_factory.mktemp("python"))


@pytest.fixture(scope="module")
def shared(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MusicdlSource]:
    """One source for what leaves the library usable; 20 seconds for a search."""
    with bridge(python, tmp_path_factory.mktemp("state")) as source:
        yield source


def works(source: MusicdlSource) -> bool:
    return [one.remote_id for one in look_for(source, "Rain")] == [
        "jamendo/1001",
        "fma/1001",
        "jamendo/1002",
        "fma/1002",
    ]


def gone(pid: int) -> bool:
    """Whether the process has ended; one that nobody has waited for yet counts as ended."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True
    return state in "ZX"


def within(seconds: float, check: Callable[[], bool]) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if check():
            return True
        time.sleep(0.02)
    return False


@contextmanager
def seconds(source: MusicdlSource, number: float) -> Iterator[None]:
    """So much for a search that goes wrong; others have the 20 of :func:`bridge`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(source, "_search_seconds", number)
        yield


def test_what_the_library_prints_stays_out_of_the_answers(shared: MusicdlSource) -> None:
    assert [one.remote_id for one in look_for(shared, "prints")] == ["jamendo/1001", "fma/1001"]
    assert works(shared)


@pytest.mark.parametrize(
    ("deed", "code", "kind"),
    [
        ("raise", "musicdl-failed", TransientError),
        ("network", "musicdl-network", TransientError),
        ("refused", "musicdl-refused", TransientError),
        ("memory", "musicdl-memory", PermanentError),
        ("large file", "musicdl-failed", TransientError),
        ("crash", "musicdl-crashed", TransientError),
        ("exit", "musicdl-crashed", TransientError),
        ("flood: 20 x", "musicdl-answer-too-large", PermanentError),
        ("flood: 1 x", "musicdl-answer-malformed", PermanentError),
        ("flood: 1 [", "musicdl-answer-malformed", PermanentError),
    ],
)
def test_a_failure_is_an_error_of_that_song_only(
    shared: MusicdlSource, deed: str, code: str, kind: type[MusicCloudError]
) -> None:
    with pytest.raises(kind) as raised:
        look_for(shared, deed)
    assert raised.value.code == code
    assert "secret" not in raised.value.message and "password" not in raised.value.message
    assert works(shared) and shared.health().available


def test_a_library_that_hangs_ends_in_time_and_what_others_found_is_kept(python: Path, tmp_path: Path) -> None:
    with bridge(python, tmp_path) as source:
        with seconds(source, 6.0), pytest.raises(TransientError) as raised:
            look_for(source, "hang")
        assert raised.value.code == "musicdl-late" and not leftovers(tmp_path)
        # Answered at the deadline, five seconds early: the other one has that long.
        with seconds(source, 10.0):
            assert [one.remote_id for one in look_for(source, "only jamendo answers")] == ["jamendo/1001"]
        assert works(source)


def test_after_the_deadline_the_library_and_its_children_are_killed(python: Path, tmp_path: Path) -> None:
    told = tmp_path / "pids"
    with bridge(python, tmp_path / "state", clients=("jamendo",)) as source:
        with seconds(source, 4.0), pytest.raises(TransientError) as raised:
            look_for(source, f"fork:{told}")
        assert raised.value.code == "musicdl-timeout" and not source.health().available
        child, worker = map(int, told.read_text().split())
        assert gone(worker) and within(5, lambda: gone(child))
        assert not leftovers(tmp_path / "state")
        assert len(look_for(source, "Rain")) == 2 and source.health().available


def test_one_client_that_fails_does_not_hide_what_another_found(shared: MusicdlSource) -> None:
    assert [one.remote_id for one in look_for(shared, "only jamendo works")] == ["jamendo/1001"]


def test_nothing_found_is_no_error(shared: MusicdlSource) -> None:
    assert look_for(shared, "nothing") == []


def test_a_million_results_are_cut_and_repeats_left_out(shared: MusicdlSource) -> None:
    assert [one.remote_id for one in look_for(shared, "million")] == ["jamendo/1001", "fma/1001"]
    assert [one.remote_id for one in look_for(shared, "same")] == [
        "jamendo/1001",
        "fma/1001",
        "jamendo/1002",
        "fma/1002",
    ]
    assert len(look_for(shared, "Rain", limit=3)) == 3


def test_files_that_it_leaves_are_removed(python: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o755)
    (outside / "kept").write_text("kept")
    base = tmp_path / "state"
    with bridge(python, base) as source:
        assert look_for(source, f"files:{outside}") and look_for(source, "deep")
        (folder,) = leftovers(base)
        assert (base / folder).stat().st_mode & 0o777 == 0o700
        source.close()
        assert leftovers(base) == []
    assert (outside / "kept").read_text() == "kept" and outside.stat().st_mode & 0o777 == 0o755


def test_folders_of_killed_owners_are_removed_and_those_in_use_kept(python: Path, tmp_path: Path) -> None:
    (tmp_path / "worker-old" / "home").mkdir(parents=True)
    with bridge(python, tmp_path) as first, bridge(python, tmp_path) as second:
        assert works(first)
        (own,) = leftovers(tmp_path)
        assert works(second)
        assert own in leftovers(tmp_path) and len(leftovers(tmp_path)) == 2
        assert works(first)


def test_it_sees_nothing_of_our_environment_and_is_limited(
    python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NATS_PASSWORD", "very-secret")
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    with bridge(python, tmp_path, megabytes=700, clients=("jamendo",)) as source:
        (told,) = look_for(source, "environment")
    memory, *variables = told.name.split()
    assert memory == f"memory={700 * 1024**2}"
    names = {one.partition("=")[0] for one in variables if "=" in one}
    assert names <= {"PATH", "LANG", "LC_CTYPE", "HOME", "TMPDIR", "PYTHONDONTWRITEBYTECODE"}
    assert "very-secret" not in told.name and f"HOME={tmp_path}/worker-" in told.name
    assert told.album is not None and told.album.startswith(f"{tmp_path}/worker-")


def test_the_local_network_is_closed_to_it(python: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        deed = f"local:{server.getsockname()[1]}"
        with bridge(python, tmp_path, clients=("jamendo",)) as source, pytest.raises(TransientError) as raised:
            look_for(source, deed)
        assert raised.value.code == "musicdl-failed"
        with bridge(python, tmp_path, clients=("jamendo",), allow_private=True) as allowed:
            assert look_for(allowed, deed)


def test_requests_wait_for_one_another_and_then_are_set_aside(
    python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "PATIENCE", 0.0)
    outcomes: list[str] = []
    with bridge(python, tmp_path, clients=("jamendo",)) as source:

        def search() -> None:
            try:
                with seconds(source, 3.0):
                    look_for(source, "freeze")
            except MusicCloudError as error:
                outcomes.append(error.code)

        thread = threading.Thread(target=search)
        thread.start()
        assert within(10, lambda: bool(leftovers(tmp_path)))
        with pytest.raises(Waiting) as raised:
            look_for(source, "Rain")
        thread.join(20)
        assert raised.value.code == "musicdl-busy" and outcomes == ["musicdl-timeout"]
        # It was our turn that did not come: that says nothing of the library.
        assert len(look_for(source, "Rain")) == 2


def workers(base: Path) -> list[int]:
    """The processes that run in private folders of ``base``."""
    found = []
    for pid in (int(name) for name in os.listdir("/proc") if name.isdigit()):
        try:
            if os.readlink(f"/proc/{pid}/cwd").startswith(f"{base}/worker-"):
                found.append(pid)
        except OSError:
            continue
    return found


def test_a_worker_that_is_killed_between_two_searches_is_replaced(python: Path, tmp_path: Path) -> None:
    with bridge(python, tmp_path, clients=("jamendo",)) as source:
        assert len(look_for(source, "Rain")) == 2
        (pid,) = workers(tmp_path)
        os.kill(pid, signal.SIGKILL)
        assert within(5, lambda: gone(pid))
        assert len(look_for(source, "Rain")) == 2 and len(leftovers(tmp_path)) == 1


@pytest.mark.parametrize("bound", ["IDLE_SECONDS", "MAX_REQUESTS"])
def test_a_worker_that_was_idle_or_served_long_is_replaced(
    python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    monkeypatch.setattr(process, bound, 0)
    with bridge(python, tmp_path, clients=("jamendo",)) as source:
        folders = set()
        for _ in range(2):
            assert len(look_for(source, "Rain")) == 2
            folders |= set(leftovers(tmp_path))
        assert len(folders) == (2 if bound == "IDLE_SECONDS" else 0)


def test_a_worker_that_nobody_needs_ends_by_itself(
    python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "SELF_END_SECONDS", 1)
    with bridge(python, tmp_path, clients=("jamendo",)) as source:
        assert len(look_for(source, "Rain")) == 2
        assert within(10, lambda: not workers(tmp_path))
        assert len(look_for(source, "Rain")) == 2


OWNER = """
import sys
from pathlib import Path
from tests.support.musicdl import bridge, look_for
with bridge(Path(sys.argv[1]), Path(sys.argv[2]), clients=("jamendo",), search_seconds=100.0) as source:
    look_for(source, "hang")
"""


def test_the_library_does_not_outlive_its_owner(python: Path, tmp_path: Path) -> None:
    base = tmp_path / "state"
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(python), str(base)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    try:
        # It is at work, not only started: its working folder is made by the client.
        assert within(30, lambda: any(base.glob("worker-*/work")))
        (worker,) = workers(base)
    finally:
        owner.kill()
        owner.wait(10)
    assert within(5, lambda: gone(worker))
    (old,) = leftovers(base)
    with bridge(python, base) as source:
        assert works(source)
        assert old not in leftovers(base)


def test_without_the_library_or_with_another_version_it_says_what_to_do(tmp_path: Path) -> None:
    for number, (version, said) in enumerate([(None, "not installed"), ("3.0.0", "musicdl 3.0.0"), ("2.14", "2.14")]):
        python = interpreter(tmp_path / f"python{number}", version=version)
        with bridge(python, tmp_path / "state") as source:
            health = source.health()
            assert health.configured and not health.available and said in health.message
            with pytest.raises(DependencyDown) as raised:
                look_for(source, "Rain")
            assert raised.value.code == "musicdl-missing" and not leftovers(tmp_path / "state")
    with bridge(tmp_path / "nowhere", tmp_path / "state") as source:
        assert "PLUGIN_MUSICDL_PYTHON" in source.health().message


def test_a_library_that_does_not_load_is_down_not_the_song(tmp_path: Path) -> None:
    python = interpreter(tmp_path / "python")
    (library,) = (tmp_path / "python").rglob("musicdl/modules/__init__.py")
    library.write_text("raise RuntimeError")
    with bridge(python, tmp_path / "state") as source:
        assert source.health().available
        with pytest.raises(DependencyDown) as raised:
            look_for(source, "Rain")
        assert raised.value.code == "musicdl-broken" and not leftovers(tmp_path / "state")
        assert not source.health().available


def test_a_client_that_the_library_lost_is_named(python: Path, tmp_path: Path) -> None:
    with bridge(python, tmp_path, clients=("opengameart",)) as source, pytest.raises(PermanentError) as raised:
        source.search(SearchQuery(name="Rain"), limit=3)
    assert raised.value.code == "musicdl-unknown-client" and "OpenGameArt" in raised.value.message
