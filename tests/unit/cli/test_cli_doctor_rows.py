"""What the doctor makes of what it sees: rows, commands, and the exit status."""

from __future__ import annotations

from pathlib import Path

import pytest
from nats.js.api import RetentionPolicy, StreamConfig

from cli.doctor.bus import durability_row, stream_row
from cli.doctor.machine import folder_rows, secret_rows
from cli.doctor.main import STATUS_OF
from cli.doctor.row import error, ok, warning, worst
from cli.doctor.services import SERVICES, read
from cli.settings import CliSettings
from common.audit.stack import MARKER
from common.contracts.streams import STREAMS
from common.secret_files import ensure_secrets, secrets_path


@pytest.fixture
def settings(tmp_path: Path) -> CliSettings:
    (tmp_path / "my data").mkdir()
    return CliSettings(root_dir=tmp_path / "my data")


def test_the_worst_row_decides_the_exit_status() -> None:
    rows = [ok("a", "well"), warning("b", "hm"), error("c", "no")]
    assert [STATUS_OF[worst(rows[:count])] for count in range(4)] == [0, 0, 1, 2]


def test_secrets_are_looked_for_and_must_be_their_owners_alone(settings: CliSettings) -> None:
    (missing,) = secret_rows(settings)
    assert (missing.status, missing.mend) == ("error", "music-cloud init")
    ensure_secrets(settings.root_dir)
    (well,) = secret_rows(settings)
    assert well.status == "ok"
    secrets_path(settings.root_dir, "origin").chmod(0o644)
    (loose,) = secret_rows(settings)
    assert loose.status == "warning"
    assert loose.mend == f"sudo chmod -R go= '{settings.root_dir}/secrets'"
    secrets_path(settings.root_dir, "uploader").write_bytes(b"\xff\xfe")
    (damaged,) = secret_rows(settings)
    assert (damaged.status, damaged.mend) == ("error", f"ls -lR '{settings.root_dir}/secrets'")
    assert "is UTF-16" in damaged.message
    secrets_path(settings.root_dir, "uploader").unlink()
    ensure_secrets(settings.root_dir)
    secrets_path(settings.root_dir, "console").write_text("NATS_PASSWORD=x\n")
    found = secret_rows(settings)[0]
    assert found.status == "error"
    assert "console (CONSOLE_TOKEN, ORIGIN_TOKEN_SECRET)" in found.message


def test_commands_name_the_folders_as_they_can_be_typed(settings: CliSettings) -> None:
    assert [row.status for row in folder_rows(settings)] == ["ok"]
    settings.library.mkdir()
    (settings.library / MARKER).write_text('{"stack": "somebody-else", "since": "2026-01-01T00:00:00+00:00"}')
    (settings.root_dir / "stack-id").write_text("this-one-here\n")
    (row,) = folder_rows(settings)
    assert row.status == "error"
    assert "belongs to another Music Cloud (since 2026-01-01)" in row.message
    assert row.mend == f"rm '{settings.library / MARKER}'"


def test_a_stream_that_was_changed_by_hand_is_named() -> None:
    (catalog,) = [spec for spec in STREAMS if spec.name == "CATALOG"]
    config = StreamConfig(
        name="CATALOG",
        subjects=list(catalog.subjects),
        retention=RetentionPolicy.LIMITS,
        max_msgs_per_subject=1,
        duplicate_window=120,
        allow_direct=True,
        deny_purge=True,
        max_age=0,
    )
    assert stream_row(catalog, config) is None
    config.deny_purge, config.max_msgs_per_subject = False, 5
    row = stream_row(catalog, config)
    assert row is not None
    assert "CATALOG has another max_msgs_per_subject and deny_purge" in row.message


def test_durability_is_judged_by_version_and_configuration(settings: CliSettings) -> None:
    assert durability_row(settings, (2, 9, 10)).status == "warning"
    assert durability_row(settings, (2, 11, 0)).status == "ok"
    config = settings.root_dir / "nats" / "nats-server.conf"
    config.parent.mkdir()
    config.write_text("jetstream {\n  store_dir: x\n}\n")
    assert durability_row(settings, (2, 11, 0)).status == "warning"
    config.write_text("jetstream {\n  store_dir: x\n  sync_interval: always\n}\n")
    assert durability_row(settings, (2, 11, 0)).status == "ok"


def test_the_consoles_answer_is_read_with_who_is_missing() -> None:
    services = [{"service": name, "status": "ready"} for name in SERVICES if name != "uploader"]
    services.append({"service": "exporter", "status": "lost"})
    low = {"service": "downloader", "workers": ["download-1", "download-2"], "code": "low-space", "severity": "warning"}
    rows, running = read({"items": [{**low, "message": "little room", "mend": "df -h"}, "?"], "services": services})
    assert running == frozenset(SERVICES) - {"uploader"}
    assert [(row.subject, row.status, row.mend) for row in rows] == [
        ("downloader (download-1, download-2)", "warning", "df -h"),
        ("uploader", "warning", "uploader"),
    ]
    rows, running = read({"items": None, "services": "nonsense"})
    assert len(rows) == len(SERVICES)
    assert running == frozenset()
