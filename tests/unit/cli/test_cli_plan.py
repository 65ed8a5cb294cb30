from pathlib import Path

import pytest

from cli.run.plan import choose_music
from cli.settings import CliSettings
from common.contracts.names import ImportMode
from common.errors import ConfigurationError


def test_without_music_of_ones_own_there_is_the_demo() -> None:
    music = choose_music(CliSettings())
    assert (music.demo, music.import_mode) == (True, ImportMode.COPY)


def test_a_folder_of_ones_own_is_never_doubled_unasked(tmp_path: Path) -> None:
    music = choose_music(CliSettings(local_media_import_path=tmp_path))
    assert (music.demo, music.folder, music.import_mode) == (False, tmp_path, ImportMode.REFERENCE)
    assert "stay where they are" in music.notices[0]


def test_the_mode_that_was_set_is_kept_without_a_word(tmp_path: Path) -> None:
    music = choose_music(CliSettings(local_media_import_path=tmp_path, import_mode=ImportMode.HARDLINK))
    assert (music.import_mode, music.notices) == (ImportMode.HARDLINK, ())


def test_feeds_alone_bring_neither_folder_nor_demo() -> None:
    music = choose_music(CliSettings(feeds=" http://a/x.m3u ,http://b/y.xspf,"))
    assert (music.demo, music.folder, music.feeds) == (False, None, ("http://a/x.m3u", "http://b/y.xspf"))


def test_a_folder_that_is_not_there_is_said() -> None:
    with pytest.raises(ConfigurationError, match="not a folder"):
        choose_music(CliSettings(local_media_import_path=Path("/nowhere")))
