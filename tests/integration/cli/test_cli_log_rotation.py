"""The logs of `music-cloud run` stay small while their processes go on writing."""

from __future__ import annotations

import os
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest

from cli.run import stack as stack_module
from cli.run.stack import KEPT_LOGS, Stack

WRITER = """
import os, sys, time
for number in range(100_000):
    os.write(2, b"line %07d\\n" % number)
    time.sleep(0.0005)
"""


def test_a_log_is_begun_anew_and_few_parts_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack_module, "MAX_LOG_BYTES", 2_000)
    (tmp_path / "writer.py").write_text(WRITER)
    (tmp_path / "Procfile").write_text(f"writer: {sys.executable} {tmp_path}/writer.py\n")
    stack = Stack(procfile=tmp_path / "Procfile", logs=tmp_path / "logs", folder=tmp_path)
    log, parts = tmp_path / "logs/writer.log", [tmp_path / f"logs/writer.log.{one}" for one in range(1, KEPT_LOGS + 1)]
    try:
        stack.start("writer", {"PATH": os.environ["PATH"]})
        deadline = time.monotonic() + 30
        while not parts[-1].exists() or log.stat().st_size == 0:
            assert time.monotonic() < deadline, sorted(path.name for path in log.parent.iterdir())
            stack.check()
            time.sleep(0.01)
    finally:
        stack.kill()
        stack.stop()
    assert sorted(path.name for path in log.parent.iterdir()) == sorted(path.name for path in [log, *parts])
    # In order: the oldest part ends before the next begins, and the log itself goes on after them all.
    numbers = [
        [int(line.split()[1]) for line in path.read_text().splitlines() if line.startswith("line ") and len(line) == 12]
        for path in (*reversed(parts), log)
    ]
    assert all(older[-1] < newer[0] for older, newer in pairwise(numbers)), numbers
