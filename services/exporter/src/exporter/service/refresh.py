"""Bringing a snapshot's tables up to date with a catalog that changed, by what the catalog says has changed.

The groups of the things named are selected again and compared with the rows that are there: only what
really differs is written, and told.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping

from exporter.service.read_model import fill_toplists, selection
from exporter.service.source import Source
from exporter.service.values import purify
from mirror.format.schema import TABLES, Key, TableSpec

Changed = dict[str, set[Key]]
"""Keys of groups by table."""

_AT_ONCE = 50_000
"""Things that are compared at once, so that memory does not depend on how much changed."""
_TEMPORARY = """
CREATE TEMP TABLE songs_touched (id INTEGER PRIMARY KEY);
CREATE TEMP TABLE playlists_touched (id INTEGER PRIMARY KEY);
CREATE TEMP TABLE these (id INTEGER PRIMARY KEY);
CREATE TEMP TABLE come_or_gone (id INTEGER PRIMARY KEY);
CREATE TEMP TABLE differing (id PRIMARY KEY) WITHOUT ROWID;
"""


class Refresh:
    """One update, in the transaction of the caller; ``read_model.prepare`` has been called."""

    def __init__(self, connection: sqlite3.Connection, source: Source) -> None:
        self._connection = connection
        self._source = source
        self.changed: Changed = {table: set() for table in TABLES}
        for statement in _TEMPORARY.strip().split("\n"):
            connection.execute(statement)
        for name, table in TABLES.items():
            kinds = zip(table.columns, table.kinds, strict=True)
            columns = ", ".join(f'"{column}" {kind.upper()}' for column, kind in kinds)
            connection.execute(f'CREATE TEMP TABLE "{name}" ({columns})')

    def run(self, *, after: int, backends: Mapping[int, tuple[str | None, ...]]) -> Changed:
        """Take in what changed after a sequence of CATALOG; return the groups that are other than before.

        ``backends``: as they were when the rows were made.
        """
        run = self._connection.execute
        for kind, table in (("song", "songs_touched"), ("playlist", "playlists_touched")):
            run(
                f"INSERT INTO temp.{table} SELECT key FROM source.catalog_changes"  # noqa: S608
                " WHERE kind = ? AND sequence > ?",
                (kind, after),
            )
        pools = run("SELECT 1 FROM source.catalog_changes WHERE kind = 'pool' AND sequence > ? LIMIT 1", (after,))
        pools_changed = pools.fetchone() is not None
        self._touch_files_of_changed_backends(backends)
        for _ in self._slices("songs_touched"):
            self._compare("catalog_tracks", note_presence=True)
            if self._source.has_files:
                self._compare("catalog_track_files")
        self._touch_playlists_of_songs_that_came_or_went()
        for _ in self._slices("playlists_touched"):
            self._compare("catalog_playlists")
            self._compare("catalog_playlist_tracks")
        if pools_changed or self.changed["catalog_playlists"]:
            self._compare_toplists()
        return self.changed

    def _slices(self, table: str) -> Iterator[None]:
        """Each time with the next ids in the table ``these``."""
        run = self._connection.execute
        last: int | None = -(2**63)
        while True:
            run("DELETE FROM temp.these")
            run(
                f"INSERT INTO temp.these SELECT id FROM temp.{table} WHERE id > ? ORDER BY id LIMIT {_AT_ONCE}",  # noqa: S608
                (last,),
            )
            (last,) = run("SELECT max(id) FROM temp.these").fetchone()
            if last is None:
                return
            yield

    def _compare(self, table: str, *, note_presence: bool = False) -> None:
        """Make the groups of ``these`` what the catalog says."""
        spec = TABLES[table]
        run = self._connection.execute
        run(f"DELETE FROM temp.{table}")  # noqa: S608
        run(f"INSERT INTO temp.{table} {selection(table, self._source, only='these')}")
        purify(self._connection, table, schema="temp")
        self._find_differing(spec, f"{spec.group} IN (SELECT id FROM temp.these)")  # noqa: S608
        if note_presence:
            here = f"id IN (SELECT {spec.group} FROM {{}}.{table})"  # noqa: S608
            run(
                "INSERT OR IGNORE INTO temp.come_or_gone SELECT id FROM temp.differing"  # noqa: S608
                f" WHERE ({here.format('main')}) <> ({here.format('temp')})"
            )
        self._apply(spec)

    def _compare_toplists(self) -> None:
        spec = TABLES["catalog_toplists"]
        self._connection.execute("DELETE FROM temp.catalog_toplists")
        fill_toplists(self._connection, self._source, schema="temp")
        self._find_differing(spec, "true")
        self._apply(spec)

    def _find_differing(self, spec: TableSpec, which: str) -> None:
        """The groups whose rows are not the same, however the rows lie."""
        run = self._connection.execute
        line = "||','||".join(f'quote("{column}")' for column in spec.columns)
        side = f'SELECT {spec.group} AS id, {{}} AS side, {line} AS line FROM {{}}."{spec.name}" WHERE {which}'  # noqa: S608
        run("DELETE FROM temp.differing")
        run(
            "INSERT INTO temp.differing SELECT id FROM ("  # noqa: S608
            " SELECT id, group_concat(CASE side WHEN 0 THEN line END, char(10)) AS held,"
            " group_concat(CASE side WHEN 1 THEN line END, char(10)) AS made"
            f" FROM ({side.format(0, 'main')} UNION ALL {side.format(1, 'temp')} ORDER BY 1, 2, 3) GROUP BY id"
            ") WHERE held IS NOT made"
        )

    def _apply(self, spec: TableSpec) -> None:
        run = self._connection.execute
        differing = f"{spec.group} IN (SELECT id FROM temp.differing)"  # noqa: S608
        run(f"DELETE FROM main.{spec.name} WHERE {differing}")  # noqa: S608
        order = ", ".join(spec.order)
        run(f"INSERT INTO main.{spec.name} SELECT * FROM temp.{spec.name} WHERE {differing} ORDER BY {order}")  # noqa: S608
        self.changed[spec.name].update(row[0] for row in run("SELECT id FROM temp.differing"))

    def _touch_files_of_changed_backends(self, before: Mapping[int, tuple[str | None, ...]]) -> None:
        """A backend's name and URL stand in each of its files. There are few backends."""
        if not self._source.has_files:
            return
        now = backends(self._connection)
        for id in {*now, *before}:
            if now.get(id) != before.get(id):
                self._connection.execute(
                    "INSERT OR IGNORE INTO temp.songs_touched SELECT a.song_id FROM source.file_locations l"
                    " CROSS JOIN source.file_assets a ON a.id = l.file_asset_id WHERE l.backend_id = ?",
                    (id,),
                )

    def _touch_playlists_of_songs_that_came_or_went(self) -> None:
        """Their entries appear and vanish with them. Reading all entries once is cheaper than keeping an index."""
        run = self._connection.execute
        if run("SELECT 1 FROM temp.come_or_gone LIMIT 1").fetchone():
            run(
                "INSERT OR IGNORE INTO temp.playlists_touched SELECT DISTINCT playlist_id FROM source.playlist_songs"
                " WHERE song_id IN (SELECT id FROM temp.come_or_gone)"
            )


def backends(connection: sqlite3.Connection) -> dict[int, tuple[str | None, ...]]:
    """The backends as files name them, by id."""
    rows = connection.execute("SELECT id, name, backend_type, public_base_url FROM temp.backends")
    return {int(id): tuple(rest) for id, *rest in rows}
