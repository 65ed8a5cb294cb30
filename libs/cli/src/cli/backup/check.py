"""Reading an archive to its end: every digest, every line, every name."""

from __future__ import annotations

from pathlib import Path

from cli.backup import databases
from cli.backup.archive import Manifest, parse_manifest, read_entries
from cli.backup.errors import ArchiveDamaged
from cli.backup.layout import MANIFEST, stream_of
from cli.backup.records import from_lines


def check_archive(path: Path, passphrase: str | None, *, extract_to: Path | None = None) -> Manifest:
    """Check everything; with ``extract_to`` keep all files but the streams there, databases proven sound.

    Raises ArchiveDamaged, NewerBackup or WrongPassphrase.
    """
    if not path.is_file():
        raise ArchiveDamaged(f"{path} is not a file.")
    seen: dict[str, tuple[int, str]] = {}
    manifest: Manifest | None = None
    for entry in read_entries(path, passphrase, seen):
        if manifest is not None:
            raise ArchiveDamaged("The backup goes on after its end. It is not used.")
        stream = stream_of(entry.name)
        if stream is not None:
            for _ in from_lines(entry.content(), stream):
                continue
        elif entry.name == MANIFEST:
            manifest = parse_manifest(entry.content(), seen)
        elif extract_to is not None and "/" in entry.name:
            entry.save_to(extract_to / entry.name)
    if manifest is None:
        raise ArchiveDamaged("The backup is cut off before its end. Take another one.")
    if extract_to is not None:
        for file in (*extract_to.glob("databases/*"), *extract_to.glob("state/*")):
            if file.parent.name == "databases" or databases.is_sqlite(file):
                databases.check_sqlite(file)
    return manifest
