"""Applying packs: whatever happened to a catalog, a mirror ends with what a full fetch gives, or with nothing."""

from __future__ import annotations

import io
import sqlite3
import tempfile
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from mirror.apply import ContentMismatch, build, read_manifest
from mirror.errors import MirrorError, PackError
from mirror.folder import CHUNKS_FILE, Snapshot
from mirror.format.digest import content_of
from mirror.format.manifest import parse
from mirror.format.schema import TABLES
from mirror.problems import Refused
from mirror.progress import Silence
from tests.support.publisher import Content, Published, Publisher, catalog, pack_of

KEYS = st.integers(min_value=-(2**63), max_value=2**63 - 1) | st.integers(min_value=0, max_value=40)
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=6)
NUMBER = st.none() | st.integers(min_value=-(2**63), max_value=2**63 - 1)


@st.composite
def groups(draw: st.DrawFn) -> tuple[tuple[str, Any], tuple[tuple[Any, ...], ...]]:
    """A group of any table; no rows: it goes."""
    table = TABLES[draw(st.sampled_from(sorted(TABLES)))]
    key = draw(KEYS if table.group_kind == "integer" else TEXT)
    values: list[st.SearchStrategy[Any]] = [NUMBER if kind == "integer" else st.none() | TEXT for kind in table.kinds]
    values[table.group_index] = st.just(key)
    rows = draw(st.lists(st.tuples(*values), max_size=1 if table.single else 3))
    return (table.name, key), tuple(rows)


HISTORIES = st.lists(st.lists(groups(), max_size=12), min_size=2, max_size=5)


def apply(published: Published, base: Snapshot | None, have: Published | None, folder: Path) -> Snapshot:
    """Make a snapshot from the pack between two, as a pull does."""
    folder.mkdir()
    data, blobs = pack_of(
        published.content,
        have.content if have else None,
        manifest=published.manifest_bytes,
        ids=(published.id, have.id if have else None),
    )
    pack = io.BytesIO(data)
    manifest, raw, delta = read_manifest(pack, want=published.id, have=have.id if have else None)
    pack.seek(0)
    build(
        pack,
        manifest=manifest,
        manifest_bytes=raw,
        base=base if delta else None,
        folder=folder,
        blobs=blobs,
        progress=Silence(),
    )
    return Snapshot(folder=folder, manifest=manifest)


def rows(snapshot: Snapshot) -> dict[str, list[tuple[Any, ...]]]:
    connection = sqlite3.connect(snapshot.database)
    try:
        return {
            name: connection.execute(f"SELECT * FROM {name} ORDER BY {', '.join(table.order)}").fetchall()
            for name, table in TABLES.items()
        }
    finally:
        connection.close()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(HISTORIES)
def test_deltas_between_any_two_snapshots_and_any_sequence_of_them_equal_a_full_fetch(
    history: list[list[tuple[tuple[str, Any], tuple[tuple[Any, ...], ...]]]],
) -> None:
    publisher = Publisher()
    content: Content = {}
    for changes in history:
        content = {key: rows for key, rows in {**content, **dict(changes)}.items() if rows}
        publisher.publish(content)

    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        full = [apply(one, None, None, place / f"full{n}") for n, one in enumerate(publisher.snapshots)]
        in_steps = full[0]
        for to, wanted in enumerate(publisher.snapshots):
            for of, had in enumerate(publisher.snapshots):
                if wanted.id != had.id:
                    made = apply(wanted, full[of], had, place / f"{of}-{to}")
                    assert rows(made) == rows(full[to])
                    assert content_of(made.database).snapshot_id == wanted.id
            if to and wanted.id != publisher.snapshots[to - 1].id:
                in_steps = apply(wanted, in_steps, publisher.snapshots[to - 1], place / f"step{to}")
                assert rows(in_steps) == rows(full[to])
                assert content_of(in_steps.database).snapshot_id == wanted.id


@pytest.fixture
def publisher() -> Publisher:
    return Publisher()


@pytest.fixture
def base(publisher: Publisher, tmp_path: Path) -> Snapshot:
    """A mirror's snapshot of the first of two that are published."""
    first = publisher.publish(catalog(300))
    publisher.publish(catalog(310, first=5, note="!"))
    return apply(first, None, None, tmp_path / "base")


def test_a_delta_does_not_change_what_it_is_applied_to(publisher: Publisher, base: Snapshot, tmp_path: Path) -> None:
    before = base.database.read_bytes(), base.chunks.read_bytes()

    apply(publisher.snapshots[1], base, publisher.snapshots[0], tmp_path / "next")

    assert (base.database.read_bytes(), base.chunks.read_bytes()) == before


@pytest.mark.parametrize("what", ["missing", "of another snapshot"])
def test_without_good_notes_of_the_parts_everything_is_read(
    publisher: Publisher, base: Snapshot, tmp_path: Path, what: str
) -> None:
    base.chunks.unlink()
    if what != "missing":
        other = apply(publisher.publish(catalog(40)), None, None, tmp_path / "other")
        base.chunks.write_bytes(other.chunks.read_bytes())

    made = apply(publisher.snapshots[1], base, publisher.snapshots[0], tmp_path / "next")

    assert content_of(made.database).snapshot_id == publisher.snapshots[1].id


@pytest.mark.parametrize("damaged", ["catalog_read.db", CHUNKS_FILE])
def test_files_that_were_overwritten_are_noticed(
    publisher: Publisher, base: Snapshot, tmp_path: Path, damaged: str
) -> None:
    (base.folder / damaged).write_bytes(b"no database at all " * 1000)

    with pytest.raises(ContentMismatch):
        apply(publisher.snapshots[1], base, publisher.snapshots[0], tmp_path / "next")


def test_a_row_that_was_changed_here_in_a_part_that_changes_is_noticed(
    publisher: Publisher, base: Snapshot, tmp_path: Path
) -> None:
    with sqlite3.connect(base.database) as connection:
        connection.execute("DELETE FROM catalog_tracks WHERE song_id % 2")
    connection.close()
    changed = {**publisher.snapshots[0].content}
    changed["catalog_tracks", 2] = catalog(3, note="?")["catalog_tracks", 2]

    with pytest.raises(ContentMismatch, match="not the content"):
        apply(publisher.publish(changed), base, publisher.snapshots[0], tmp_path / "next")


def test_a_content_that_is_not_what_was_signed_is_refused(publisher: Publisher, tmp_path: Path) -> None:
    signed = publisher.publish(catalog(50))
    wrong = Published(signed.id, signed.manifest, catalog(50, note="?"))

    with pytest.raises(ContentMismatch) as refused:
        apply(wrong, None, None, tmp_path / "next")

    assert refused.value.code == "content-mismatch"
    assert not (tmp_path / "next" / "manifest.json").exists()


def test_a_pack_holds_little_more_than_what_was_signed(publisher: Publisher, tmp_path: Path) -> None:
    """Sixty kilobytes that unfold to two hundred megabytes, under a manifest that tells of one song."""
    signed = publisher.publish(catalog(1))
    bomb: Content = {
        ("catalog_tracks", key): ((key, "p", str(key), "a" * 20_000_000, None, None, None, None),) for key in range(10)
    }

    with pytest.raises(PackError) as refused:
        apply(Published(signed.id, signed.manifest, bomb), None, None, tmp_path / "next")

    assert refused.value.code == "pack-too-large"
    assert (tmp_path / "next" / "catalog_read.db").stat().st_size < 120_000_000


def test_more_blobs_than_were_announced_are_refused(publisher: Publisher, tmp_path: Path) -> None:
    one = publisher.publish(catalog(3))
    data, blobs = pack_of(one.content, None, manifest=one.manifest_bytes, ids=(one.id, None))

    with pytest.raises(PackError) as refused:
        build(
            io.BytesIO(data),
            manifest=parse(one.manifest_bytes),
            manifest_bytes=one.manifest_bytes,
            base=None,
            folder=tmp_path,
            blobs=blobs - 1,
            progress=Silence(),
        )

    assert refused.value.code == "pack-too-large"


@pytest.mark.parametrize("place", range(0, 100, 4))
def test_a_flipped_bit_anywhere_is_noticed_even_without_the_digest_of_the_pack(
    publisher: Publisher, tmp_path: Path, place: int
) -> None:
    one = publisher.publish(catalog(30))
    data = bytearray(pack_of(one.content, None, manifest=one.manifest_bytes, ids=(one.id, None))[0])
    data[len(data) * place // 100] ^= 0x10
    pack = io.BytesIO(bytes(data))

    with pytest.raises(MirrorError):
        manifest, raw, _ = read_manifest(pack, want=one.id, have=None)
        pack.seek(0)
        build(
            pack,
            manifest=manifest,
            manifest_bytes=raw,
            base=None,
            folder=tmp_path,
            blobs=99,
            progress=Silence(),
        )


@pytest.mark.parametrize("asked", ["want", "have"])
def test_a_pack_for_other_snapshots_than_were_asked_for_is_refused(publisher: Publisher, asked: str) -> None:
    first, second = publisher.publish(catalog(1)), publisher.publish(catalog(2))
    data, _ = pack_of(second.content, first.content, manifest=second.manifest_bytes, ids=(second.id, first.id))
    want, have = (first.id, first.id) if asked == "want" else (second.id, None)

    with pytest.raises(Refused) as refused:
        read_manifest(io.BytesIO(data), want=want, have=have)

    assert refused.value.code == "pack-other"


def test_a_pack_with_the_manifest_of_another_snapshot_is_refused(publisher: Publisher) -> None:
    first, second = publisher.publish(catalog(1)), publisher.publish(catalog(2))
    data, _ = pack_of(second.content, None, manifest=first.manifest_bytes, ids=(second.id, None))

    with pytest.raises(Refused) as refused:
        read_manifest(io.BytesIO(data), want=second.id, have=None)

    assert refused.value.code == "pack-other"
