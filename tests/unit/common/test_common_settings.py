"""Settings are read from one file, the environment wins, and a mistake is said in a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.errors import ConfigurationError
from common.settings import Settings, load, split_list


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the machine reaches these tests."""
    monkeypatch.chdir(tmp_path)
    for name in ("MUSIC_CLOUD_ENV_FILE", "ROOT_DIR", *(field.upper() for field in Settings.model_fields)):
        monkeypatch.delenv(name, raising=False)


def test_the_environment_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "music-cloud.env").write_text("FEEDS=https://a.example/x.m3u\nLOG_LEVEL=debug\r\n")
    monkeypatch.setenv("LOG_LEVEL", "error")
    settings = load(Settings)
    assert (settings.feeds, settings.log_level) == ("https://a.example/x.m3u", "error")


def test_a_file_of_the_older_system_is_read(tmp_path: Path) -> None:
    (tmp_path / "catalogsync.env").write_text("LIBRARY_DIR=/music\n")
    assert load(Settings).library == Path("/music")


def test_a_wrong_value_is_named_and_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEALTH_PORT", "s3cret-typed-into-the-wrong-line")
    with pytest.raises(ConfigurationError) as caught:
        load(Settings)
    assert "HEALTH_PORT" in caught.value.message
    assert "s3cret" not in caught.value.message


def test_a_named_file_that_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUSIC_CLOUD_ENV_FILE", "nowhere.env")
    with pytest.raises(ConfigurationError, match=r"nowhere\.env"):
        load(Settings)


def test_lists_are_trimmed_and_keep_their_order() -> None:
    assert split_list(" b, a,, b ,c ") == ("b", "a", "c")
