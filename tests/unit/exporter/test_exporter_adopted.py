"""Ids that came from an older catalog are those of the rows, whenever they become known."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

from common.contracts.envelope import encode, wrap
from common.contracts.facts import BackendDefined, Fact
from common.contracts.names import BackendKind
from exporter.adapters.database import close_catalog, open_catalog
from exporter.service.projection import Projection, read_batch
from tests.support.catalog_facts import Log, rows, song, stored


def test_adopted_ids_do_not_depend_on_the_order_of_arrival(tmp_path: Path) -> None:
    facts: list[Fact] = [
        BackendDefined(backend="library", backend_id=3, kind=BackendKind.FILESYSTEM),
        song("a", song_id=11),
        stored("a", song_id=11, asset_id=21, location_id=31),
    ]
    found = set()
    for number, order in enumerate(permutations(facts)):
        log = Log()
        log.write(*order)
        database = tmp_path / f"{number}.db"
        connection = open_catalog(database)
        try:
            projection = Projection(connection)
            for message in log.all:
                projection.apply(read_batch([message]))
        finally:
            close_catalog(connection)
        tables = rows(database, ["songs", "file_assets", "file_locations", "storage_backends"])
        found.add(
            (
                tables["songs"][0][0],
                tables["file_assets"][0][:2],
                tables["file_locations"][0][:3],
                tables["storage_backends"][0][:2],
            )
        )
    assert found == {(11, (21, 11), (31, 21, 3), (3, "library"))}


def test_a_catalog_of_an_older_version_gets_the_columns_that_a_new_one_has(tmp_path: Path) -> None:
    def columns(database: Path, *changes: str) -> set[tuple[str, str, str]]:
        connection = open_catalog(database)
        try:
            Projection(connection)
            found = {
                (table, row.name, row.type)
                for table in ("fact_backends", "fact_files")
                for row in connection.exec_driver_sql(f"PRAGMA table_info({table})")
            }
            for change in changes:
                connection.exec_driver_sql(change)
            return found
        finally:
            close_catalog(connection)

    older = ("ALTER TABLE fact_backends DROP COLUMN backend_id", "ALTER TABLE fact_files DROP COLUMN singers_list")
    new = columns(tmp_path / "catalog.db", *older)
    assert columns(tmp_path / "catalog.db") == new


def test_the_optional_ids_travel_in_the_messages() -> None:
    fact = stored("a", location_id=31)
    assert b'"location_id":31' in encode(wrap(fact, id="one", producer="test"))
    assert b"location_id" not in encode(wrap(stored("a"), id="one", producer="test"))
