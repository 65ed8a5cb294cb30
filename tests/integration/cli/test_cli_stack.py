"""The processes of a Procfile: real processes, real signals."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from cli.run.stack import ChildDied, Stack


def wait_for(condition: Callable[[], bool], *, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def alive(marker: str) -> list[int]:
    """Processes whose environment holds the marker."""
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            if (
                marker.encode() in (folder / "environ").read_bytes()
                and "Z" not in (folder / "stat").read_text().rpartition(")")[2].split()[0]
            ):
                found.append(int(folder.name))
        except OSError:
            continue
    return found


@pytest.fixture
def make_stack(tmp_path: Path) -> Iterator[Callable[[str], Stack]]:
    stacks = []

    def make(procfile: str) -> Stack:
        (tmp_path / "Procfile").write_text(textwrap.dedent(procfile))
        stack = Stack(procfile=tmp_path / "Procfile", logs=tmp_path / "logs", folder=tmp_path)
        stacks.append(stack)
        return stack

    yield make
    for stack in stacks:
        stack.kill()
        stack.stop()


def environment(tmp_path: Path) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "STACK_TEST": str(tmp_path)}


def test_a_child_that_ignores_sigterm_and_its_own_child_are_gone_within_five_seconds(
    make_stack: Callable[[str], Stack], tmp_path: Path
) -> None:
    stack = make_stack(
        """\
        stubborn: sh -c 'trap "" TERM INT HUP; sleep 300 & touch ready; while true; do sleep 1; done'
        polite: sleep 300
        """
    )
    for name in stack.names:
        stack.start(name, environment(tmp_path))
    wait_for(lambda: (tmp_path / "ready").exists())
    assert len(alive(str(tmp_path))) >= 3

    started = time.monotonic()
    stack.stop()

    wait_for(lambda: alive(str(tmp_path)) == [], seconds=5 - (time.monotonic() - started))


def test_a_child_that_dies_at_start_is_named_with_its_last_words(
    make_stack: Callable[[str], Stack], tmp_path: Path
) -> None:
    stack = make_stack("broken: sh -c 'echo the disk is full; exit 3'\n")
    stack.start("broken", environment(tmp_path))

    def died() -> bool:
        try:
            stack.require_alive()
        except ChildDied as error:
            assert "broken ended (status 3)" in error.message
            assert "the disk is full" in error.message
            return True
        return False

    wait_for(died)


def test_a_process_that_was_killed_is_started_again_but_not_for_ever(
    make_stack: Callable[[str], Stack], tmp_path: Path
) -> None:
    stack = make_stack("victim: sh -c 'echo $$ >> pids; sleep 300'\n")
    stack.start("victim", environment(tmp_path))
    pids = tmp_path / "pids"
    sentences: list[str] = []

    def started(times: int) -> bool:
        return pids.is_file() and pids.read_text().count("\n") == times

    for times in range(1, 5):
        wait_for(partial(started, times))
        os.kill(int(pids.read_text().split()[-1]), signal.SIGKILL)
        if times < 4:
            wait_for(lambda: bool(sentences.__iadd__(stack.check())) and len(sentences) == times)  # noqa: B023
    assert "victim ended" in sentences[0]
    with pytest.raises(ChildDied):
        wait_for(lambda: bool(stack.check()), seconds=5)


def test_a_process_that_cannot_work_with_its_settings_is_not_started_again(
    make_stack: Callable[[str], Stack], tmp_path: Path
) -> None:
    stack = make_stack("service: sh -c 'echo LIBRARY_DIR is not writable; exit 2'\n")
    stack.start("service", environment(tmp_path))
    with pytest.raises(ChildDied, match="LIBRARY_DIR is not writable"):
        wait_for(lambda: bool(stack.check()))


def test_children_end_when_we_are_killed_without_a_word(tmp_path: Path) -> None:
    (tmp_path / "Procfile").write_text("one: sleep 300\ntwo: sleep 300\n")
    program = f"""
import time
from pathlib import Path
from cli.run.stack import Stack
stack = Stack(procfile=Path({str(tmp_path / "Procfile")!r}), logs=Path({str(tmp_path / "logs")!r}), folder=Path("/"))
for name in stack.names:
    stack.start(name, {environment(tmp_path)!r})
print("started", flush=True)
time.sleep(300)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"started\n"
        wait_for(lambda: len(alive(f"STACK_TEST={tmp_path}")) == 2)
        process.kill()
    wait_for(lambda: alive(f"STACK_TEST={tmp_path}") == [])
