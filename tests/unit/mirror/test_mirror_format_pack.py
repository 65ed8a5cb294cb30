"""Packs: what is written comes back, and nothing that a stranger sends is believed."""

from __future__ import annotations

import hashlib
import io
import tracemalloc
from collections.abc import Callable
from typing import Any

import msgpack
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from mirror.errors import PackError
from mirror.format import pack
from mirror.format.pack import PackLimits, PackReader, PackWriter
from mirror.format.schema import TABLES, Row
from tests.support.snapshot_example import FIRST, SECOND, pack_of

WANT, HAVE = "sha256:" + "1" * 64, "sha256:" + "2" * 64
HEADER = {
    "format": "music-cloud-pack",
    "version": 1,
    "schema_version": 1,
    "want": WANT,
    "have": None,
    "commits": [{"id": WANT, "manifest": b"{}"}],
}
ENTRY = (7, 8, 0)
GROUP = [7, [ENTRY]]


def blob(groups: Any, table: Any = "catalog_playlist_tracks", **more: Any) -> list[Any]:
    data = msgpack.packb({"table": table, "groups": groups, **more})
    return named(data)


def named(data: bytes) -> list[Any]:
    return [f"sha256:{hashlib.sha256(data).hexdigest()}", data]


def end(count: Any = 1) -> dict[str, Any]:
    return {"end": True, "blob_count": count}


def packed(*objects: Any) -> bytes:
    return b"".join(map(msgpack.packb, objects))


def frame(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_checksum=True).compress(data)


def read(data: bytes, **limits: int) -> list[tuple[str, Any, list[Row]]]:
    return list(PackReader(io.BytesIO(data), limits=PackLimits(**limits)).groups())


def test_what_was_written_comes_back() -> None:
    data, info = pack_of(WANT, None, b'{"a":1}', FIRST)
    reader = PackReader(io.BytesIO(data))
    assert (reader.header.want, reader.header.have) == (WANT, None)
    assert [(commit.id, commit.manifest) for commit in reader.header.commits] == [(WANT, b'{"a":1}')]
    rows: dict[str, list[Row]] = {name: [] for name in TABLES}
    for table, _, found in reader.groups():
        rows[table] += found
    assert rows == {name: FIRST[name] for name in TABLES}
    assert info.pack_id == f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert (info.size, info.commit_count, info.blob_count, info.groups) == (len(data), 1, 5, 6)


def test_a_delta_has_what_changed_and_tombstones() -> None:
    data, info = pack_of(WANT, HAVE, b"{}", SECOND, FIRST)
    reader = PackReader(io.BytesIO(data))
    assert reader.header.have == HAVE
    assert [(table, key, len(rows)) for table, key, rows in reader.groups()] == [
        ("catalog_playlist_tracks", 7, 1),
        ("catalog_playlists", 7, 1),
        ("catalog_tracks", 12, 0),
    ]
    assert info.groups == 3


def test_a_delta_of_nothing_is_a_pack() -> None:
    data, info = pack_of(WANT, HAVE, b"{}", FIRST, FIRST)
    assert read(data) == []
    assert info.blob_count == 0


def test_blobs_are_of_about_one_mebibyte() -> None:
    file = io.BytesIO()
    writer = PackWriter(file, want=WANT, have=None, manifest=b"{}")
    for playlist in range(3000):
        writer.add("catalog_playlist_tracks", playlist, [(playlist, 2**52 + place, place) for place in range(100)])
    info = writer.close()
    assert 3 <= info.blob_count <= 10
    assert sum(len(rows) for _, _, rows in read(file.getvalue())) == 300_000


values = st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1))
entries = st.dictionaries(
    st.integers(-(2**63), 2**63 - 1), st.lists(st.tuples(values, values), max_size=5), max_size=20
)
texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)


@settings(max_examples=50, deadline=None)
@given(groups=entries, names=st.dictionaries(texts, st.none() | texts, max_size=10))
def test_every_value_that_a_snapshot_may_hold_comes_back(groups: dict[int, Any], names: dict[str, Any]) -> None:
    given: list[tuple[str, Any, list[Row]]] = [
        ("catalog_playlist_tracks", key, [(key, *rest) for rest in groups[key]]) for key in sorted(groups)
    ]
    given += [("catalog_toplists", key, [(key, names[key], None, None, None, None, None, "")]) for key in sorted(names)]
    file = io.BytesIO()
    writer = PackWriter(file, want=WANT, have=None, manifest=b"{}")
    for group in given:
        writer.add(*group)
    writer.close()
    assert read(file.getvalue()) == given


@pytest.mark.parametrize(
    ("groups", "code"),
    [
        ([("catalog_tracks", 1, []), ("catalog_playlists", 1, [])], "pack-order-wrong"),
        ([("catalog_tracks", 2, []), ("catalog_tracks", 1, [])], "pack-order-wrong"),
        ([("catalog_tracks", 1, []), ("catalog_tracks", 1, [])], "pack-order-wrong"),
        ([("catalog_playlist_tracks", 1, [(2, 3, 4)])], "pack-damaged"),
        ([("catalog_playlist_tracks", 1, [(1, 3)])], "pack-damaged"),
        ([("catalog_playlist_tracks", 1, [(1, 3.5, 4)])], "pack-damaged"),
        ([("catalog_playlist_tracks", 1, [(1, b"x", 4)])], "pack-damaged"),
        ([("catalog_playlist_tracks", 1, [(1, True, 4)])], "pack-damaged"),
        ([("catalog_playlist_tracks", 1, [(1, "x", 4)])], "pack-damaged"),
        ([("catalog_playlist_tracks", 1, [(1, 2**63, 4)])], "pack-damaged"),
        ([("catalog_playlist_tracks", 1, [(1, 2**70, 4)])], "pack-damaged"),
        ([("catalog_playlist_tracks", 2**63, [])], "pack-damaged"),
        ([("catalog_playlist_tracks", "1", [])], "pack-damaged"),
        ([("catalog_toplists", 1, [])], "pack-damaged"),
        ([("catalog_toplists", "a\0", [])], "pack-damaged"),
        ([("catalog_toplists", "a", [("a", "x\0", None, None, None, None, None, None)])], "pack-damaged"),
        ([("catalog_toplists", "a", [("a", "\ud800", None, None, None, None, None, None)])], "pack-damaged"),
        ([("catalog_toplists", "a", [("a", *[None] * 7), ("a", *[None] * 7)])], "pack-damaged"),
        ([("catalog_toplists", "a", [("a", "x" * 65 * 2**20, *[None] * 6)])], "group-too-large"),
    ],
)
def test_a_writer_refuses_what_a_reader_would(groups: list[tuple[str, Any, list[Any]]], code: str) -> None:
    writer = PackWriter(io.BytesIO(), want=WANT, have=None, manifest=b"{}")
    with pytest.raises(PackError) as refused:
        for group in groups:
            writer.add(*group)
        writer.close()
    assert refused.value.code == code


def test_every_flipped_byte_and_every_truncation_is_noticed() -> None:
    data, _ = pack_of(WANT, None, b"{}", FIRST)
    for place in range(len(data)):
        with pytest.raises(PackError):
            read(data[:place])
        flipped = bytearray(data)
        flipped[place] ^= 1 << place % 8
        try:
            # Some bits of a frame's header say nothing of its content: then the content is the same.
            assert read(bytes(flipped)) == read(data)
        except PackError as refused:
            assert refused.code in ("pack-damaged", "pack-too-large", "pack-unknown", "pack-version-unknown")


def test_every_flipped_byte_within_is_noticed_even_with_a_frame_made_for_it() -> None:
    data = packed(HEADER, blob([GROUP]), end())
    start = len(packed(HEADER))
    for place in range(start, len(data)):
        flipped = bytearray(data)
        flipped[place] ^= 1 << place % 8
        with pytest.raises(PackError):
            read(frame(bytes(flipped)))


GOOD = [HEADER, blob([GROUP]), end()]
TRACK = [1, "p", "r", "n", "s", "e", 1, "{}"]
ODD: dict[str, list[Any]] = {
    "no end": [HEADER, blob([GROUP])],
    "too few blobs": [HEADER, blob([GROUP]), end(2)],
    "too many blobs": [HEADER, blob([GROUP]), end(0)],
    "an end with more": [HEADER, blob([GROUP]), {**end(), "x": 1}],
    "an end that is 1": [HEADER, blob([GROUP]), {"end": 1, "blob_count": 1}],
    "something after the end": [*GOOD, None],
    "a second pack": [*GOOD, *GOOD],
    "a header of another kind": [{**HEADER, "format": "x"}, *GOOD[1:]],
    "a header of another version": [{**HEADER, "version": 2}, *GOOD[1:]],
    "a header of another schema": [{**HEADER, "schema_version": 2}, *GOOD[1:]],
    "a header that wants nothing": [{**HEADER, "want": None}, *GOOD[1:]],
    "a header with a have that is no id": [{**HEADER, "have": "x"}, *GOOD[1:]],
    "a header without commits": [{**HEADER, "commits": []}, *GOOD[1:]],
    "a header with two commits": [{**HEADER, "commits": HEADER["commits"] * 2}, *GOOD[1:]],  # type: ignore[operator]
    "a header with the commit of another": [{**HEADER, "commits": [{"id": HAVE, "manifest": b""}]}, *GOOD[1:]],
    "a manifest of text": [{**HEADER, "commits": [{"id": WANT, "manifest": ""}]}, *GOOD[1:]],
    "a manifest too large": [{**HEADER, "commits": [{"id": WANT, "manifest": b" " * (2**20 + 1)}]}, *GOOD[1:]],
    "no header": [[], *GOOD],
    "a wrong digest": [HEADER, ["sha256:" + "0" * 64, blob([GROUP])[1]], end()],
    "a blob of three": [HEADER, [*blob([GROUP]), 1], end()],
    "a blob of text": [HEADER, ["x", "y"], end()],
    "an unknown table": [HEADER, blob([GROUP], "sqlite_master"), end()],
    "a table that is a number": [HEADER, blob([GROUP], 1), end()],
    "a blob with more keys": [HEADER, blob([GROUP], x=1), end()],
    "an empty blob": [HEADER, named(b""), end()],
    "bytes after the groups": [HEADER, named(blob([GROUP])[1] + b"\xc0"), end()],
    "a group of three": [HEADER, blob([[7, [ENTRY], 1]]), end()],
    "rows that are no array": [HEADER, blob([[7, 1]]), end()],
    "a row that is no array": [HEADER, blob([[7, [1]]]), end()],
    "a row that is too short": [HEADER, blob([[7, [(7, 8)]]]), end()],
    "a row of another group": [HEADER, blob([[7, [(8, 8, 8)]]]), end()],
    "a row with a list": [HEADER, blob([[7, [(7, [], 1)]]]), end()],
    "a row with a map": [HEADER, blob([[7, [(7, {}, 1)]]]), end()],
    "a row with a real": [HEADER, blob([[7, [(7, 1.0, 1)]]]), end()],
    "a row with bytes": [HEADER, blob([[7, [(7, b"x", 1)]]]), end()],
    "a row with a truth value": [HEADER, blob([[7, [(7, True, 1)]]]), end()],
    "a row with text for an integer": [HEADER, blob([[7, [(7, "1", 1)]]]), end()],
    "a row with an extension": [HEADER, blob([[7, [(7, msgpack.ExtType(5, b""), 1)]]]), end()],
    "a row with a time": [HEADER, blob([[7, [(7, msgpack.Timestamp(1), 1)]]]), end()],
    "an integer of 65 bits": [HEADER, blob([[7, [(7, 2**63, 1)]]]), end()],
    "a key of 65 bits": [HEADER, blob([[2**63, [(2**63, 1, 1)]]]), end()],
    "a key that is null": [HEADER, blob([[None, [(None, 1, 1)]]]), end()],
    "a key that is true": [HEADER, blob([[True, [(True, 1, 1)]]]), end()],
    "a row whose key is true": [HEADER, blob([[1, [(True, 1, 1)]]]), end()],
    "an integer for text": [HEADER, blob([[1, [[1, 2, *TRACK[2:]]]]], "catalog_tracks"), end()],
    "a NUL character": [HEADER, blob([[1, [[1, "a\0", *TRACK[2:]]]]], "catalog_tracks"), end()],
    "text that is not UTF-8": [
        HEADER,
        named(blob([[1, [[1, "qqq", *TRACK[2:]]]]], "catalog_tracks")[1].replace(b"qqq", b"\xed\xa0\x80")),
        end(),
    ],
    "two rows of one song": [HEADER, blob([[1, [TRACK, TRACK]]], "catalog_tracks"), end()],
    "a group twice": [HEADER, blob([GROUP, GROUP]), end()],
    "a group twice in two blobs": [HEADER, blob([GROUP]), blob([GROUP]), end(2)],
    "keys that descend": [HEADER, blob([[8, []], [7, []]]), end()],
    "tables that descend": [HEADER, blob([[1, [TRACK]]], "catalog_tracks"), blob([GROUP]), end(2)],
}


@pytest.mark.parametrize("objects", ODD.values(), ids=ODD.keys())
def test_what_a_pack_does_not_hold_is_refused(objects: list[Any]) -> None:
    with pytest.raises(PackError):
        read(frame(packed(*objects)))


def test_the_pack_that_the_odd_ones_are_made_from_is_taken() -> None:
    assert read(frame(packed(*GOOD))) == [("catalog_playlist_tracks", 7, [ENTRY])]


@pytest.mark.parametrize(
    "after", [b"x", b"\0" * 5000, frame(b""), frame(packed(None)), b"\x50\x2a\x4d\x18\x01\0\0\0x"], ids=range(5)
)
def test_bytes_after_the_frame_are_refused(after: bytes) -> None:
    with pytest.raises(PackError):
        read(frame(packed(*GOOD)) + after)


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"\x28\xb5\x2f\xfd", frame(b""), frame(b"\xc1" * 50), frame(b"\x81" * 5000)]
)
def test_what_is_no_pack_is_refused(data: bytes) -> None:
    with pytest.raises(PackError):
        read(data)


def zeros(count: int) -> bytes:
    return b"\0" * count


MIB = 1024 * 1024
_TABLE = msgpack.packb({"table": "catalog_playlist_tracks", "groups": 1})[:-1]
NO_ROWS = _TABLE + b"\x91\x92\x07\xdd\x7f\xff\xff\xff"
TOMBSTONES = _TABLE + b"\xdd\x7f\xff\xff\xff"
BOMBS: dict[str, Callable[[], bytes]] = {
    "a blob of zeros": lambda: packed(HEADER) + b"\x92\xa1x\xc6\xff\xff\xff\xff" + zeros(280 * MIB),
    "a blob that does not end": lambda: packed(HEADER) + b"\x92\xa1x\xc6\x03\xff\xff\xff" + zeros(280 * MIB),
    "small numbers without end": lambda: packed(HEADER) + zeros(280 * MIB),
    "arrays in arrays": lambda: packed(HEADER) + b"\x91" * (200 * MIB),
    "a tree": lambda: packed(HEADER) + (b"\x9f" * 400 + b"\x90" * 6000) * 20_000,
    "pairs of pairs": lambda: packed(HEADER) + b"\x92" * 900 + b"\x92\x90\x90" * (20 * MIB),
    "a header of maps": lambda: b"\x8f\xa1a" * 30 * MIB,
    "text without end": lambda: packed(HEADER) + b"\xdb\xff\xff\xff\xff" + b"x" * (100 * MIB),
    "a blob of empty rows": lambda: packed(HEADER, named(NO_ROWS + b"\x90" * (40 * MIB))),
    "a blob of trees": lambda: packed(HEADER, named(NO_ROWS + b"\x93\x90\x90" * (10 * MIB))),
    "a blob of tombstones": lambda: packed(HEADER, named(TOMBSTONES + b"\x92\x01\x90" * (10 * MIB))),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_is_refused_before_it_unfolds(bomb: str) -> None:
    data = frame(BOMBS[bomb]())
    assert len(data) < MIB
    tracemalloc.start()
    try:
        with pytest.raises(PackError):
            read(data, decompressed_bytes=256 * MIB, blob_bytes=64 * MIB)
        assert tracemalloc.get_traced_memory()[1] < 300 * MIB
    finally:
        tracemalloc.stop()


def test_limits_are_kept() -> None:
    data, _ = pack_of(WANT, None, b"{}", FIRST)
    for limits in ({"decompressed_bytes": 500}, {"blob_bytes": 100}, {"blobs": 4}):
        with pytest.raises(PackError) as refused:
            read(data, **limits)
        assert refused.value.code == "pack-too-large"
    assert read(data, decompressed_bytes=100_000, blob_bytes=10_000, blobs=5)


def test_a_group_has_no_more_rows_than_a_reader_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack, "MAX_GROUP_ROWS", 2)
    with pytest.raises(PackError) as refused:
        read(frame(packed(HEADER, blob([[7, [ENTRY] * 3]]), end())))
    assert refused.value.code == "group-too-large"
    assert len(read(frame(packed(HEADER, blob([[7, [ENTRY] * 2]]), end())))) == 1


def test_a_large_window_is_refused() -> None:
    parameters = zstandard.ZstdCompressionParameters.from_level(3, window_log=27)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    data = compressor.compress(packed(*GOOD)) + compressor.flush()
    with pytest.raises(PackError):
        read(data)


@pytest.mark.parametrize("level", [1, 3, 19, 22])
def test_every_level_of_compression_can_be_read(level: int) -> None:
    file = io.BytesIO()
    writer = PackWriter(file, want=WANT, have=None, manifest=b"{}", level=level)
    writer.add("catalog_playlist_tracks", 7, [ENTRY])
    writer.close()
    assert read(file.getvalue()) == [("catalog_playlist_tracks", 7, [ENTRY])]
