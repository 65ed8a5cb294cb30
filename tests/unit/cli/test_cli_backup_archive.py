"""The container of a backup: whole or refused, and nothing in it can leave its folder."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import random
import shutil
import subprocess
import tarfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyrage
import pytest
import zstandard

from cli.backup.archive import read_entries, write_archive
from cli.backup.check import check_archive
from cli.backup.errors import ArchiveDamaged, NewerBackup, WrongPassphrase
from cli.backup.layout import HEAD, MANIFEST, archive_name, is_safe, program_version
from cli.backup.records import Record, from_lines, to_line
from cli.backup.schedule import archives, parse_interval, prune, repeat
from cli.backup.settings import BackupSettings, check_strength, find_passphrase

PASSPHRASE = "correct horse battery"
CREATED = "2026-01-02T03:04:05+00:00"


def records(count: int) -> list[Record]:
    return [
        Record(n + 1, f"song.listed.{n}", n, b'{"name":"\xe9\x9f\xb3"}', {"Nats-Msg-Id": str(n)}) for n in range(count)
    ]


def make(path: Path, passphrase: str | None = None) -> Path:
    with write_archive(path, created=CREATED, passphrase=passphrase) as out:
        out.add_bytes("streams/CATALOG/000001.jsonl", b"".join(map(to_line, records(500))))
        out.add_bytes("secrets/console/secrets.env", random.Random(1).randbytes(200_000))
        out.finish({"CATALOG": {"messages": 500}})
    return path


def craft(path: Path, members: list[tuple[tarfile.TarInfo, bytes]]) -> Path:
    """An archive that our writer would not write."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for info, content in members:
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    path.write_bytes(zstandard.ZstdCompressor().compress(packed.getvalue()))
    return path


def head(**changes: object) -> tuple[tarfile.TarInfo, bytes]:
    told = {"format": 1, "program": program_version(), "created": CREATED, **changes}
    return tarfile.TarInfo(HEAD), json.dumps(told).encode()


@pytest.mark.parametrize("passphrase", [None, PASSPHRASE])
def test_what_is_written_is_read(tmp_path: Path, passphrase: str | None) -> None:
    path = make(tmp_path / "a", passphrase)
    manifest = check_archive(path, passphrase, extract_to=tmp_path / "out")
    assert manifest.streams == {"CATALOG": {"messages": 500}}
    assert path.stat().st_mode & 0o077 == 0
    kept = tmp_path / "out/secrets/console/secrets.env"
    assert hashlib.sha256(kept.read_bytes()).hexdigest() == manifest.members["secrets/console/secrets.env"][1]
    assert kept.stat().st_mode & 0o077 == 0
    seen: dict[str, tuple[int, str]] = {}
    for entry in read_entries(path, passphrase, seen):
        if entry.name.startswith("streams/"):
            assert list(from_lines(entry.content(), "CATALOG")) == records(500)


def test_without_us_by_tar_age_and_zstd(tmp_path: Path) -> None:
    """The steps of the documentation, by the library behind the tool age."""
    path = make(tmp_path / "a", PASSPHRASE)
    subprocess.run(["tar", "-xf", path, "-C", tmp_path], check=True)
    identity = pyrage.passphrase.decrypt((tmp_path / "identity.age").read_bytes(), PASSPHRASE).decode()
    body = pyrage.decrypt((tmp_path / "backup.tar.zst.age").read_bytes(), [pyrage.x25519.Identity.from_str(identity)])
    packed = zstandard.ZstdDecompressor().decompressobj().decompress(body)
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        assert tar.getnames()[-1] == MANIFEST
    assert b"secrets" not in path.read_bytes()


def test_wrong_and_missing_passphrases_are_refused(tmp_path: Path) -> None:
    path = make(tmp_path / "a", PASSPHRASE)
    for passphrase in (None, "another passphrase"):
        with pytest.raises(WrongPassphrase):
            check_archive(path, passphrase)


@pytest.mark.parametrize("passphrase", [None, PASSPHRASE])
def test_damage_anywhere_is_noticed(tmp_path: Path, passphrase: str | None) -> None:
    whole = make(tmp_path / "a", passphrase).read_bytes()
    path = tmp_path / "b"
    chance = random.Random(7)
    # Encrypted: the passphrase takes a second each time, so fewer; past the padding at the end nothing lies.
    for _ in range(60 if passphrase is None else 1):
        place = chance.randrange(1000, len(whole) - 2048)
        path.write_bytes(whole[:place] + bytes([whole[place] ^ (1 << chance.randrange(8))]) + whole[place + 1 :])
        with pytest.raises(ArchiveDamaged):
            check_archive(path, passphrase)
    for size in (0, 3, 100, len(whole) // 2, len(whole) - 2048) if passphrase is None else (len(whole) // 2,):
        path.write_bytes(whole[:size])
        with pytest.raises(ArchiveDamaged):
            check_archive(path, passphrase)


@pytest.mark.parametrize(
    "name",
    [
        "../evil",
        "/etc/passwd",
        "secrets/../../evil",
        "state/../evil",
        "state/sub/evil",
        "secrets/.ssh/authorized_keys",
        "secrets/a/b/c/d/e/f",
        "config/.bashrc",
        "streams/WORK/000001.jsonl",
        "streams/CATALOG/../../000001.jsonl",
        "databases/exporter.db",
        "state/a\nb",
        "elsewhere",
    ],
)
def test_hostile_names_are_refused(tmp_path: Path, name: str) -> None:
    assert not is_safe(name)
    path = craft(tmp_path / "a", [head(), (tarfile.TarInfo(name), b"evil")])
    with pytest.raises(ArchiveDamaged, match="no backup of ours"):
        check_archive(path, None, extract_to=tmp_path / "out")
    assert not list(tmp_path.rglob("*evil*"))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused(tmp_path: Path, kind: bytes) -> None:
    info = tarfile.TarInfo("state/link")
    info.type, info.linkname = kind, "/etc"
    with pytest.raises(ArchiveDamaged):
        check_archive(craft(tmp_path / "a", [head(), (info, b"")]), None, extract_to=tmp_path / "out")


def test_a_header_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    long = tarfile.TarInfo("state/long")
    long.type = tarfile.XHDTYPE
    record = b"10000000 comment=" + b"a" * (10_000_000 - 18) + b"\n"
    with pytest.raises(ArchiveDamaged, match="not a backup of ours"):
        check_archive(craft(tmp_path / "a", [head(), (long, record), (tarfile.TarInfo("state/x"), b"")]), None)


def test_a_file_of_zeros_that_nobody_wrote_is_refused(tmp_path: Path) -> None:
    sparse = tarfile.TarInfo("state/zeros")
    sparse.pax_headers = {"GNU.sparse.map": "0,0", "GNU.sparse.size": "50000000"}
    with pytest.raises(ArchiveDamaged, match="no backup of ours"):
        check_archive(craft(tmp_path / "a", [head(), (sparse, b"")]), None, extract_to=tmp_path / "out")
    assert not list(tmp_path.rglob("zeros"))


def test_without_room_for_it_nothing_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make(tmp_path / "a")
    little = shutil.disk_usage(tmp_path)._replace(free=100_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: little)
    with pytest.raises(OSError, match="No space left"):
        check_archive(made, None, extract_to=tmp_path / "out")
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


def test_a_newer_backup_is_refused_at_once(tmp_path: Path) -> None:
    for changes in ({"format": 2}, {"program": "99.0.0"}):
        path = craft(tmp_path / "a", [head(**changes), (tarfile.TarInfo("of/the/future"), b"")])
        with pytest.raises(NewerBackup, match="Update it first"):
            check_archive(path, None)


def test_a_manifest_that_says_otherwise_is_refused(tmp_path: Path) -> None:
    told = {"format": 1, "program": "0", "created": CREATED, "streams": {}, "members": []}
    for manifest in (json.dumps(told), "[]", "null", "{}", '{"members": 5}'):
        path = craft(tmp_path / "a", [head(), (tarfile.TarInfo(MANIFEST), manifest.encode())])
        with pytest.raises(ArchiveDamaged):
            check_archive(path, None)


@pytest.mark.parametrize(
    "line",
    [
        b"not json",
        b'{"seq": 1}',
        b'{"seq":1,"subject":"item.1","time":1,"data":"x"}',
        b'{"seq":1,"subject":"song.listed.>","time":1,"data":"x"}',
        b'{"seq":1,"subject":"song.listed.1\\r\\nPUB x","time":1,"data":"x"}',
        b'{"seq":1,"subject":"song.listed.1","time":1,"data":"x","headers":{"A":"b\\r\\nC: d"}}',
        b'{"seq":1,"subject":"song.listed.1","time":1,"data_base64":"%"}',
    ],
)
def test_lines_that_are_no_messages_of_the_stream_are_refused(line: bytes) -> None:
    with pytest.raises(ArchiveDamaged):
        list(from_lines(line, "CATALOG"))


def test_a_message_of_any_bytes_comes_back() -> None:
    odd = Record(5, "song.listed.1", 9, b"\xff\x00\n", {"Nats-Expected-Last-Sequence": "4", "Nats-Msg-Id": "x"})
    (back,) = from_lines(to_line(odd), "CATALOG")
    assert (back.data, back.headers) == (odd.data, {"Nats-Msg-Id": "x"})


def test_pruning_keeps_the_newest_and_what_is_not_ours(tmp_path: Path) -> None:
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    made = [tmp_path / archive_name(begin + timedelta(days=day), encrypted=False) for day in range(5)]
    for file in made:
        make(file)
    foreign = [tmp_path / name for name in ("music.zip", "music-cloud-20250101T000000Z.tar.zst.bak", "notes.txt")]
    for file in foreign:
        file.write_text("mine")
    text = tmp_path / archive_name(begin - timedelta(days=9), encrypted=True)
    text.symlink_to(foreign[0])
    assert archives(tmp_path) == made[::-1]
    # By a clock that was wrong, the good one is not the newest by name: the others stay, and do not push it out.
    assert prune(tmp_path, keep=2, newest=made[1]) == []
    assert prune(tmp_path, keep=1, newest=made[1]) == [made[0]]
    assert set(prune(tmp_path, keep=2, newest=made[4])) == {made[1], made[2]}
    assert archives(tmp_path) == [made[4], made[3]]
    assert all(file.exists() for file in foreign) and text.is_symlink()


async def test_one_of_the_future_does_not_have_backups_made_without_a_pause(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    make(tmp_path / archive_name(now + timedelta(days=900), encrypted=False))
    made: list[Path] = []

    async def once() -> Path:
        made.append(tmp_path / archive_name(now - timedelta(seconds=1 + len(made)), encrypted=False))
        make(made[-1])
        return made[-1]

    repeating = asyncio.create_task(repeat(once, folder=tmp_path, every=timedelta(days=1), say=print))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(repeating, 1)
    assert len(made) == 1


def test_intervals() -> None:
    assert parse_interval("24h") == timedelta(days=1) == parse_interval("1d")
    for wrong in ("", "0h", "1", "h", "-1h", "1w"):
        with pytest.raises(ValueError, match="30m"):
            parse_interval(wrong)


def test_the_passphrase_comes_from_a_private_file(tmp_path: Path) -> None:
    file = tmp_path / "passphrase"
    settings = BackupSettings(backup_passphrase="of the settings")
    assert find_passphrase(settings, None) == "of the settings"
    file.write_text(f"{PASSPHRASE}\n")
    file.chmod(0o644)
    with pytest.raises(WrongPassphrase, match="chmod 600"):
        find_passphrase(settings, file)
    file.chmod(0o600)
    assert find_passphrase(settings, file) == PASSPHRASE
    file.write_text("\n")
    with pytest.raises(WrongPassphrase, match="empty"):
        find_passphrase(settings, file)
    with pytest.raises(WrongPassphrase, match="guessed"):
        check_strength("short")
