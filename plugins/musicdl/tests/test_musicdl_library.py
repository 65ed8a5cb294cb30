"""Whether the real library still has the shape that the bridge relies on. Needs no network, and none of its sites.

Runs where musicdl is installed; ``MUSICDL_PYTHON`` may name the interpreter that has it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from common.errors import TransientError
from musicdl_bridge import process
from musicdl_bridge.clients import CLIENTS, PROTECTED, plain_name
from musicdl_bridge.process import Process
from musicdl_bridge.worker import PLAIN
from tests.support.musicdl import bridge, leftovers, look_for

PYTHON = Path(os.environ.get("MUSICDL_PYTHON", sys.executable)).absolute()
_problem = Process(python=PYTHON, base=Path("unused"), megabytes=1024, allow_private=False).problem()
pytestmark = pytest.mark.skipif(_problem is not None, reason=f"{_problem} (MUSICDL_PYTHON names the interpreter)")

SHAPE = """
import dataclasses, inspect, json, sys
import requests
from musicdl.modules import BaseMusicClient, BuildMusicClient, LyricSearchClient, MusicClientBuilder, SongInfo

class Silent:
    def __deepcopy__(self, memo): return self
    def error(self, *a, **k): pass
    info = warning = debug = error

asked = []
def refuse(self, method, url, *rest, **options):
    asked.append(url)
    raise requests.ConnectionError("no network")
requests.Session.request = refuse

def make(name, cookies):
    given = {f"default_{kind}_cookies": dict(cookies) for kind in ("search", "parse", "download")} if cookies else {}
    return BuildMusicClient(module_cfg={
        "type": name, "search_size_per_source": 3, "search_size_per_page": 3, "max_retries": 1,
        "disable_print": True, "work_dir": "work", "logger_handle": Silent(), **given,
    })

clients = json.loads(sys.stdin.read())
others = {}
for name, cookies in clients.items():
    client = make(name, cookies)
    if cookies:
        asked.clear()
        song = client._parsewiththirdpartapis({"id": 1, "mid": "1", "MUSICRID": "MUSIC_1", "name": "x"}, {})
        others[name] = [list(asked), bool(song.with_valid_download_url), str(client.default_search_cookies)]
print(json.dumps({
    "names": sorted(MusicClientBuilder.REGISTERED_MODULES),
    "fields": sorted(field.name for field in dataclasses.fields(SongInfo)),
    "search": list(inspect.signature(BaseMusicClient.search).parameters),
    "lists": sorted(
        name for name, kind in MusicClientBuilder.REGISTERED_MODULES.items()
        if kind.parseplaylist is not BaseMusicClient.parseplaylist
    ),
    "fetching": sorted(
        name for name, kind in MusicClientBuilder.REGISTERED_MODULES.items()
        if kind._download is not BaseMusicClient._download
    ),
    "others": others,
    "lyrics": callable(LyricSearchClient().search),
}))
"""


@pytest.fixture(scope="module")
def shape(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("library")
    asked = {one.library_name: dict(one.cookies) for one in CLIENTS.values()}
    done = subprocess.run(
        [str(PYTHON), "-I", "-c", SHAPE],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(folder)},
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_it_has_our_clients_and_those_that_we_refuse(shape: dict[str, Any]) -> None:
    assert {one.library_name for one in CLIENTS.values()} <= set(shape["names"])
    assert {plain_name(name) for name in shape["names"]} >= PROTECTED
    assert {plain_name(one.library_name) for one in CLIENTS.values()} == set(CLIENTS)


def test_songs_and_searches_have_the_shape_that_is_read(shape: dict[str, Any]) -> None:
    more = {"raw_data", "work_dir", "default_download_headers", "default_download_cookies", "downloaded_contents"}
    assert set(PLAIN) | more <= set(shape["fields"])
    assert shape["lyrics"]
    context = {"main_process_context", "main_progress_id", "main_progress_lock"}
    assert {"keyword", "num_threadings"} | context <= set(shape["search"])


def test_lists_are_read_where_we_offer_them(shape: dict[str, Any]) -> None:
    assert {one.library_name for one in CLIENTS.values() if one.hosts} <= set(shape["lists"])


def test_none_of_our_clients_has_a_way_of_its_own_to_fetch_files(shape: dict[str, Any]) -> None:
    """Those that undo a protection do it while they fetch."""
    assert not {one.library_name for one in CLIENTS.values()} & set(shape["fetching"])


def test_with_our_cookies_no_stranger_is_asked_and_nobodys_account_used(shape: dict[str, Any]) -> None:
    assert set(shape["others"]) == {one.library_name for one in CLIENTS.values() if one.cookies}
    for asked, found, cookies in shape["others"].values():
        assert asked == [] and not found and cookies == "{'os': 'pc'}"


def test_without_a_network_every_client_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library loads and searches within its limits; a proxy that is not there is all that it can reach."""
    plain = process.environment
    nowhere = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
    monkeypatch.setattr(process, "environment", lambda folder: {**plain(folder), **nowhere})
    for name in CLIENTS:
        with bridge(PYTHON, tmp_path, clients=(name,), search_seconds=60.0) as source:
            with pytest.raises(TransientError) as raised:
                look_for(source, "love", limit=1)
            assert raised.value.code == "musicdl-network", name
            assert not source.health().available
    assert leftovers(tmp_path) == []
