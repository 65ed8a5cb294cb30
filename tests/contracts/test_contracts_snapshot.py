"""The format of snapshots stays what strangers were told: the page computes, and old files are read for ever.

`python -m tests.contracts.test_contracts_snapshot` writes the golden files anew: only for a new version of the format.
"""

from __future__ import annotations

import io
import json
from pathlib import Path

import msgpack
import pytest
import zstandard

from mirror.format.digest import content_of
from mirror.format.manifest import canonical_bytes, parse, sign, verify
from mirror.format.pack import PackReader
from mirror.format.schema import TABLES
from tests.support.snapshot_example import FIRST, KEY, SECOND, Tables, filled, manifest_of, pack_of
from tests.support.snapshot_stranger import NAMES, row_bytes, snapshot_id, table_lines

GOLDEN = Path(__file__).parent / "snapshot"
PAGE = Path(__file__).parents[2] / "docs" / "snapshot-format.md"


def made() -> dict[str, bytes]:
    """The golden files as today's code writes them."""
    first = manifest_of(FIRST, revision=1)
    second = manifest_of(SECOND, revision=2, parent=first["snapshot_id"])
    files = {
        name: (json.dumps(sign(manifest, KEY), ensure_ascii=False, indent=2) + "\n").encode()
        for name, manifest in (("first.json", first), ("second.json", second))
    }
    files["full.pack"], _ = pack_of(first["snapshot_id"], None, files["first.json"], FIRST)
    files["delta.pack"], _ = pack_of(second["snapshot_id"], first["snapshot_id"], files["second.json"], SECOND, FIRST)
    return files


@pytest.mark.parametrize(("name", "tables"), [("first.json", FIRST), ("second.json", SECOND)])
def test_the_golden_manifests_are_genuine(name: str, tables: Tables) -> None:
    manifest = parse((GOLDEN / name).read_bytes())
    assert verify(manifest, {KEY.key_id: KEY.public_key}) == KEY.key_id
    assert manifest.snapshot_id == snapshot_id(tables)
    assert made()[name] == (GOLDEN / name).read_bytes()
    assert canonical_bytes(manifest.raw).startswith(b'{"cover_count":1,"file_count":2,"generated_at":"2026-11-21T08:0')


def test_the_golden_packs_lead_from_nothing_to_the_first_and_on_to_the_second() -> None:
    connection = filled({})
    for name in ("full.pack", "delta.pack"):
        with (GOLDEN / name).open("rb") as file:
            reader = PackReader(file)
            for table, key, rows in reader.groups():
                connection.execute(f"DELETE FROM {table} WHERE {TABLES[table].group} = ?", (key,))
                connection.executemany(
                    f"INSERT INTO {table} VALUES ({', '.join('?' * len(TABLES[table].columns))})", rows
                )
        assert content_of(connection).snapshot_id == reader.header.want
        assert parse(reader.header.commits[0].manifest).snapshot_id == reader.header.want
    assert reader.header.want == snapshot_id(SECOND)
    assert reader.header.have == snapshot_id(FIRST)
    connection.close()


@pytest.mark.parametrize("name", ["full.pack", "delta.pack"])
def test_packs_are_written_as_ever_but_for_their_compression(name: str) -> None:
    def within(data: bytes) -> bytes:
        return zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data)).read()

    assert within(made()[name]) == within((GOLDEN / name).read_bytes())


def test_a_pack_is_plain_messagepack_in_a_zstd_frame() -> None:
    data = zstandard.ZstdDecompressor().stream_reader(io.BytesIO((GOLDEN / "delta.pack").read_bytes())).read()
    header, *blobs, trailer = msgpack.Unpacker(io.BytesIO(data))
    assert list(header) == ["format", "version", "schema_version", "want", "have", "commits"]
    assert trailer == {"end": True, "blob_count": 3}
    assert [list(msgpack.unpackb(blob)) for _, blob in blobs] == [["table", "groups"]] * 3
    assert msgpack.unpackb(blobs[2][1]) == {"table": "catalog_tracks", "groups": [[12, []]]}


def test_the_example_of_the_page_is_right() -> None:
    page = PAGE.read_text(encoding="utf-8")
    content = content_of(filled(FIRST))
    for name in NAMES:
        (line,) = table_lines(name, FIRST[name])
        for shown in [row_bytes(row).hex() for row in FIRST[name]]:
            assert f"`{shown}`" in page
        table = content.tables[name]
        assert f"| `{name}` | `{line.strip()}` | `{table.digest.removeprefix('sha256:')}` |" in page
        assert table.size == sum(len(row_bytes(row)) for row in FIRST[name])
    assert f"`snapshot_id` = `{content.snapshot_id}`" in page
    for name, spec in TABLES.items():
        columns = ", ".join(
            f"**`{column}`** {kind[0]}" if column == spec.group else f"`{column}` {kind[0]}"
            for column, kind in zip(spec.columns, spec.kinds, strict=True)
        )
        assert f"| `{name}` | {columns} |" in page


if __name__ == "__main__":
    for name, data in made().items():
        (GOLDEN / name).write_bytes(data)
