"""Versions of the configuration: noticed, judged, compared, applied; secrets stay where they are."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.console import ConsoleProcess
from tests.support.nats import NatsServer

KEY = "wonderful-Access-Key-81"
SECRET = "a very $ecret key of the store"
FEED = "https://ann:pass-of-ann@feeds.example.org/list.m3u?token=tok-1234567"
FIRST = f"""# The store of the house. Before: OBJECT_SECRET_KEY='{SECRET}'
OBJECT_BUCKET=songs
OBJECT_ACCESS_KEY={KEY}
export OBJECT_SECRET_KEY='{SECRET}'
FEEDS={FEED},other.m3u
DOWNLOAD_CONCURRENCY=4
#POSTGRES_PASSWORD=commented-out-one
"""
HIDDEN = (KEY, SECRET, "pass-of-ann", "tok-1234567", "commented-out-one")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    folder = tmp_path / "config"
    folder.mkdir()
    path = folder / "music-cloud.env"
    path.write_text(FIRST)
    path.chmod(0o640)
    return path


@pytest.fixture
def console(tmp_path: Path, nats_server: NatsServer, file: Path) -> Iterator[ConsoleProcess]:
    process = ConsoleProcess(tmp_path, nats_server, MUSIC_CLOUD_ENV_FILE=str(file))
    process.start()
    yield process
    process.close()


@pytest.fixture
def closed() -> tuple[str, ...]:
    """What starts a program so that the modes of files count for it."""
    if os.geteuid() != 0:
        return ()
    bound = ("setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all", "--")
    if subprocess.run([*bound, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("root may write anywhere, and cannot give that up without setpriv")
    return bound


def until(condition: Callable[[], bool], *, seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def current(console: ConsoleProcess) -> dict[str, Any]:
    found: dict[str, Any] = console.ok("GET", "/api/config")["current"]
    return found


def text_of(console: ConsoleProcess, revision: int) -> str:
    return str(console.ok("GET", f"/api/config/revisions/{revision}")["content_text"])


def everything(console: ConsoleProcess, file: Path) -> str:
    """All that anybody is shown or that is kept, as one text."""
    pages = [
        console.http.get(path, headers={"Accept": "text/html"}).text
        for path in ("/config", "/config?show=1&against=2", "/api/config", "/api/config/revisions", "/jobs/1")
    ]
    texts = [text_of(console, one["id"]) for one in console.ok("GET", "/api/config/revisions")["items"]]
    with sqlite3.connect(console.root / "state" / "ops.db") as database:
        kept = [str(row) for row in database.execute("SELECT * FROM config_revisions")]
        kept += [str(row) for row in database.execute("SELECT config_snapshot_json FROM job_runs")]
    return "\n".join((*pages, *texts, *kept, console.log.read_text()))


def test_the_file_is_the_first_version_and_no_secret_is_ever_shown(console: ConsoleProcess, file: Path) -> None:
    first = current(console)
    assert (first["id"], first["file"], first["note"]) == (1, "music-cloud.env", "found in the file at the start")
    shown = text_of(console, 1)
    assert shown.splitlines()[1:6] == [
        "OBJECT_BUCKET=songs",
        "OBJECT_ACCESS_KEY=********",
        "export OBJECT_SECRET_KEY=********",
        "FEEDS=https://********@feeds.example.org/list.m3u?token=********,other.m3u",
        "DOWNLOAD_CONCURRENCY=4",
    ]
    job = console.ok("POST", "/api/jobs", json={"job_type": "collect_only"})["job_id"]
    kept = console.ok("GET", f"/api/jobs/{job}")["config"]
    assert (kept["settings_revision"], kept["download_concurrency"], kept["object_secret_key"]) == (1, "4", "********")
    page = console.http.get(f"/jobs/{job}", headers={"Accept": "text/html"}).text
    assert "Configuration that this job was started with" in page and "DOWNLOAD_CONCURRENCY" in page
    file.write_text(FIRST.replace("=4", "=5"))
    until(lambda: current(console)["id"] == 2)
    seen = everything(console, file)
    assert [secret for secret in (*HIDDEN, console.token) if secret in seen] == []
    assert str(file.parent) not in console.http.get("/api/config/revisions").text + console.http.get("/config").text


def test_a_version_is_compared_and_applied_with_the_secrets_of_today(console: ConsoleProcess, file: Path) -> None:
    new = text_of(console, 1).replace("CONCURRENCY=4", "CONCURRENCY=9") + "HISTORY_DAYS=30\n"
    made = console.http.post("/api/config/revisions", json={"content_text": new, "note": "more at once"})
    assert (made.status_code, made.json()["id"], made.json()["note"]) == (201, 2, "more at once")
    assert console.http.post("/api/config/revisions", json={"content_text": new}).status_code == 200, "kept once"
    assert file.read_text() == FIRST, "nothing changes before it is applied"
    diff = console.ok("GET", "/api/config/revisions/2/diff")["diff"].splitlines()
    assert [line for line in diff if line[0] in "+-"][2:] == [
        "-DOWNLOAD_CONCURRENCY=4",
        "+DOWNLOAD_CONCURRENCY=9",
        "+HISTORY_DAYS=30",
    ]
    # Meanwhile somebody sets another secret by hand.
    file.write_text(FIRST.replace(KEY, "another-Access-Key-2"))
    owner = (file.stat().st_uid, file.stat().st_gid)
    applied = console.ok("POST", "/api/config/revisions/2/apply")
    assert applied["live"] == ["DOWNLOAD_CONCURRENCY", "HISTORY_DAYS"] and applied["restart"] == []
    written = FIRST.replace(KEY, "another-Access-Key-2").replace("CONCURRENCY=4", "CONCURRENCY=9")
    assert file.read_text() == written + "HISTORY_DAYS=30\n"
    assert (stat.S_IMODE(file.stat().st_mode), file.stat().st_uid, file.stat().st_gid) == (0o640, *owner)
    assert os.listdir(file.parent) == [file.name]
    assert current(console)["id"] == 2
    until(lambda: all(one["settings_revision"] == 2 for one in console.ok("GET", "/api/config")["workers"]))
    # Back again: the old text, the new secret.
    console.ok("POST", "/api/config/revisions/1/apply")
    assert file.read_text() == FIRST.replace(KEY, "another-Access-Key-2")
    assert current(console)["id"] == 1
    assert [one["id"] for one in console.ok("GET", "/api/config/revisions")["items"]] == [2, 1]


BAD = {
    "DOWNLOAD_CONCURENCY=9": "line 8: DOWNLOAD_CONCURENCY: no such setting; did you mean DOWNLOAD_CONCURRENCY?",
    "UPLOAD_CONCURRENCY=many": "line 8: UPLOAD_CONCURRENCY: ",
    "UPLOAD_CONCURRENCY=900": "line 8: UPLOAD_CONCURRENCY: should be less than or equal to 64",
    "SOURCE_LIMITS=feed:3": "line 8: SOURCE_LIMITS: write it as name=number",
    "RECOVERY=maybe": "line 8: RECOVERY: ",
    "OBJECT_BUCKET=twice": "line 8 sets OBJECT_BUCKET again, which line 2 sets already",
    "hunter2-pasted": "line 8 is not of the form NAME=VALUE",
    "NATS_PASSWORD=typed-in-here": "line 8: NATS_PASSWORD would bring a secret into the versions",
    "ALLOWED_HOSTS=http://me:mine-9@host": "line 8: ALLOWED_HOSTS would bring a secret",
    "ALLOWED_HOSTS=http://********@host": "line 8: the secret in ALLOWED_HOSTS is not in the file any more",
}


def test_a_bad_version_is_refused_with_its_line(console: ConsoleProcess, file: Path) -> None:
    for change, words in BAD.items():
        text = text_of(console, 1) + change + "\n"
        refused = console.http.post("/api/config/revisions", json={"content_text": text})
        assert (refused.status_code, refused.json()["code"]) == (422, "config-invalid")
        assert refused.json()["message"].startswith(f"music-cloud.env: {words}"), refused.json()
        assert "typed-in-here" not in refused.text and "hunter2" not in refused.text and "mine-9" not in refused.text
        page = console.http.post("/config/revisions", data={"content_text": text}, headers={"Accept": "text/html"})
        assert page.status_code == 422 and change.partition("=")[0] in page.text, "the text is not lost"
    assert file.read_text() == FIRST
    assert [one["id"] for one in console.ok("GET", "/api/config/revisions")["items"]] == [1]
    assert "typed-in-here" not in console.log.read_text()


def test_a_bad_edit_by_hand_is_shown_and_changes_nothing(console: ConsoleProcess, file: Path) -> None:
    file.write_text(FIRST.replace("CONCURRENCY=4", "CONCURRENCY=4000"))
    until(lambda: bool(console.ok("GET", "/api/config")["problem"]))
    state = console.ok("GET", "/api/config")
    assert "line 6: DOWNLOAD_CONCURRENCY: should be less than or equal to 64" in state["problem"]
    assert state["current"]["id"] == 1
    kept = console.ok("GET", "/api/config/revisions")["items"][0]
    assert kept["applied_at"] is None and "not used" in kept["note"]
    assert console.http.post(f"/api/config/revisions/{kept['id']}/apply").status_code == 422
    assert "The file is not used as it is." in console.http.get("/config").text
    console.ok("POST", "/api/config/revisions/1/apply")
    assert file.read_text() == FIRST
    assert console.ok("GET", "/api/config")["problem"] is None


def test_a_folder_that_may_not_be_written_is_a_sentence(
    console: ConsoleProcess, file: Path, closed: tuple[str, ...]
) -> None:
    console.stop()
    # Root without the right to pass over the modes of files; anybody else has none anyway.
    console.start(before=closed)
    made = console.ok("POST", "/api/config/revisions", json={"content_text": text_of(console, 1).replace("=4", "=5")})
    file.parent.chmod(0o500)
    try:
        refused = console.http.post(f"/api/config/revisions/{made['id']}/apply")
    finally:
        file.parent.chmod(0o700)
    assert (refused.status_code, refused.json()["code"]) == (409, "config-not-writable")
    assert "write the text into the file yourself" in refused.json()["message"]
    assert str(file.parent) not in refused.text
    assert file.read_text() == FIRST and current(console)["id"] == 1


def test_the_versions_outlive_the_console_and_an_older_file_is_read(tmp_path: Path, nats_server: NatsServer) -> None:
    older = tmp_path / "catalogsync.env"
    older.write_text("DOWNLOAD_WORKERS=3\nHISTORY_DAYS=10\n")
    console = ConsoleProcess(tmp_path, nats_server)
    console.start()
    try:
        assert (current(console)["file"], current(console)["id"]) == ("catalogsync.env", 1)
        console.stop()
        older.write_text("DOWNLOAD_WORKERS=3\nHISTORY_DAYS=11\n")
        console.start()
        assert current(console)["id"] == 2
        console.kill()
        console.start()
        assert current(console)["id"] == 2, "the same text is no new version"
        console.ok("POST", "/api/config/revisions/1/apply")
        assert older.read_text() == "DOWNLOAD_WORKERS=3\nHISTORY_DAYS=10\n"
    finally:
        console.close()


def test_without_a_file_the_first_version_makes_one(tmp_path: Path, nats_server: NatsServer) -> None:
    console = ConsoleProcess(tmp_path, nats_server)
    console.start()
    try:
        assert current(console) is None
        made = console.ok("POST", "/api/config/revisions", json={"content_text": "SOURCE_LIMITS=feed=3\n"})
        console.ok("POST", f"/api/config/revisions/{made['id']}/apply")
        written = tmp_path / "music-cloud.env"
        assert written.read_text() == "SOURCE_LIMITS=feed=3\n"
        assert stat.S_IMODE(written.stat().st_mode) == 0o600
        until(lambda: current(console)["id"] == made["id"])
    finally:
        console.close()


def test_the_command_line_lists_compares_and_applies(console: ConsoleProcess, file: Path, tmp_path: Path) -> None:
    environment = {
        **{key: value for key, value in os.environ.items() if key in {"PATH", "HOME", "LANG"}},
        "MUSIC_CLOUD_URL": console.url,
        "CONSOLE_TOKEN": console.token,
    }

    def run(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "cli", "config", *words],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert run("show") == text_of(console, 1)
    new = tmp_path / "new.env"
    new.write_text(run("show").replace("CONCURRENCY=4", "CONCURRENCY=6").replace("BUCKET=songs", "BUCKET=more"))
    assert run("add", str(new), "--note", "six") == "version 2; apply it with: music-cloud config apply 2\n"
    assert "+DOWNLOAD_CONCURRENCY=6" in run("diff", "2")
    outcome = run("apply", "2").splitlines()
    assert outcome == [
        "version 2 runs",
        "changed at once: DOWNLOAD_CONCURRENCY",
        "changed by the next restart: OBJECT_BUCKET",
    ]
    listing = run("list")
    assert "2 runs" in listing and "six" in listing and "console-1 runs version" in listing
    assert f"OBJECT_ACCESS_KEY={KEY}" in file.read_text()
