"""The bridge as a package of its own: built, installed beside ours, found under its names, and tried for real."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.feed_server import feed_server
from tests.support.musicdl import interpreter
from tests.support.tagged import wav_bytes
from tests.support.wheels import install

PLUGIN = Path(__file__).parents[3] / "plugins" / "musicdl"
NAMES = "musicdl,netease,qq,kuwo,migu,qianqian"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder into which the wheel was installed, without the library; no network is used."""
    return install(PLUGIN, tmp_path_factory.mktemp("bridge"))


def check(site: Path, cwd: Path, *arguments: str, **settings: str) -> tuple[int, dict[str, Any], str]:
    """What ``music-cloud sources check`` says in an installation that has the plug-in."""
    done = subprocess.run(
        [sys.executable, "-m", "cli", "sources", "check", "--json", *arguments],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(site), **settings},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    return done.returncode, json.loads(done.stdout) if done.stdout else {}, done.stderr


def test_its_names_are_known_and_say_what_to_set(installed: Path, tmp_path: Path) -> None:
    python = interpreter(tmp_path / "python", version=None)
    status, told, _ = check(installed, tmp_path, SOURCES=NAMES, PLUGIN_MUSICDL_PYTHON=str(python))
    assert status == 1
    steps = {one["name"]: one["steps"] for one in told["sources"]}
    assert ",".join(steps) == NAMES
    assert [step["ok"] for step in steps["musicdl"]] == [None, False] and "pip install" in steps["musicdl"][1][
        "message"
    ]
    for name in NAMES.split(",")[1:]:
        assert steps[name][0]["ok"] is None and "PLUGIN_MUSICDL_CLIENTS" in steps[name][0]["message"]


def test_a_song_is_found_by_the_library_and_fetched_by_our_own_client(installed: Path, tmp_path: Path) -> None:
    python = interpreter(tmp_path / "python")
    with feed_server() as server:
        server.serve("/rain.wav", wav_bytes(), "audio/x-wav")
        settings = {
            "SOURCES": "musicdl",
            "PLUGIN_MUSICDL_PYTHON": str(python),
            "PLUGIN_MUSICDL_CLIENTS": "jamendo",
            "STATE_DIR": str(tmp_path / "state"),
        }
        words = f"address:{server.url}/rain.wav"
        # Results are anybody's: an address of the local network is refused here as it is everywhere.
        status, told, _ = check(installed, tmp_path, "--search", words, **settings)
        assert status == 1 and "address-refused" in told["sources"][0]["steps"][-1]["message"]
        status, told, _ = check(installed, tmp_path, "--search", words, ALLOW_PRIVATE_ADDRESSES="true", **settings)
    assert status == 0, told
    assert [(step["step"], step["ok"]) for step in told["sources"][0]["steps"]] == [
        ("lists", None),
        ("search", True),
        ("file", True),
    ]
    assert not list((tmp_path / "state" / "musicdl").glob("worker-*"))


def test_a_protected_client_is_refused_in_one_sentence(installed: Path, tmp_path: Path) -> None:
    status, told, said = check(
        installed, tmp_path, SOURCES="musicdl", PLUGIN_MUSICDL_CLIENTS="jamendo,SpotifyMusicClient"
    )
    assert status == 2 and told == {} and "SpotifyMusicClient" in said and "never used" in said
    assert "Traceback" not in said
