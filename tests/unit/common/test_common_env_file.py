"""Every line of an env file is judged: what is harmless is accepted, what would lose a setting is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.env_file import read_env_file
from common.errors import ConfigurationError
from common.settings import Settings, load


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the machine reaches these tests."""
    monkeypatch.chdir(tmp_path)
    for name in ("MUSIC_CLOUD_ENV_FILE", "ROOT_DIR", *(field.upper() for field in Settings.model_fields)):
        monkeypatch.delenv(name, raising=False)


def refusal(content: bytes, name: str = "music-cloud.env") -> str:
    Path(name).write_bytes(content)
    with pytest.raises(ConfigurationError) as caught:
        load(Settings)
    assert "\n" not in caught.value.message
    return caught.value.message


@pytest.mark.parametrize(
    "content",
    [
        b"LOG_LEVEL=debug\nFEEDS=/lists\n",
        b"LOG_LEVEL=debug\r\nFEEDS=/lists\r\n",
        b"\xef\xbb\xbfLOG_LEVEL=debug\r\nFEEDS=/lists",
        b"# comment\n\n export LOG_LEVEL = 'debug' # why\n\nFEEDS=\"/lists\"\n",
        b"log_level=debug\nFeeds=/lists\n",
    ],
)
def test_files_of_every_editor_give_the_same_settings(content: bytes) -> None:
    Path("music-cloud.env").write_bytes(content)
    settings = load(Settings)
    assert (settings.log_level, settings.feeds) == ("debug", "/lists")


def test_the_first_setting_behind_a_byte_order_mark_is_not_lost() -> None:
    Path("music-cloud.env").write_bytes(b"\xef\xbb\xbfROOT_DIR=elsewhere\r\n")
    assert load(Settings).root_dir == Path("elsewhere")


def test_a_misspelled_setting_is_named_with_its_line_and_the_right_one() -> None:
    said = refusal(b"# mine\n\nLOG_LEVEL=debug\n\nDOWNLOAD_CONCURENCY=3\n")
    assert said == (
        "Mend music-cloud.env and start again: line 5: DOWNLOAD_CONCURENCY: no such setting; "
        "did you mean DOWNLOAD_CONCURRENCY?"
    )


def test_names_that_others_read_are_accepted() -> None:
    text = b"PUID=1000\nPGID=1000\nUMASK=022\nTZ=Asia/Shanghai\nCOMPOSE_PROFILES=s3\nPLUGIN_X=1\nDB_PATH=a\n"
    Path("music-cloud.env").write_bytes(text + b"DOWNLOAD_SOURCES=qq,kuwo\nWEB_PORT=1\nMAX_FILE_SIZE=1GiB\n")
    assert load(Settings).umask == "022"


def test_the_older_systems_file_may_hold_what_means_nothing_here() -> None:
    Path("catalogsync.env").write_bytes(b"QQ_COOKIE_FILE=x\nLIBRARY_DIR=/music\n")
    assert load(Settings).library == Path("/music")


def test_names_in_the_process_environment_are_never_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOG_LEVELL", "debug")
    monkeypatch.setenv("SOMEBODY_ELSES", "value\r")
    load(Settings)


def test_a_setting_with_a_windows_line_end_in_the_environment_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIBRARY_DIR", "/music\r")
    with pytest.raises(ConfigurationError, match="LIBRARY_DIR in the environment ends with a Windows line end"):
        load(Settings)


def test_a_name_that_is_set_twice_is_named_with_both_lines() -> None:
    assert "line 3 sets log_level again, which line 1 sets already" in refusal(b"LOG_LEVEL=a\n\nlog_level=b\n")


def test_what_is_no_setting_at_all_may_be_a_secret_and_is_not_shown() -> None:
    for line in (b"hunter2-and-more", b"c2VjcmV0LWtleQ==", b"Zm9v_YmFyLWJheg=1", b"=hunter2", b'FEEDS="hunter2'):
        said = refusal(b"LOG_LEVEL=info\n" + line + b"\n")
        assert "line 2" in said
        for secret in ("hunter2", "c2VjcmV0", "Zm9v", "ZM9V"):
            assert secret not in said


def test_a_windows_path_in_double_quotes_is_refused_not_changed() -> None:
    said = refusal(b'LIBRARY_DIR="C:\\new\\tracks"\n')
    assert "line 1" in said
    assert "single quotes" in said
    Path("music-cloud.env").write_bytes(b"LIBRARY_DIR='C:\\new\\tracks'\r\n")
    assert str(load(Settings).library_dir) == "C:\\new\\tracks"


def test_a_file_that_is_not_utf8_is_said_with_its_line() -> None:
    assert refusal(b"LOG_LEVEL=info\nFEEDS=/m\xfcsik\n") == (
        "music-cloud.env is not UTF-8 (line 2): save it as UTF-8; if it is damaged, put that of a backup there."
    )
    assert "UTF-16" in refusal("LOG_LEVEL=info\r\n".encode("utf-16"))


def test_a_wrong_type_is_named_with_file_and_line_and_not_shown() -> None:
    said = refusal(b"LOG_LEVEL=info\nHEALTH_PORT=hunter2\nLEASE_SECONDS=0\n")
    assert "HEALTH_PORT (music-cloud.env line 2): should be a valid integer" in said
    assert "LEASE_SECONDS (music-cloud.env line 3)" in said
    assert "hunter2" not in said


def test_a_folder_in_place_of_the_file_is_said() -> None:
    Path("music-cloud.env").mkdir()
    with pytest.raises(ConfigurationError, match="is a folder"):
        load(Settings)


def test_a_file_of_secrets_is_judged_but_not_by_its_names(tmp_path: Path) -> None:
    path = tmp_path / "secrets.env"
    path.write_text("NATS_PASSWORD=a\nWHATEVER=b\n")
    assert read_env_file(path, judge_names=False).lines == {"NATS_PASSWORD": 1, "WHATEVER": 2}
