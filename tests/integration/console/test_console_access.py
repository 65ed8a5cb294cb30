"""Who may come in: every door, with and without the credential."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from common.secret_files import secrets_path
from tests.support.console import ConsoleProcess
from tests.support.nats import NatsServer
from tests.support.stack import free_port


@pytest.fixture
def stranger(console: ConsoleProcess) -> httpx.Client:
    return httpx.Client(base_url=console.url, trust_env=False, timeout=20)


def log_in(console: ConsoleProcess, client: httpx.Client) -> httpx.Response:
    return client.post("/login", data={"credential": console.token, "next": "/jobs?state=failed"})


def test_nothing_is_open_without_a_credential(console: ConsoleProcess, stranger: httpx.Client) -> None:
    doors = [
        ("GET", "/api/jobs"),
        ("POST", "/api/jobs"),
        ("GET", "/api/jobs/1"),
        ("GET", "/api/jobs/1/items"),
        ("POST", "/api/jobs/1/commands"),
        ("GET", "/api/dashboard"),
        ("GET", "/api/dead"),
        ("GET", "/api/events/stream"),
        ("GET", "/api/v1/sources"),
        ("POST", "/api/v1/tokens"),
        ("GET", "/api/openapi.json"),
        ("GET", "/api/nothing"),
        ("POST", "/jobs"),
        ("POST", "/logout"),
    ]
    for method, path in doors:
        answer = stranger.request(method, path)
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized"), path
        assert "Bearer" in answer.headers["www-authenticate"]
    for path in ("/", "/dashboard", "/jobs", "/jobs/1", "//evil.example", "/static/../jobs"):
        answer = stranger.get(path)
        assert answer.status_code in {303, 404}, path
        if answer.status_code == 303:
            assert answer.headers["location"].startswith("/login?next=%2F"), path
    for path in ("/healthz", "/login", "/static/console.css", "/static/live.js"):
        assert stranger.get(path).status_code == 200, path
    stranger.close()


def test_a_wrong_credential_is_refused_slowed_down_and_locks_nobody_out(console: ConsoleProcess) -> None:
    for scheme in ("Bearer wrong-credential", "Basic YTpi", "Bearer", f"Bearer {console.token[:-1]}"):
        answer = httpx.get(f"{console.url}/api/jobs", headers={"Authorization": scheme}, trust_env=False, timeout=20)
        assert answer.status_code == 401, scheme
        assert console.token not in answer.text
    answers = [
        httpx.post(f"{console.url}/login", data={"credential": "guess"}, trust_env=False, timeout=20) for _ in range(11)
    ]
    assert answers[0].status_code == 401
    assert answers[-1].status_code == 429
    assert console.ok("GET", "/api/jobs")["items"] == []
    assert console.token not in console.log.read_text()


def test_a_login_is_a_session_that_logout_ends(console: ConsoleProcess, stranger: httpx.Client) -> None:
    answer = log_in(console, stranger)
    assert (answer.status_code, answer.headers["location"]) == (303, "/jobs?state=failed")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "samesite=strict" in cookie.lower()
    assert console.token not in cookie
    kept = dict(stranger.cookies)
    page = stranger.get("/dashboard")
    assert page.status_code == 200
    policy = page.headers["content-security-policy"]
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert "<script>" not in page.text
    assert " style=" not in page.text
    assert stranger.post("/logout", headers={"Origin": console.url}).status_code == 303
    again = httpx.get(f"{console.url}/api/jobs", cookies=kept, trust_env=False)
    assert again.status_code == 401, "the cookie must be worth nothing after the logout"
    stranger.close()


def test_a_session_outlives_the_process_but_not_the_credential(console: ConsoleProcess, stranger: httpx.Client) -> None:
    log_in(console, stranger)
    console.stop()
    console.start()
    assert stranger.get("/api/jobs").status_code == 200
    console.stop()
    console.environment["CONSOLE_TOKEN"] = "another credential that is long enough"
    console.start()
    assert stranger.get("/api/jobs").status_code == 401
    stranger.close()


def test_a_write_with_a_cookie_must_come_from_our_own_pages(console: ConsoleProcess, stranger: httpx.Client) -> None:
    log_in(console, stranger)
    rows: list[tuple[dict[str, str], int]] = [
        ({}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": console.url, "Sec-Fetch-Site": "cross-site"}, 403),
        ({"Origin": console.url, "Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "none"}, 403),
        ({"Origin": console.url}, 422),
        ({"Sec-Fetch-Site": "same-origin"}, 422),
    ]
    for headers, status in rows:
        answer = stranger.post("/api/jobs", json={"job_type": "nothing"}, headers=headers)
        assert answer.status_code == status, headers
    # A program's credential is not sent by browsers on their own, so its origin does not matter.
    assert console.http.post("/api/jobs", json={}, headers={"Origin": "https://evil.example"}).status_code == 422
    forged = httpx.post(
        f"{console.url}/login",
        data={"credential": console.token},
        headers={"Origin": "https://evil.example"},
        trust_env=False,
    )
    assert forged.status_code == 403
    stranger.close()


def test_a_foreign_name_that_points_here_is_refused(console: ConsoleProcess) -> None:
    for host in ("evil.example", "evil.example:8421", "127.0.0.1.evil.example", "10.0.0.1", "", "[::1", "localhost:x"):
        answer = console.http.get("/api/jobs", headers={"Host": host})
        assert answer.status_code == 400, host
    for host in ("localhost", f"localhost:{console.port}", "127.0.0.1", "[::1]:8421", "LOCALHOST"):
        assert console.http.get("/api/jobs", headers={"Host": host}).status_code == 200, host
    assert console.http.get("/healthz", headers={"Host": "evil.example"}).status_code == 400


def test_what_is_asked_wrongly_is_answered_with_code_and_message(console: ConsoleProcess) -> None:
    rows = [
        ("GET", "/api/jobs/99", 404),
        ("GET", "/api/jobs/0", 404),
        ("GET", "/api/jobs/99999999999999999999999", 404),
        ("GET", "/api/jobs/x", 422),
        ("GET", "/api/jobs?cursor=x", 422),
        ("GET", "/api/jobs?cursor=%D9%A1", 422),
        ("GET", "/api/jobs?limit=100000", 422),
        ("GET", "/api/jobs?state=nothing", 422),
        ("GET", "/api/nothing", 404),
        ("DELETE", "/api/jobs", 405),
        ("GET", "/static/../../settings.py", 404),
        ("GET", "/static/%2e%2e/settings.py", 404),
    ]
    for method, path, status in rows:
        answer = console.http.request(method, path)
        assert answer.status_code == status, (path, answer.text)
        if not path.startswith("/static"):
            assert set(answer.json()) == {"code", "message"}, path
        assert "Traceback" not in answer.text


def test_the_credential_is_made_and_shown_once(tmp_path: Path, nats_server: NatsServer) -> None:
    console = ConsoleProcess(tmp_path, nats_server)
    del console.environment["CONSOLE_TOKEN"]
    console.start()
    line = next(line for line in console.log.read_text().splitlines() if "shown this once" in line)
    made = line.rpartition(" ")[2]
    assert console.http.get("/api/jobs", headers={"Authorization": f"Bearer {made}"}).status_code == 200
    assert secrets_path(console.root, "console").stat().st_mode & 0o777 == 0o600
    console.stop()
    console.log.write_text("")
    console.start()
    assert made not in console.log.read_text()
    console.close()


def test_it_does_not_open_itself_to_the_network_without_a_credential(tmp_path: Path, nats_server: NatsServer) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    environment = {
        **nats_server.account("console"),
        "ROOT_DIR": str(blocked),
        "STATE_DIR": str(tmp_path / "state"),
        "WEB_HOST": "0.0.0.0",
        "WEB_PORT": str(free_port()),
        "PATH": "/usr/bin",
    }
    ended = subprocess.run(
        [sys.executable, "-m", "console"], env=environment, capture_output=True, text=True, timeout=30, cwd=tmp_path
    )
    assert ended.returncode == 2
    assert "CONSOLE_TOKEN" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_second_console_on_the_same_ledger_does_not_start(console: ConsoleProcess) -> None:
    environment = {**console.environment, "WEB_PORT": str(free_port())}
    ended = subprocess.run(
        [sys.executable, "-m", "console"], env=environment, capture_output=True, text=True, timeout=30
    )
    assert ended.returncode == 2
    assert "Another console" in ended.stderr
