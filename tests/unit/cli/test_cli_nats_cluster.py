"""The configurations of a cluster: three files from the same secrets, which nats-server takes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.support.nats import find_server

ROUTES = "nats-1.lan:6222,nats-2.lan:6222,nats-3.lan:6222"


def init(root: Path, *options: str) -> subprocess.CompletedProcess[str]:
    inherited = {key: value for key, value in os.environ.items() if key in {"PATH", "HOME", "LANG"}}
    return subprocess.run(
        [sys.executable, "-m", "cli", "init", *options],
        env={**inherited, "ROOT_DIR": str(root)},
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )


def test_three_servers_of_one_cluster(tmp_path: Path) -> None:
    texts = []
    for name in ("nats-1", "nats-2", "nats-3"):
        file = tmp_path / f"{name}.conf"
        done = init(
            tmp_path,
            *("--nats-config", str(file), "--nats-store", str(tmp_path / "store"), "--nats-version", "2.9.10"),
            *("--nats-name", name, "--nats-cluster-listen", "0.0.0.0:6222", "--nats-routes", ROUTES),
        )
        assert done.returncode == 0, done.stderr
        assert file.stat().st_mode & 0o777 == 0o600
        checked = subprocess.run([find_server(), "-t", "-c", str(file)], capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stderr
        texts.append(file.read_text())
    assert len(set(texts)) == 3
    assert len({text.replace(f"nats-{number}", "", 1) for number, text in enumerate(texts, start=1)}) == 1
    (password,) = {found for text in texts for found in re.findall(r"nats-route://server:([0-9a-f]{64})@", text)}
    assert texts[0].count(password) == 4


def test_half_a_cluster_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    done = init(tmp_path, "--nats-config", str(tmp_path / "a.conf"), "--nats-name", "nats-1")
    assert done.returncode == 2
    assert "belong together" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "a.conf").exists()
