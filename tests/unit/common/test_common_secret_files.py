"""Each account has a file of its own; what is there is kept, also what the older single file held."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from dotenv import dotenv_values

from common.secret_files import ACCOUNTS, ensure_secrets, read_secrets, secrets_path
from common.settings import Settings, load


class ExporterLike(Settings):
    SERVICE = "exporter"


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the machine reaches these tests."""
    monkeypatch.chdir(tmp_path)
    for name in ("MUSIC_CLOUD_ENV_FILE", "ROOT_DIR", *(field.upper() for field in Settings.model_fields)):
        monkeypatch.delenv(name, raising=False)


def everything(root: Path) -> dict[str, dict[str, str]]:
    return {account: read_secrets(root, account) for account in ACCOUNTS}


def test_each_account_gets_what_it_needs_and_nothing_else(tmp_path: Path) -> None:
    made = ensure_secrets(tmp_path)
    found = everything(tmp_path)
    assert {account: set(values) for account, values in found.items()} == {
        account: set(names) for account, names in ACCOUNTS.items()
    }
    assert len({values["NATS_PASSWORD"] for values in found.values()}) == len(ACCOUNTS)
    assert found["console"]["CONSOLE_TOKEN"] == found["operator"]["CONSOLE_TOKEN"] == made["CONSOLE_TOKEN"]
    assert found["console"]["ORIGIN_TOKEN_SECRET"] == found["origin"]["ORIGIN_TOKEN_SECRET"]


def test_only_the_owner_of_the_files_can_read_them(tmp_path: Path) -> None:
    ensure_secrets(tmp_path)
    for account in ACCOUNTS:
        path = secrets_path(tmp_path, account)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_second_time_changes_nothing(tmp_path: Path) -> None:
    ensure_secrets(tmp_path)
    before = {account: secrets_path(tmp_path, account).stat().st_mtime_ns for account in ACCOUNTS}
    assert ensure_secrets(tmp_path) == {}
    assert {account: secrets_path(tmp_path, account).stat().st_mtime_ns for account in ACCOUNTS} == before


def test_one_that_was_lost_is_made_again_and_shared_ones_stay_the_same(tmp_path: Path) -> None:
    ensure_secrets(tmp_path)
    before = everything(tmp_path)
    secrets_path(tmp_path, "operator").unlink()
    assert set(ensure_secrets(tmp_path)) == {"operator/NATS_PASSWORD"}
    assert read_secrets(tmp_path, "operator")["CONSOLE_TOKEN"] == before["console"]["CONSOLE_TOKEN"]


def test_first_starts_at_once_agree(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(lambda _: ensure_secrets(tmp_path), range(8)))
    assert [bool(one) for one in made].count(True) == 1
    assert ensure_secrets(tmp_path) == {}


def test_the_single_file_of_older_versions_is_taken_over_and_kept(tmp_path: Path) -> None:
    old = tmp_path / "secrets.env"
    old.write_text(
        "NATS_PASSWORD=everyones\nNATS_READER_PASSWORD=known-outside\nCONSOLE_TOKEN=a-token-that-people-have\n"
        'ORIGIN_TOKEN_SECRET=0123456789012345678901234567890123\nOBJECT_SECRET_KEY="it\'s $mine #1"\n'
    )
    values = dotenv_values(old)
    ensure_secrets(tmp_path)
    found = everything(tmp_path)
    assert found["reader"] == {"NATS_PASSWORD": "known-outside"}
    assert found["console"]["CONSOLE_TOKEN"] == found["operator"]["CONSOLE_TOKEN"] == values["CONSOLE_TOKEN"]
    assert found["origin"]["ORIGIN_TOKEN_SECRET"] == values["ORIGIN_TOKEN_SECRET"]
    # What the owner had put there himself was read by every service, and still is.
    assert found["uploader"]["OBJECT_SECRET_KEY"] == values["OBJECT_SECRET_KEY"]
    # The password of the account that could do everything is nobody's any more.
    assert "everyones" not in {one["NATS_PASSWORD"] for one in found.values()}
    assert not old.exists()
    assert dotenv_values(tmp_path / "secrets.env.taken-over") == values


def test_the_values_are_on_the_disk_before_the_single_file_is_put_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut in between must leave the one or the other."""
    old = tmp_path / "secrets.env"
    old.write_text("CONSOLE_TOKEN=a-token-that-people-have\n")
    synced: set[Path] = set()
    sync = os.fsync

    def note(descriptor: int) -> None:
        sync(descriptor)
        if old.exists():
            synced.add(Path(f"/proc/self/fd/{descriptor}").readlink())

    monkeypatch.setattr(os, "fsync", note)
    ensure_secrets(tmp_path)
    assert {tmp_path / "secrets", *(secrets_path(tmp_path, account).parent for account in ACCOUNTS)} <= synced


def test_a_service_reads_its_own_secrets_and_is_its_own_user(tmp_path: Path) -> None:
    ensure_secrets(tmp_path / "data")
    settings = load(ExporterLike)
    assert settings.nats_password is not None
    assert settings.nats_password.get_secret_value() == read_secrets(tmp_path / "data", "exporter")["NATS_PASSWORD"]
    assert settings.bus_user == "exporter"
    assert settings.nats_password.get_secret_value() not in repr(settings)


def test_a_value_set_by_a_person_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ensure_secrets(tmp_path / "data")
    (tmp_path / "music-cloud.env").write_text("NATS_PASSWORD=chosen\n")
    monkeypatch.setenv("NATS_USER", "somebody")
    settings = load(ExporterLike)
    assert settings.nats_password is not None
    assert (settings.bus_user, settings.nats_password.get_secret_value()) == ("somebody", "chosen")
