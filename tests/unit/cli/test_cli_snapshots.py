"""Changing the key that snapshots are signed with: announced first, then switched."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.app import app
from common.errors import ConfigurationError
from common.secret_files import ensure_secrets, read_secrets
from mirror.format.keys import SigningKey

KEY, NEXT = "SNAPSHOT_SIGNING_KEY", "SNAPSHOT_NEXT_SIGNING_KEY"


def run(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["signing-key", *arguments], catch_exceptions=True)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.output


def test_a_key_is_made_at_first_start_announced_and_switched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ensure_secrets(tmp_path / "data")
    before = read_secrets(tmp_path / "data", "exporter")
    assert len(base64.b64decode(before[KEY], validate=True)) == 32
    with pytest.raises(ConfigurationError, match="announce"):
        run("switch")

    told = run("announce")
    announced = read_secrets(tmp_path / "data", "exporter")
    assert announced == {**before, NEXT: announced[NEXT]}
    assert announced[NEXT] not in told
    with pytest.raises(ConfigurationError, match="switch"):
        run("announce")

    with pytest.raises(ConfigurationError, match="no mirror could follow"):
        run("switch")
    assert read_secrets(tmp_path / "data", "exporter") == announced
    manifest = tmp_path / "data" / "snapshots" / "current" / "manifest.json"
    manifest.parent.mkdir(parents=True)
    keys = [SigningKey.from_text(held).key_id for held in (before[KEY], announced[NEXT])]
    manifest.write_text(json.dumps({"keys": [{"key_id": key} for key in keys]}))

    run("switch")
    assert read_secrets(tmp_path / "data", "exporter") == {**before, KEY: announced[NEXT]}
    assert ensure_secrets(tmp_path / "data") == {}
    assert (tmp_path / "data" / "secrets" / "exporter" / "secrets.env").stat().st_mode & 0o777 == 0o600


def test_without_secrets_it_says_what_makes_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match="music-cloud init"):
        run("announce")


def test_a_key_that_no_snapshot_names_can_be_switched_to_on_purpose(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ensure_secrets(tmp_path / "data")
    run("announce")
    announced = read_secrets(tmp_path / "data", "exporter")
    run("switch", "--unseen")
    assert read_secrets(tmp_path / "data", "exporter")[KEY] == announced[NEXT]
