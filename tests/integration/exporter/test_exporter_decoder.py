"""The process that decodes gives what is decoded here; killed, hung or never started, nothing is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.bus.connection import Stored
from exporter.adapters import decoder as decoding
from exporter.adapters.decoder import Decoder
from exporter.service.projection import read_batch
from tests.support.catalog_facts import Log, playlist, pool, song, stored

PATIENCE = 20.0

KILLED = """
import os, signal
from exporter.adapters.decoder import Decoder

decoder = Decoder()
decoder.decode([])
print(decoder.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def messages(count: int) -> list[Stored]:
    log, names = Log(), [f"s{number}" for number in range(count)]
    log.write(*map(song, names))
    log.raw(song("s1").subject, b"junk")
    log.raw("song.listed.5", b"\x00 not ours")
    log.write(song("s1", duration_seconds=1.5, metadata={"year": 1999}), *map(stored, names))
    log.write(*playlist("p", names), pool("top", ["p"]))
    return log.all


@pytest.fixture
def decoder() -> Iterator[Decoder]:
    one = Decoder()
    yield one
    one.close()


def alive(pid: int) -> bool:
    """Whether it runs; one that nobody has asked for its end does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def ended(pid: int) -> bool:
    deadline = time.monotonic() + PATIENCE
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not alive(pid)


def test_it_gives_what_is_decoded_here(decoder: Decoder) -> None:
    whole = messages(50)
    assert decoder.decode(whole) == read_batch(whole)
    first = decoder.pid
    assert first is not None
    assert alive(first)
    assert decoder.decode(whole[20:]) == read_batch(whole[20:])
    assert decoder.decode([]) == read_batch([])
    assert decoder.pid == first
    decoder.close()
    assert not alive(first)


def test_killed_while_it_decodes_it_loses_nothing(decoder: Decoder) -> None:
    whole = messages(4000)
    decoder.decode(whole[:10])
    pid = decoder.pid
    assert pid is not None
    # Stopped, it cannot answer before it is killed.
    os.kill(pid, signal.SIGSTOP)
    killer = threading.Timer(0.2, os.kill, (pid, signal.SIGKILL))
    killer.start()
    assert decoder.decode(whole) == read_batch(whole)
    killer.join()
    assert ended(pid)
    assert decoder.decode(whole[:10]) == read_batch(whole[:10])


def test_one_that_hangs_is_not_waited_for(decoder: Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "_PATIENCE", 2)
    whole = messages(10)
    decoder.decode(whole)
    pid = decoder.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    assert decoder.decode(whole) == read_batch(whole)
    assert ended(pid)


@pytest.mark.parametrize("command", [("/nowhere/python",), (sys.executable, "-c", "raise SystemExit(3)")])
def test_one_that_does_not_start_is_done_without(
    decoder: Decoder, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.setattr(decoding, "_COMMAND", command)
    whole = messages(10)
    assert decoder.decode(whole) == read_batch(whole)
    assert decoder.decode(whole) == read_batch(whole)


def test_it_ends_with_a_process_that_is_killed() -> None:
    died = subprocess.run([sys.executable, "-c", KILLED], stdout=subprocess.PIPE, check=False, timeout=60)
    assert died.returncode == -signal.SIGKILL
    assert ended(int(died.stdout))
