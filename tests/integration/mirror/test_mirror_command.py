"""``music-cloud-mirror`` as a person or a program uses it: sentences, exit statuses, certificates."""

from __future__ import annotations

import base64
import contextlib
import ipaddress
import json
import sqlite3
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from mirror.cli import run
from mirror.client import Mirror, current_database
from mirror.folder import Folder
from mirror.format.keys import SigningKey
from tests.support.mirrors import assert_shows, run_mirror
from tests.support.publisher import Publisher, PublisherServer, Reply, catalog, serving


@pytest.fixture
def publisher() -> Publisher:
    return Publisher()


@pytest.fixture
def server(publisher: Publisher) -> Iterator[PublisherServer]:
    with serving(publisher) as running:
        yield running


@dataclass(frozen=True)
class Done:
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Run the command in this process, which spares its start."""

    def run_here(*arguments: object) -> Done:
        capsys.readouterr()
        status = run([str(argument) for argument in arguments])
        return Done(status, *capsys.readouterr())

    return run_here


Command = Callable[..., Done]


def test_pull_says_what_it_did_and_whom_it_trusts(
    command: Command, publisher: Publisher, server: PublisherServer, tmp_path: Path
) -> None:
    published = publisher.publish(catalog(300))

    first = command("pull", server.url, "--into", tmp_path)
    second = command("pull", server.url, "--into", tmp_path, "--quiet")

    assert first.returncode == 0, first.stderr
    assert base64.b64encode(publisher.key.public_key).decode() in first.stdout
    assert f"Now {published.id}, by a pack of everything" in first.stdout
    assert [line.split()[0] for line in first.stderr.splitlines()] == [
        "asking",
        "downloading",
        "applying",
        "checking",
        "switching",
    ]
    assert (second.returncode, second.stdout, second.stderr) == (0, f"Nothing new: {published.id}.\n", "")


def test_a_key_may_be_given_as_text_or_as_a_file(
    command: Command, publisher: Publisher, server: PublisherServer, tmp_path: Path
) -> None:
    published = publisher.publish(catalog(3))
    text = base64.b64encode(publisher.key.public_key).decode()
    (tmp_path / "key").write_text(text + "\n")

    for number, key in enumerate((text, tmp_path / "key")):
        done = command("pull", server.url, "--into", tmp_path / str(number), "--key", key)
        assert (done.returncode, "Trusting" in done.stdout) == (0, False)
        assert_shows(tmp_path / str(number), published)


def test_a_token_comes_from_a_file_or_the_environment(
    command: Command, monkeypatch: pytest.MonkeyPatch, publisher: Publisher, server: PublisherServer, tmp_path: Path
) -> None:
    publisher.publish(catalog(3))
    server.token = "a-secret-of-this-catalog"
    (tmp_path / "token").write_text(server.token + "\n")

    without = command("pull", server.url, "--into", tmp_path / "m")
    by_file = command("pull", server.url, "--into", tmp_path / "m", "--token-file", tmp_path / "token")
    monkeypatch.setenv("MUSIC_CLOUD_MIRROR_TOKEN", server.token)
    by_variable = command("pull", server.url, "--into", tmp_path / "n")

    assert (without.returncode, by_file.returncode, by_variable.returncode) == (4, 0, 0)
    assert "--token-file" in without.stderr
    assert server.token not in by_file.stdout + by_file.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "code"),
    [
        (["pull", "https://user:hush@h/a/b", "--into", "DIR"], 2, "url-credentials"),
        (["pull", "http://h.example/a/b", "--into", "DIR"], 2, "url-not-encrypted"),
        (["pull", "SERVER", "--into", "DIR", "--key", "AAAA"], 2, "key-unreadable"),
        (["pull", "SERVER", "--into", "DIR", "--token-file", "DIR/none"], 2, "secret-unreadable"),
        (["pull", "SERVER", "--into", "FILE"], 1, "folder-not-writable"),
        (["pull", "http://127.0.0.1:9/a/b", "--into", "DIR", "--wait", "0"], 3, "server-unreachable"),
        (["pull", "SERVER/none", "--into", "DIR"], 4, "no-such-catalog"),
        (["watch", "SERVER", "--into", "DIR", "--nats", "nats://h.example:4222"], 2, "url-not-encrypted"),
        (["verify", "DIR"], 1, "no-snapshot"),
    ],
)
def test_each_refusal_has_a_sentence_and_a_status(
    command: Command,
    publisher: Publisher,
    server: PublisherServer,
    tmp_path: Path,
    arguments: list[str],
    status: int,
    code: str,
) -> None:
    publisher.publish(catalog(3))
    (tmp_path / "file").write_text("")
    places = {"SERVER": server.url, "DIR": str(tmp_path / "m"), "FILE": str(tmp_path / "file")}
    for name, place in places.items():
        arguments = [argument.replace(name, place) for argument in arguments]

    refused = command(*arguments)

    assert refused.returncode == status
    assert f"[{code}]" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert "hush" not in refused.stderr


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--every", "99999999999"),
        ("--every", "0"),
        ("--keep", "-1"),
        ("--keep", "9" * 5000),
        ("--pack-wait", "1e3"),
        ("--max-pack-size", "٣"),
    ],
)
def test_a_number_that_cannot_be_meant(
    command: Command, capsys: pytest.CaptureFixture[str], option: str, value: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        command("watch", "https://h.example/a/b", "--into", "never", option, value)

    assert ended.value.code == 2
    least = 1 if option in ("--every", "--max-pack-size") else 0
    assert f"argument {option}: give a whole number from {least} to 1000000000" in capsys.readouterr().err


def test_what_is_not_to_be_trusted_has_a_status_of_its_own(
    command: Command, publisher: Publisher, server: PublisherServer, tmp_path: Path
) -> None:
    publisher.publish(catalog(3))
    other = base64.b64encode(SigningKey.generate().public_key).decode()

    refused = command("pull", server.url, "--into", tmp_path, "--key", other)

    assert (refused.returncode, "[key-unknown]" in refused.stderr) == (5, True)


def test_two_at_once(command: Command, publisher: Publisher, server: PublisherServer, tmp_path: Path) -> None:
    publisher.publish(catalog(3))

    with Folder(tmp_path).locked():
        refused = command("pull", server.url, "--into", tmp_path)

    assert (refused.returncode, "[busy]" in refused.stderr) == (6, True)


def test_verify_reads_everything(
    command: Command, publisher: Publisher, server: PublisherServer, tmp_path: Path
) -> None:
    folder = tmp_path / "m"
    published = publisher.publish(catalog(50))
    with Mirror(folder, server.url) as mirror:
        mirror.pull()

    good = command("verify", folder)
    assert (good.returncode, good.stderr) == (0, "")
    assert published.id in good.stdout
    assert publisher.key.key_id in good.stdout
    other = command("verify", folder, "--key", base64.b64encode(SigningKey.generate().public_key).decode())
    assert (other.returncode, "[key-unknown]" in other.stderr) == (5, True)

    database = current_database(folder)
    database.chmod(0o644)
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.execute("UPDATE catalog_tracks SET name = name || '!' WHERE song_id = 7")
        connection.commit()
    changed = command("verify", folder)
    assert (changed.returncode, "[content-mismatch]" in changed.stderr) == (5, True)
    assert "pull --full" in changed.stderr

    database.write_bytes(b"not a database" * 1000)
    damaged = command("verify", folder)
    assert (damaged.returncode, "[content-damaged]" in damaged.stderr) == (5, True)


def test_verify_checks_a_folder_that_holds_just_the_two_files(
    command: Command, publisher: Publisher, server: PublisherServer, tmp_path: Path
) -> None:
    publisher.publish(catalog(5))
    with Mirror(tmp_path / "m", server.url) as mirror:
        folder = mirror.pull().snapshot.folder

    unknown = command("verify", folder)
    known = command("verify", folder, "--key", base64.b64encode(publisher.key.public_key).decode())

    assert (unknown.returncode, "--key" in unknown.stderr) == (2, True)
    assert known.returncode == 0


def test_status_tells_what_is_here_and_how_the_last_pull_ended(
    command: Command, publisher: Publisher, server: PublisherServer, tmp_path: Path
) -> None:
    nothing = command("status", tmp_path)
    assert (nothing.returncode, "no snapshot" in nothing.stdout) == (1, True)
    published = publisher.publish(catalog(5))
    command("pull", server.url, "--into", tmp_path)
    server.replies["refs"] = [Reply(status=418)]
    command("pull", server.url, "--into", tmp_path)

    found = json.loads(command("status", tmp_path, "--json").stdout)

    assert found["snapshot_id"] == published.id
    assert (found["catalog"], found["track_count"], found["last_pull"]) == ("somebody/music", 5, "answer")
    assert found["trusted_keys"] == {publisher.key.key_id: base64.b64encode(publisher.key.public_key).decode()}
    assert published.id in command("status", tmp_path).stdout


def test_a_certificate_that_nobody_vouches_for(tmp_path: Path) -> None:
    with tls_server(tmp_path) as (port, certificate):
        url = f"https://127.0.0.1:{port}/a/b"

        refused = run_mirror("pull", url, "--into", tmp_path / "m", "--wait", 0)
        trusted = run_mirror("pull", url, "--into", tmp_path / "m", "--wait", 0, SSL_CERT_FILE=str(certificate))

    assert (refused.returncode, "[certificate]" in refused.stderr) == (3, True)
    assert (trusted.returncode, "[no-such-catalog]" in trusted.stderr) == (4, True)


@contextlib.contextmanager
def tls_server(folder: Path) -> Iterator[tuple[int, Path]]:
    """(port, certificate) of a server that answers 404 to everything, with a certificate that it signed itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "certificate.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "certificate.pem", folder / "key.pem")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(404)

        def log_message(self, format: str, *args: object) -> None:
            return

    class Server(HTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            """Clients that do not trust it are what is tested."""

    server = Server(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield int(server.server_address[1]), folder / "certificate.pem"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
