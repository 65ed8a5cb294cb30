"""A secret appears whole or not at all, also on a disk that is full."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from common.errors import ConfigurationError
from common.private_files import write_private
from common.secret_files import ensure_secrets, read_secrets, secrets_path
from tests.support.starts import listing


def test_what_cannot_be_written_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_private(tmp_path / "secret", "one")
    was = listing(tmp_path)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("common.private_files.os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_private(tmp_path / "secret", "two")
    assert listing(tmp_path) == was
    assert (tmp_path / "secret").read_text() == "one"


def test_what_a_killed_process_left_of_a_secret_is_taken_away(tmp_path: Path) -> None:
    ensure_secrets(tmp_path)
    folder = secrets_path(tmp_path, "console").parent
    (folder / ".secrets.env.0123456789ab").write_text("half")
    (folder / "secrets.tmp8").write_text("of an earlier version")
    ensure_secrets(tmp_path)
    assert [path.name for path in folder.iterdir()] == ["secrets.env"]


@pytest.mark.parametrize("damage", [b"\xff\xfe", b"NATS_PASSWORD=\xa0\xa1\n"])
def test_a_damaged_file_of_secrets_is_said_and_left_as_it_is(damage: bytes, tmp_path: Path) -> None:
    ensure_secrets(tmp_path)
    path = secrets_path(tmp_path, "console")
    path.write_bytes(damage)
    with pytest.raises(ConfigurationError, match=r"console/secrets\.env is (not )?UTF-"):
        ensure_secrets(tmp_path)
    with pytest.raises(ConfigurationError, match=r"console/secrets\.env is (not )?UTF-"):
        read_secrets(tmp_path, "console")
    assert path.read_bytes() == damage
