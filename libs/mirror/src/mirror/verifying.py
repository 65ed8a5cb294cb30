"""Checking a snapshot that lies on a disk, whole: who made it, and that it is what they made."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from mirror.folder import Folder, Snapshot, explained
from mirror.format.digest import Content, content_of
from mirror.format.manifest import MAX_MANIFEST_BYTES, parse, verify
from mirror.format.schema import DATABASE_FILE, MANIFEST_FILE
from mirror.problems import LocalProblem, Refused, SettingsProblem
from mirror.trust import keys_by_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """A snapshot that holds what its manifest says, and the key that signed it."""

    snapshot: Snapshot
    key_id: str


def verify_folder(directory: Path, *, keys: Collection[bytes] = ()) -> Verified:
    """Read all of a mirror's current snapshot, or of a folder that holds the two files, and check it.

    ``keys``: the publisher's; without any those that the mirror trusts. Raises Refused, SignatureError,
    ManifestError, ContentError on what is wrong; SettingsProblem where no key is known; LocalProblem.
    """
    folder = Folder(directory.absolute())
    place = directory if (directory / MANIFEST_FILE).is_file() else directory / "current"
    with explained():
        if not (place / MANIFEST_FILE).is_file() or not (place / DATABASE_FILE).is_file():
            raise LocalProblem("no-snapshot", f"There is no snapshot in {directory}.")
        place = place.resolve()
        with (place / MANIFEST_FILE).open("rb") as file:
            manifest = parse(file.read(MAX_MANIFEST_BYTES + 1))
    trusted = keys_by_id(keys) or dict(folder.memory().keys)
    if not trusted:
        raise SettingsProblem("no-key", "No key of the publisher is known here. Give it with --key.")
    key_id = verify(manifest, trusted)
    found = _content(place / DATABASE_FILE)
    for name, table in manifest.tables.items():
        if found.tables[name] != table:
            raise Refused(
                "content-mismatch",
                f"The table {name} is not what was signed ({found.tables[name].rows:,} rows here, {table.rows:,} "
                "signed): the file was damaged or changed. `music-cloud-mirror pull --full` gets it anew.",
            )
    return Verified(snapshot=Snapshot(folder=place, manifest=manifest), key_id=key_id)


def _content(database: Path) -> Content:
    try:
        return content_of(database)
    except sqlite3.Error as error:
        raise Refused(
            "content-damaged",
            f"The database is damaged ({error}). `music-cloud-mirror pull --full` gets it anew.",
        ) from None
