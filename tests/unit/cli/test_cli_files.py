"""Secrets at the first start: made, or refused with nothing left behind and a sentence that fits the cause."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from cli.files import make_secrets
from common.audit import StartRefused
from common.errors import ConfigurationError
from tests.support.disks import fill, small_disk
from tests.support.starts import listing


def test_a_full_disk_is_said_before_anything_is_made(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", size="1m") as disk:
        fill(disk)
        was = listing(disk)
        with pytest.raises(StartRefused, match="The disk of ROOT_DIR is full; free some space"):
            make_secrets(disk / "data")
        assert listing(disk) == was


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "Its disk is full: free some space"),
        (errno.EDQUOT, "The quota of this user is used up"),
        (errno.EROFS, "Its disk is mounted read-only"),
        (errno.EACCES, "must belong to the user that runs this"),
    ],
)
def test_each_cause_has_its_own_way_out(
    number: int, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Path) -> dict[str, str]:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("cli.files.ensure_secrets", refuse)
    with pytest.raises(ConfigurationError, match=words):
        make_secrets(tmp_path)
