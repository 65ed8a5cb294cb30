"""The tables of the format are those that the exporter describes to its readers."""

from __future__ import annotations

import sqlite3

from sqlalchemy import create_engine, insert, inspect, types
from sqlalchemy.pool import StaticPool

from common.catalog import read_model
from mirror.format import schema
from mirror.format.schema import TABLES, create_tables

KINDS = {types.Integer: "integer", types.String: "text"}


def test_the_description_for_readers_and_the_format_agree() -> None:
    assert list(TABLES) == sorted(read_model.metadata.tables)
    for name, spec in TABLES.items():
        table = read_model.metadata.tables[name]
        assert spec.name == name
        assert spec.columns == tuple(table.columns.keys())
        assert spec.kinds == tuple(
            next(kind for type_, kind in KINDS.items() if isinstance(column.type, type_)) for column in table.columns
        )
        assert spec.order == read_model.CANONICAL_ORDER[name]
        assert spec.single == bool(table.primary_key.columns)
        assert spec.order[: len(spec.indexed)] == spec.indexed
        assert spec.group == spec.columns[0] == spec.indexed[0]
    assert schema.SCHEMA_VERSION == read_model.SCHEMA_VERSION
    assert (schema.DATABASE_FILE, schema.MANIFEST_FILE) == (read_model.DATABASE_FILE, read_model.MANIFEST_FILE)


def test_the_tables_that_are_made_have_the_keys_and_indexes_of_the_description() -> None:
    connection = sqlite3.connect(":memory:", check_same_thread=False)
    create_tables(connection)
    made = inspect(create_engine("sqlite://", creator=lambda: connection, poolclass=StaticPool))
    for name, table in read_model.metadata.tables.items():
        assert [column["name"] for column in made.get_columns(name)] == list(table.columns.keys())
        assert made.get_pk_constraint(name)["constrained_columns"] == [column.name for column in table.primary_key]
        indexes = {index["name"]: index["column_names"] for index in made.get_indexes(name)}
        assert indexes == {index.name: [column.name for column in index.columns] for index in table.indexes}
    engine = create_engine("sqlite://", creator=lambda: connection, poolclass=StaticPool)
    with engine.connect() as session:
        session.execute(insert(read_model.catalog_playlist_tracks), [{"playlist_id": 1, "song_id": 2, "position": 3}])
    engine.dispose()
    connection.close()


def test_a_boundary_is_the_same_in_python_and_in_sql() -> None:
    connection = sqlite3.connect(":memory:")
    create_tables(connection)
    keys = [*range(-200, 2000), 2**31, 2**31 - 1, 2**53 - 1, 2**63 - 1, -(2**63), *range(2**52, 2**52 + 500)]
    connection.executemany("INSERT INTO catalog_tracks(song_id) VALUES (?)", [(key,) for key in keys])
    spec = TABLES["catalog_tracks"]
    rows = connection.execute(f"SELECT song_id FROM catalog_tracks WHERE {spec.boundary}").fetchall()
    assert {key for (key,) in rows} == set(spec.boundaries(keys))
    assert 250 < len(rows) < 450, "about one key of eight begins a chunk"
    connection.close()
