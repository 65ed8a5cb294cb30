"""``music-cloud sources check``, as a person types it, against servers that answer as documented or do not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.feed_server import feed_server
from tests.support.source_apis import APIS, Reply, SubsonicApi, running


def check(cwd: Path, *arguments: str, **settings: object) -> tuple[int, str]:
    values = {name.upper(): str(value) for name, value in settings.items()}
    done = subprocess.run(
        [sys.executable, "-m", "cli", "sources", "check", *arguments],
        env={"PATH": os.environ["PATH"], **values},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_all_sources_are_tried_for_real(tmp_path: Path) -> None:
    (tmp_path / "sources").mkdir()  # a folder of that name is not the package
    with ExitStack() as stack:
        apis = [stack.enter_context(running(kind)) for kind in APIS]
        settings = {name: value for api in apis for name, value in api.settings().items()}
        names = ",".join(api.NAME for api in apis)
        rates = ",".join(f"{api.NAME}=1000" for api in apis)
        status, told = check(tmp_path, "--json", sources=names, source_rates=rates, **settings)
    answer = json.loads(told)
    assert status == 0 and answer["ok"], told
    for source in answer["sources"]:
        assert [step["step"] for step in source["steps"]] == ["lists", "read", "search", "file"], source
        assert all(step["ok"] for step in source["steps"]) and source["licence"] and source["rate"]
    assert "sesame" not in told and "b6747d04" not in told


def test_what_fails_says_why_and_the_others_are_tried_all_the_same(tmp_path: Path) -> None:
    with running(SubsonicApi) as api, feed_server() as feeds:
        api.raw = Reply(body=b"<html>log in", content_type="text/html")
        url = feeds.serve("/list.m3u", f"{feeds.url}/gone.mp3\n")
        status, told = check(tmp_path, sources="subsonic,jamendo,feed,wikimedia-commons", feeds=url, **api.settings())
    assert status == 1
    assert "answer-not-json" in told and "FAILED" in told
    assert "JAMENDO_CLIENT_ID" in told and "SOURCE_CONTACT" in told
    assert "1 song: gone" in told and "source-file-missing" in told
    assert "sesame" not in told and "Traceback" not in told


BAD = """
import threading

class Bad:
    def __init__(self, name, health):
        self.name, self.health = name, health

def fails(settings):
    def health():
        raise RuntimeError("no such thing")
    return Bad("fails", health)

def leaves(settings):
    return Bad("leaves", lambda: exit(0))

def babbles(settings):
    return Bad("babbles", lambda: None)

def hangs(settings):
    def health():
        threading.Thread(target=threading.Event().wait).start()
        threading.Event().wait()
    return Bad("hangs", health)
"""


def test_a_plugin_that_raises_or_never_answers_costs_only_itself(tmp_path: Path) -> None:
    names = ("fails", "leaves", "babbles", "hangs")
    (tmp_path / "bad.py").write_text(BAD)
    (tmp_path / "bad-1.dist-info").mkdir()
    (tmp_path / "bad-1.dist-info" / "METADATA").write_text("Name: bad\nVersion: 1\n")
    points = "".join(f"{name} = bad:{name}\n" for name in names)
    (tmp_path / "bad-1.dist-info" / "entry_points.txt").write_text(f"[music_cloud.sources]\n{points}")
    with feed_server() as feeds:
        url = feeds.serve("/list.m3u", f"{feeds.url}/gone.mp3\n")
        settings = {"sources": ",".join((*names, "feed")), "feeds": url, "pythonpath": str(tmp_path)}
        status, told = check(tmp_path, "--json", "--timeout=5", **settings)
    assert status == 1 and "Traceback" not in told
    steps = {one["name"]: one["steps"] for one in json.loads(told)["sources"]}
    assert [steps[name][0]["step"] for name in names] == ["health"] * 4
    assert [steps[name][0]["ok"] for name in names] == [False] * 4
    said = [steps[name][0]["message"] for name in names]
    assert "RuntimeError: no such thing" in said[0] and "SystemExit" in said[1] and "AttributeError" in said[2]
    assert "no answer within 5 s" in said[3] and len(steps["hangs"]) == 1
    assert [step["step"] for step in steps["feed"]] == ["lists", "read", "file"]


@pytest.mark.parametrize("arguments", [("nothing",), ("local", "No-Such")])
def test_a_name_that_is_no_source_is_refused(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    status, told = check(tmp_path, *arguments)
    assert status == 2 and "which is not installed" in told and "Traceback" not in told


def test_where_the_sources_are_not_installed_it_says_where_to_ask(tmp_path: Path) -> None:
    told = subprocess.run(
        [
            sys.executable,
            "-c",
            "import importlib.util as util, sys\nfind = util.find_spec\n"
            "util.find_spec = lambda name, *rest: None if name == 'sources' else find(name, *rest)\n"
            "from cli.sources import run_check\nsys.exit(run_check([]))",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert told.returncode == 2 and "docker compose exec collector python -P -m sources check" in told.stderr
