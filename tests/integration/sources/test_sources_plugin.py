"""The template of a source in a package of its own: built, installed beside ours, found, and tried."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.feed_server import feed_server
from tests.support.tagged import wav_bytes
from tests.support.wheels import install

TEMPLATE = Path(__file__).parents[3] / "examples" / "source-plugin"
STEPS = ("lists", "read", "search", "file")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder into which the plug-in's wheel was installed; no network is used."""
    return install(TEMPLATE, tmp_path_factory.mktemp("plugin"))


def check(site: Path, cwd: Path, **settings: str) -> tuple[int, dict[str, Any], str]:
    """What ``music-cloud sources check`` says in an installation that has the plug-in."""
    done = subprocess.run(
        [sys.executable, "-m", "cli", "sources", "check", "--json"],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(site), **settings},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, json.loads(done.stdout) if done.stdout else {}, done.stderr


def test_the_plugin_is_found_and_its_songs_can_be_had(installed: Path, tmp_path: Path) -> None:
    with feed_server() as server:
        songs = [
            {"id": 1, "title": "Rain", "artist": "Ana", "seconds": 3, "url": "files/rain.wav"},
            {"id": 2, "title": "No music", "url": "files/x.exe"},
            {"id": None},
        ]
        server.serve("/shelf.json", json.dumps({"name": "My shelf", "songs": songs}), "application/json")
        server.serve("/files/rain.wav", wav_bytes(), "audio/x-wav")
        status, told, _ = check(installed, tmp_path, SOURCES="shelf", PLUGIN_SHELF_URL=f"{server.url}/shelf.json")
    assert status == 0 and told["ok"]
    (shelf,) = told["sources"]
    assert [(step["step"], step["ok"]) for step in shelf["steps"]] == [(one, True) for one in STEPS]
    read = next(step["message"] for step in shelf["steps"] if step["step"] == "read")
    assert "'My shelf' has 1 song: Rain" in read and "What may not be downloaded" in read
    assert shelf["licence"] and shelf["rate"] == 2.0


def test_without_its_setting_it_says_what_to_set(installed: Path, tmp_path: Path) -> None:
    status, told, _ = check(installed, tmp_path, SOURCES="shelf")
    assert status == 0 and not told["sources"][0]["configured"]
    assert "PLUGIN_SHELF_URL" in told["sources"][0]["steps"][0]["message"]


def test_without_the_package_its_name_is_a_mistake_in_the_settings(tmp_path: Path) -> None:
    status, told, said = check(tmp_path, tmp_path, SOURCES="shelf")
    assert status == 2 and told == {} and "SOURCES names 'shelf', which is not installed" in said
