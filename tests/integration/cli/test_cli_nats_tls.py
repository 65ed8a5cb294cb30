"""TLS to the bus, with real certificates: who trusts the right authority connects, nobody else says a word."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from common.bus.connection import Bus
from common.errors import ConfigurationError
from common.secret_files import read_secrets
from common.settings import Settings
from tests.support.nats import find_server
from tests.support.stack import free_port

MUSIC_CLOUD = str(Path(sys.executable).parent / "music-cloud")


@dataclass
class Authority:
    """Signs certificates for 127.0.0.1."""

    folder: Path

    def __post_init__(self) -> None:
        self.folder.mkdir()
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.folder.name)])
        self.file = self.folder / "ca.pem"
        certificate = self._sign(self._name, self._key.public_key(), x509.BasicConstraints(ca=True, path_length=None))
        self.file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def issue(self) -> tuple[Path, Path]:
        """(certificate, key) for a server."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bus")])
        address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        certificate = self._sign(name, key.public_key(), address)
        files = self.folder / "server.pem", self.folder / "server-key.pem"
        files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        files[1].write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return files

    def _sign(self, name: x509.Name, key: ec.EllipticCurvePublicKey, extension: x509.ExtensionType) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(extension, critical=True)
            .sign(self._key, hashes.SHA256())
        )


@dataclass
class Encrypted:
    """A server whose configuration `music-cloud init` wrote."""

    root: Path
    port: int
    process: subprocess.Popen[bytes]
    ours: Authority
    other: Authority

    def settings(self, *, scheme: str = "tls", ca: Path | None = None) -> Settings:
        return Settings.model_validate(
            {
                "nats_url": f"{scheme}://127.0.0.1:{self.port}",
                "nats_user": "console",
                "nats_password": read_secrets(self.root, "console")["NATS_PASSWORD"],
                "nats_ca": ca,
            }
        )


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Encrypted]:
    ours, other = Authority(tmp_path / "ours"), Authority(tmp_path / "other")
    certificate, key = ours.issue()
    port, config = free_port(), tmp_path / "nats.conf"
    command = [MUSIC_CLOUD, "init", "--nats-config", str(config), "--nats-listen", f"127.0.0.1:{port}"]
    command += [
        "--nats-store",
        str(tmp_path / "store"),
        "--nats-tls-cert",
        str(certificate),
        "--nats-tls-key",
        str(key),
    ]
    subprocess.run(
        command, env={**os.environ, "ROOT_DIR": str(tmp_path / "data")}, cwd=tmp_path, check=True, capture_output=True
    )
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([find_server(), "-c", str(config)], stdout=log, stderr=log)
    yield Encrypted(tmp_path / "data", port, process, ours, other)
    process.terminate()
    process.wait(10)


async def connect(settings: Settings) -> Bus:
    return await Bus.connect(settings, service="console", instance="one")


async def test_who_trusts_the_authority_connects(server: Encrypted, caplog: pytest.LogCaptureFixture) -> None:
    bus = await connect(server.settings(ca=server.ours.file))
    assert bus.nc.is_connected
    ended = asyncio.Event()

    async def on_disconnect() -> None:
        ended.set()

    bus.nc._disconnected_cb = on_disconnect
    server.process.terminate()
    await asyncio.wait_for(ended.wait(), 10)
    await bus.close()
    # asyncio warns of the end of a connection that it takes for a plain one.
    assert "eof_received" not in caplog.text


async def test_nobody_else_is_believed_and_that_is_said_in_one_sentence(server: Encrypted, tmp_path: Path) -> None:
    wrong = server.settings(ca=server.other.file)
    environment = {
        **os.environ,
        "ROOT_DIR": str(server.root),
        "NATS_URL": wrong.nats_url,
        "NATS_CA": str(server.other.file),
        "ORIGIN_PORT": "0",
    }
    service = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "origin", env=environment, cwd=tmp_path, stderr=asyncio.subprocess.PIPE
    )
    # Each waits some seconds before it gives up: together they wait once.
    answers = await asyncio.gather(
        connect(wrong),
        connect(server.settings()),
        connect(server.settings(scheme="nats")),
        return_exceptions=True,
    )
    for answer in answers:
        assert isinstance(answer, ConfigurationError)
        assert "cannot be trusted" in answer.message
        assert "NATS_CA" in answer.message
        assert "\n" not in answer.message
    _, said = await asyncio.wait_for(service.communicate(), 20)
    assert service.returncode == 2
    assert b"NATS_CA" in said.splitlines()[-1]
    assert b"Traceback" not in said


async def test_the_password_is_not_told_to_a_server_that_does_not_encrypt(tmp_path: Path) -> None:
    """Somebody in between could say that no TLS is needed."""
    heard = bytearray()

    async def pretend(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"server_id":"x","version":"2.10.0","auth_required":true,"max_payload":1048576}\r\n')
        while data := await reader.read(1000):
            heard.extend(data)
        writer.close()

    listener = await asyncio.start_server(pretend, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    settings = Settings.model_validate(
        {"nats_url": f"tls://127.0.0.1:{port}", "nats_user": "console", "nats_password": "not-for-everyone"}
    )
    with pytest.raises(ConfigurationError, match="does not offer TLS"):
        await connect(settings)
    listener.close()
    assert b"not-for-everyone" not in heard


@pytest.mark.parametrize(
    ("content", "url", "words"),
    [
        (b"not a certificate", "tls://127.0.0.1:1", "not a certificate"),
        (None, "tls://127.0.0.1:1", "cannot be read"),
        (b"", "nats://127.0.0.1:1", "in the clear"),
    ],
)
async def test_an_authority_that_cannot_be_used(tmp_path: Path, content: bytes | None, url: str, words: str) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigurationError, match=words):
        await connect(Settings.model_validate({"nats_url": url, "nats_password": "x", "nats_ca": file}))


def test_a_certificate_without_its_key_is_refused(tmp_path: Path) -> None:
    ended = subprocess.run(
        [MUSIC_CLOUD, "init", "--nats-config", "x.conf", "--nats-tls-cert", "x.pem"],
        env={**os.environ, "ROOT_DIR": str(tmp_path / "data")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert ended.returncode == 2
    assert "belong together" in ended.stderr
    assert not (tmp_path / "x.conf").exists()
