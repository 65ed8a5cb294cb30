"""The content digest as docs/snapshot-format.md describes it, written anew from that page: shares no code with ours."""

from __future__ import annotations

import hashlib
from typing import Any

KEYED = {"catalog_playlists": 15, "catalog_tracks": 7, "catalog_track_files": 7, "catalog_playlist_tracks": 0}
NAMES = sorted([*KEYED, "catalog_toplists"])


def value_bytes(value: int | str | None) -> bytes:
    if value is None:
        return b"\xc0"
    if isinstance(value, str):
        data = value.encode()
        if len(data) < 32:
            return bytes([0xA0 | len(data)]) + data
        code, size = next((0xD9 + step, 2**step) for step in range(3) if len(data) < 2 ** (8 * 2**step))
        return bytes([code]) + len(data).to_bytes(size, "big") + data
    if value >= 0:
        if value < 128:
            return bytes([value])
        code, size = next((0xCC + step, 2**step) for step in range(4) if value < 2 ** (8 * 2**step))
        return bytes([code]) + value.to_bytes(size, "big")
    if value >= -32:
        return bytes([256 + value])
    code, size = next((0xD0 + step, 2**step) for step in range(4) if value >= -(2 ** (8 * 2**step - 1)))
    return bytes([code]) + value.to_bytes(size, "big", signed=True)


def row_bytes(row: tuple[Any, ...]) -> bytes:
    return bytes([0x90 | len(row)]) + b"".join(map(value_bytes, row))


def table_lines(name: str, rows: list[tuple[Any, ...]]) -> list[str]:
    """A line for each chunk."""
    if name == "catalog_playlist_tracks":
        ordered = sorted(
            rows, key=lambda row: (row[0], *((value is not None, value or 0) for value in (row[2], row[1])))
        )
    else:
        ordered = sorted(rows, key=lambda row: (row[0], row_bytes(row)))
    chunks: list[list[bytes]] = []
    last: Any = None
    for row in ordered:
        key = row[0]
        begins = name in KEYED and (((key & 0x7FFFFFFF) * 1103515245) >> 16) & KEYED[name] == 0
        if not chunks or (begins and key != last):
            chunks.append([])
        chunks[-1].append(row_bytes(row))
        last = key
    return [f"{len(chunk)} {hashlib.sha256(b''.join(chunk)).hexdigest()}\n" for chunk in chunks]


def snapshot_id(tables: dict[str, list[tuple[Any, ...]]], schema_version: int = 1) -> str:
    lines = [f"music-cloud-catalog {schema_version}\n"]
    for name in NAMES:
        rows = tables.get(name, [])
        digest = hashlib.sha256("".join(table_lines(name, rows)).encode()).hexdigest()
        lines.append(f"{name} {len(rows)} sha256:{digest}\n")
    return "sha256:" + hashlib.sha256("".join(lines).encode()).hexdigest()
