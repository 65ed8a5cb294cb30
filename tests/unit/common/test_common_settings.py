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


@pytest.mark.parametrize(
    ("name", "wrong", "says"),
    [
        ("LOG_LEVEL", "loud", "should be debug, info, warning or error"),
        ("LOG_FORMAT", "xml", "should be text or json"),
        ("NATS_URL", "http://hidden", "should be nats://host:4222 or tls://host:4222"),
        ("NATS_URL", "nats://one:4222,ws://hidden", "should be nats://host:4222 or tls://host:4222"),
        ("NATS_URL", "nats://user:hidden", "should be nats://host:4222 or tls://host:4222"),
        ("NATS_URL", ",", "should be nats://host:4222 or tls://host:4222"),
        ("OBJECT_ENDPOINT", "hidden:9000", "begins with http:// or https://"),
        ("ALLOW_PRIVATE_HOSTS", "nas,http://hidden", "should be names of hosts"),
        ("LEASE_SECONDS", "inf", "should be a finite number"),
        ("STACK_ID", "hidden!", "should be 8 to 128 letters, digits"),
    ],
)
def test_what_would_only_fail_later_is_refused_at_once(
    name: str, wrong: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, wrong)
    with pytest.raises(ConfigurationError) as caught:
        load(Settings)
    assert name in caught.value.message
    assert says in caught.value.message
    assert "hidden" not in caught.value.message


@pytest.mark.parametrize(
    ("name", "given", "read"),
    [
        ("LOG_LEVEL", "WARNING", "warning"),
        ("NATS_URL", "127.0.0.1:4222", "127.0.0.1:4222"),
        ("NATS_URL", "tls://a:1, tls://user:word@[::1]:2,", "tls://a:1,tls://user:word@[::1]:2"),
    ],
)
def test_other_ways_to_write_a_value_are_understood(
    name: str, given: str, read: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, given)
    assert getattr(load(Settings), name.lower()) == read


def test_a_named_file_that_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUSIC_CLOUD_ENV_FILE", "nowhere.env")
    with pytest.raises(ConfigurationError, match=r"nowhere\.env"):
        load(Settings)


def test_lists_are_trimmed_and_keep_their_order() -> None:
    assert split_list(" b, a,, b ,c ") == ("b", "a", "c")
