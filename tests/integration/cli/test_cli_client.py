"""What the command line says when the console does not answer as it should: real servers on loopback."""

import http.server
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cli.client import ConsoleClient
from cli.errors import ConsoleRefused, ConsoleUnreachable, RequestRejected

MUSIC_CLOUD = str(Path(sys.executable).parent / "music-cloud")


@pytest.fixture
def answer() -> Iterator[Callable[[int, bytes], str]]:
    """A server that gives one answer to everything; returns its URL."""
    servers = []

    def start(status: int, body: bytes) -> str:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_DELETE = do_GET

            def log_message(self, *_: object) -> None:
                return

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_refused_credential_is_told_without_repeating_it(answer: Callable[[int, bytes], str]) -> None:
    with (
        ConsoleClient(url=answer(401, b"{}"), credential="geheim-geheim") as client,
        pytest.raises(ConsoleRefused, match="CONSOLE_TOKEN") as refused,
    ):
        client.dashboard()
    assert "geheim" not in refused.value.message


def test_the_words_of_the_console_are_passed_on(answer: Callable[[int, bytes], str]) -> None:
    body = {"code": "no-such-job", "message": "There is no job 7."}
    with (
        ConsoleClient(url=answer(404, json.dumps(body).encode()), credential="x") as client,
        pytest.raises(RequestRejected, match=r"There is no job 7\."),
    ):
        client.job(7)


def test_an_answer_without_content_is_one_too(answer: Callable[[int, bytes], str]) -> None:
    with ConsoleClient(url=answer(204, b""), credential="x") as client:
        client.remove_schedule(1)


@pytest.mark.parametrize("body", [b"<html>hello</html>", b"[]", b"", b"\xff\xfe"])
def test_another_server_is_not_taken_for_the_console(answer: Callable[[int, bytes], str], body: bytes) -> None:
    with ConsoleClient(url=answer(200, body), credential="x") as client, pytest.raises(ConsoleUnreachable):
        client.dashboard()


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "not a url", "http://[::1", "ftp://127.0.0.1/"])
def test_no_console_ends_with_its_own_status_and_one_sentence(url: str, tmp_path: Path) -> None:
    ended = subprocess.run(
        [MUSIC_CLOUD, "--url", url, "--credential", "x", "status"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert ended.returncode == 4
    assert ended.stderr.startswith("error: ")
    assert "Traceback" not in ended.stderr


def test_wrong_arguments_end_with_status_2(tmp_path: Path) -> None:
    for arguments in (
        ["sync", "--type", "everything"],
        ["token"],
        ["jobs", "show", "x"],
        ["jobs", "retry", "1", "--force"],
    ):
        ended = subprocess.run([MUSIC_CLOUD, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=30)
        assert ended.returncode == 2, ended
