"""``music-cloud doctor`` as a person runs it: with everything there, and with nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from common.secret_files import ensure_secrets, read_secrets
from tests.support.console import ConsoleProcess
from tests.support.nats import NatsServer
from tests.support.stack import free_port
from tests.support.starts import environment, listing


def run(cwd: Path, *arguments: str, **values: str) -> subprocess.CompletedProcess[str]:
    ports = {"ORIGIN_PORT": "0", "EXPORTER_PORT": "0", **values}
    inherited = {key: value for key, value in environment(cwd / "data").items() if key in {"PATH", "HOME", "LANG"}}
    return subprocess.run(
        [sys.executable, "-m", "cli", "doctor", *arguments],
        env={**inherited, "ROOT_DIR": str(cwd / "data"), **ports},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
    )


def rows(answer: subprocess.CompletedProcess[str]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for row in json.loads(answer.stdout)["items"]:
        found.setdefault(row["subject"], []).append(row)
    return found


def test_with_nothing_there_it_says_what_to_do_and_changes_nothing(tmp_path: Path) -> None:
    away = {"NATS_URL": f"nats://127.0.0.1:{free_port()}", "WEB_PORT": str(free_port())}
    was = listing(tmp_path)
    answer = run(tmp_path, "--json", **away)
    assert answer.returncode == 2, answer.stderr
    assert answer.stderr == ""
    found = rows(answer)
    assert found["secrets"][0]["mend"] == "music-cloud init"
    assert "No NATS server answers" in found["bus"][0]["message"]
    assert "does not answer" in found["console"][0]["message"]
    assert listing(tmp_path) == was
    shown = run(tmp_path, **away)
    assert shown.returncode == 2
    assert "Traceback" not in shown.stdout + shown.stderr
    assert "music-cloud init" in shown.stdout


def test_a_wrong_env_file_is_the_one_thing_it_says(tmp_path: Path) -> None:
    (tmp_path / "music-cloud.env").write_text("LIBRARY_DIRR=/music\n")
    answer = run(tmp_path, "--json")
    assert answer.returncode == 2
    ((row,),) = rows(answer).values()
    assert "LIBRARY_DIRR: no such setting; did you mean LIBRARY_DIR?" in row["message"]


def test_with_bus_and_console_it_shows_what_the_services_found(tmp_path: Path, nats_server: NatsServer) -> None:
    ensure_secrets(tmp_path / "data")
    token = read_secrets(tmp_path / "data", "operator")["CONSOLE_TOKEN"]
    # The same folder: its databases are open while the doctor looks.
    console = ConsoleProcess(tmp_path, nats_server, PUID="54321", CONSOLE_TOKEN=token)
    console.token = token
    console.start()
    values = {
        "NATS_URL": nats_server.url,
        "NATS_USER": nats_server.user,
        "NATS_PASSWORD": nats_server.password,
        "WEB_PORT": str(console.port),
    }
    try:
        answer = run(tmp_path, "--json", **values)
        assert answer.returncode == 1, answer.stdout + answer.stderr
        found = rows(answer)
        assert found["bus"][0]["status"] == "ok"
        assert found["secrets"][0]["status"] == "ok"
        assert found["folders"][0]["status"] == "ok"
        assert found["streams"] == [
            {
                "subject": "streams",
                "status": "ok",
                "message": "CATALOG, WORK, STATUS, LOG, DEAD are as they should be.",
                "mend": "",
            }
        ]
        assert found[f"port {console.port}"][0]["status"] == "ok"
        assert "PUID is 54321" in found["console"][0]["message"]
        assert found["exporter"][0]["message"] == "No exporter has been heard of in the last seconds."
        # The bus away: the rest is looked at all the same.
        nats_server.kill()
        answer = run(tmp_path, "--json", **values)
        assert answer.returncode == 2
        found = rows(answer)
        assert found["bus"][0]["status"] == "error"
        assert "PUID is 54321" in found["console"][0]["message"]
    finally:
        console.close()
