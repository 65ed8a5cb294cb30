"""Music Cloud as people run it: compose.yaml on a real Docker engine."""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
import ssl
import stat
import subprocess
import sys
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import nats
import pytest

from tests.support.audio import make_audio
from tests.support.docker import (
    IMAGES,
    ROOT,
    SERVICES,
    Engine,
    NoEngine,
    Project,
    clean_stop,
    reachable_from_containers,
)
from tests.support.docker import (
    engine as running_engine,
)
from tests.support.s3 import S3Bucket
from tests.support.stack import dump, free_port

# The first of them may have to start an engine and make all images.
pytestmark = [pytest.mark.containers, pytest.mark.timeout(480)]

SONGS = 600
PROGRAM = ("libs", "services", "deploy", "Dockerfile", "compose.yaml", "requirements.lock")
"""What the images and the stack are made of."""


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """The engine of this machine, or one of our own; skips where there can be none."""
    try:
        with running_engine() as found:
            yield found
    except NoEngine as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="session")
def images(engine: Engine) -> Engine:
    """The engine, with all images of this checkout."""
    engine.build(ROOT, "test")
    return engine


@pytest.fixture
def project(images: Engine, tmp_path: Path) -> Iterator[Callable[..., Project]]:
    """Lay out a stack with settings; its containers go with the test."""
    made: list[Project] = []

    def lay_out(**settings: str) -> Project:
        made.append(Project(tmp_path / f"nas{len(made)}", images, **settings))
        return made[-1]

    yield lay_out
    for one in made:
        one.down()


@pytest.fixture(scope="session")
def music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a few albums."""
    folder = tmp_path_factory.mktemp("music")
    folder.chmod(0o755)  # the containers' user is not ours
    for number in range(SONGS):
        make_audio(
            folder / f"album {number % 4}" / f"{number:03}.wav",
            ext="wav",
            seconds=0.5,
            title=f"Song {number}",
            artist=f"Artist {number % 4}",
            frequency=200 + number,
        )
    return folder


def digests(files: list[Path]) -> Counter[str]:
    """How often each content is there."""
    return Counter(hashlib.sha256(path.read_bytes()).hexdigest() for path in files)


def each_file_once(stack: Project, music: Path) -> None:
    """The library holds the bytes of each file of the music folder exactly once."""
    wanted = digests(sorted(music.rglob("*.wav")))
    stored = digests([stack.library / name for name in stack.files()])
    assert stored == wanted, f"{len(stack.files())} files, {len(stored)} different"


def test_images_hold_their_service_and_no_tools(images: Engine, capfd: pytest.CaptureFixture[str]) -> None:
    sizes = {}
    for name in IMAGES:
        image = f"music-cloud/{name}:test"
        told = images.inspect(image)
        sizes[name] = told["Size"] / 1e6
        assert told["Config"]["User"] not in {"", "0", "root", "0:0"}
        assert told["Config"]["Labels"]["org.opencontainers.image.title"] == f"music-cloud-{name}"
        others = sorted({*IMAGES, "pip", "setuptools", "hatchling", "pytest"} - {name})
        code = f"from importlib.util import find_spec as f; print([n for n in {[name, *others]!r} if f(n)])"
        found = images.docker("run", "--rm", "--network=none", "--entrypoint=python3", image, "-c", code)
        assert found.strip() == f"['{name}']"
    base = images.inspect("python:3.11-slim")["Size"] / 1e6
    with capfd.disabled():
        listed = ", ".join(f"{name} {size:.0f}" for name, size in sizes.items())
        print(f"\nimage sizes in MB, {base:.0f} of each shared with python:3.11-slim: {listed}", file=sys.stderr)
    assert max(sizes.values()) - base < 150, sizes


def test_main_job_with_four_downloaders_and_two_uploaders(
    project: Callable[..., Project], music: Path, s3_bucket: S3Bucket
) -> None:
    endpoint = urlsplit(s3_bucket.server.endpoint)
    assert endpoint.port is not None
    with reachable_from_containers(endpoint.port) as port:
        stack = project(
            LOCAL_MEDIA_IMPORT_PATH=str(music),
            IMPORT_MODE="copy",
            # So few at once that there is time for all the kills.
            DOWNLOAD_CONCURRENCY="1",
            SOURCE_MAX_IN_FLIGHT="1",
            **{**s3_bucket.settings_env, "OBJECT_ENDPOINT": f"http://s3.test:{port}"},
        )
        (stack.directory / "compose.override.yaml").write_text(
            'services: {uploader: {extra_hosts: ["s3.test:host-gateway"]}}\n'
        )
        stack.up("--scale", "downloader=4", "--scale", "uploader=2")
        assert httpx.get(f"http://127.0.0.1:{stack.web_port}/api/jobs", trust_env=False).status_code == 401

        job = stack.job()
        stack.until(lambda: len(stack.files()) > 5, seconds=60, what="the first files")
        for service in ("downloader", "uploader", "collector", "exporter", "origin", "nats", "console"):
            stack.kill(service)
            assert len(stack.files()) < SONGS, f"the job was over when {service} was killed"
        stack.wait_restarted()
        assert stack.wait_job(job, seconds=240) == "completed", stack.items(job)

        each_file_once(stack, music)
        assert Counter(item["status"] for item in stack.items(job, stage="download")) == {"succeeded": SONGS}
        assert Counter(item["status"] for item in stack.items(job, stage="upload")) == {"succeeded": SONGS}
        assert s3_bucket.keys() == stack.files()
        catalog = stack.root / "state" / "catalog.db"
        stack.until(
            lambda: len(dump(catalog)["file_locations"]) == 2 * SONGS, seconds=30, what="all places in the catalog"
        )
        assert_belongs_to_the_right_user(stack)
        assert clean_stop(stack, ("nats", *SERVICES)) < 10


def assert_belongs_to_the_right_user(stack: Project) -> None:
    """Everything that was written belongs to PUID:PGID, with the permissions that UMASK leaves."""
    for path in stack.root.rglob("*"):
        kept = path.lstat()
        assert (kept.st_uid, kept.st_gid) == (1234, 2345), path
        mode = stat.S_IMODE(kept.st_mode)
        if path.is_relative_to(stack.root / "secrets"):
            assert mode == (0o700 if path.is_dir() else 0o600), path
        elif path.is_relative_to(stack.library) and path.name in {Path(name).name for name in stack.files()}:
            assert mode == 0o640, path
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o750 for path in stack.library.iterdir() if path.is_dir())


async def test_the_bus_is_opened_with_tls_and_a_library_belongs_to_one_stack(
    project: Callable[..., Project], tmp_path: Path
) -> None:
    make_audio(tmp_path / "music" / "one.wav", ext="wav", seconds=0.5, title="One", artist="A")
    (tmp_path / "music").chmod(0o755)
    port = free_port()
    stack = project(
        LOCAL_MEDIA_IMPORT_PATH=str(tmp_path / "music"),
        IMPORT_MODE="copy",
        COMPOSE_FILE="compose.yaml:compose.bus.yaml",
        NATS_PORT=str(port),
        NATS_URL="tls://nats:4222",
        NATS_TLS_CERT="/data/nats/tls/cert.pem",
        NATS_TLS_KEY="/data/nats/tls/key.pem",
        NATS_CA="/config/bus.pem",
    )
    make_certificate(stack.root / "nats" / "tls", "DNS:nats,IP:127.0.0.1")
    shutil.copy(stack.root / "nats" / "tls" / "cert.pem", stack.directory / "config" / "bus.pem")
    stack.up()
    assert stack.wait_job(stack.job()) == "completed"

    account = {"user": "reader", "password": stack.secret("reader", "NATS_PASSWORD")}
    trusted = ssl.create_default_context(cafile=str(stack.directory / "config" / "bus.pem"))
    bus = await nats.connect(f"tls://127.0.0.1:{port}", tls=trusted, **account)
    answer = await bus.request("$JS.API.DIRECT.GET.CATALOG", b'{"last_by_subj": "song.listed.>"}')
    assert json.loads(answer.data)["data"]["name"] == "One"
    await bus.close()

    owner = stack.library.stat()
    second = project(LIBRARY_DIR=str(stack.library), PUID="1500", PGID="1500")
    second.compose("up", "--detach", "--no-build", "downloader", check=False)
    second.until(
        lambda: "downloader: LIBRARY_DIR" in second.compose("logs", "--no-log-prefix", "downloader", check=False),
        seconds=40,
        what="a refusal",
    )
    assert (stack.library.stat().st_uid, stack.library.stat().st_gid) == (owner.st_uid, owner.st_gid) == (1234, 2345)
    assert stack.wait_job(stack.job()) == "completed"


def make_certificate(folder: Path, names: str) -> None:
    """A certificate that is its own authority, as the documents say how."""
    folder.mkdir(parents=True)
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", str(folder / "key.pem"))
    subject = ("-subj", "/CN=Music Cloud", "-addext", f"subjectAltName={names}")
    command = ["openssl", "req", "-x509", *key, "-days", "3650", *subject, "-out", str(folder / "cert.pem")]
    subprocess.run(command, check=True, capture_output=True)


def test_an_upgrade_keeps_everything(
    project: Callable[..., Project], images: Engine, music: Path, tmp_path: Path
) -> None:
    before = tmp_path / "before"
    build_older_images(images, before)
    stack = project(LOCAL_MEDIA_IMPORT_PATH=str(music), IMPORT_MODE="copy")
    stack.settings["MUSIC_CLOUD_VERSION"] = "before"
    stack.unpack(before)
    stack.up()
    job = stack.job()
    assert stack.wait_job(job) == "completed", stack.items(job)
    catalog = stack.root / "state" / "catalog.db"
    stack.until(lambda: len(dump(catalog)["file_locations"]) == SONGS, seconds=30, what="the catalog to be complete")
    rows, files, secrets = dump(catalog), stack.files(), stack.secret("console", "CONSOLE_TOKEN")

    stack.settings["MUSIC_CLOUD_VERSION"] = "test"
    stack.unpack(ROOT)
    stack.up()

    assert stack.secret("console", "CONSOLE_TOKEN") == secrets
    assert [one["job_id"] for one in stack.http.get("/api/jobs").json()["items"]] == [job]
    second = stack.job()
    assert stack.wait_job(second) == "completed", stack.items(second)
    assert stack.items(second, stage="download") == []
    assert stack.files() == files
    stack.until(lambda: dump(catalog) == rows, seconds=30, what="the catalog to be as it was")


def build_older_images(engine: Engine, tree: Path) -> None:
    """Make the images of the newest commit that the program differs from; skips where the history has none."""

    def git(*arguments: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, check=False)

    edited = git("status", "--porcelain", "--", *PROGRAM).stdout.strip()
    changed = git("log", "-1", "--format=%H", "--", *PROGRAM).stdout.decode().strip()
    archive = git("archive", "HEAD" if edited else f"{changed}~1")
    if archive.returncode != 0:
        pytest.skip("the history of this checkout has no older version of the program")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as content:
        content.extractall(tree, filter="tar")
    engine.build(tree, "before")


@pytest.mark.parametrize(
    ("line", "who", "says"),
    [
        ("PUID=me", "init", "PUID takes a number"),
        ("UMASK=9", "init", "UMASK takes three or four octal digits"),
        ("LEASE_SECONDS=soon", "init", "LEASE_SECONDS"),
        ("LIBARY_DIR=/music", "init", "LIBARY_DIR: no such setting; did you mean LIBRARY_DIR?"),
        ("DOWNLOAD_CONCURRENCY=0", "downloader", "DOWNLOAD_CONCURRENCY"),
    ],
)
def test_a_wrong_setting_is_refused_with_one_sentence(
    project: Callable[..., Project], line: str, who: str, says: str
) -> None:
    stack = project()
    stack.settings.pop(line.partition("=")[0], None)
    stack.write_settings(line)
    stack.compose("up", "--detach", "--no-build", "--no-deps", who, check=False)
    container = stack.containers(who)[0]
    stack.until(lambda: stack.state(container)["ExitCode"] == 2, seconds=20, what=f"{who} to refuse")

    said = stack.engine.docker("logs", container, check=False).strip()
    assert says in said
    assert re.match(rf"(error|{who}): ", said), said
    assert "Traceback" not in said
    assert len(set(said.splitlines())) == 1, said
    assert not list(stack.root.rglob("*.*")), "something was made"
