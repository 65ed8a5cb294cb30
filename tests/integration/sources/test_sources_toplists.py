"""A toplist that a source collects stands among the toplists of the published snapshot."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.nats import NatsServer
from tests.support.source_apis import AudiusApi, running
from tests.support.stack import Stack


@pytest.fixture
def stack(tmp_path: Path, nats_server: NatsServer) -> Iterator[Stack]:
    with running(AudiusApi) as api:
        one = Stack(
            tmp_path,
            nats_server,
            SOURCES="audius",
            SOURCE_RATES="audius=1000",
            AUDIUS_URL=api.url,
            AUDIUS_PLAYLISTS="AxRPz",
            AUDIUS_TOPLISTS="week,month",
            ALLOW_PRIVATE_HOSTS=f"127.0.0.1:{api.port}",
        )
        yield one
        one.stop()


def toplists(snapshots: Path) -> list[tuple[str, str, str, str, int]]:
    """Of the newest snapshot; none where there is no snapshot yet."""
    database = snapshots / "current" / "catalog_read.db"
    if not database.is_file():
        return []
    with closing(sqlite3.connect(f"file:{database}?mode=ro&immutable=1", uri=True)) as connection:
        return connection.execute(
            "SELECT toplist_id, platform, name, group_name, song_count FROM catalog_toplists ORDER BY toplist_id"
        ).fetchall()


def test_a_toplist_comes_into_the_snapshot_as_one(stack: Stack) -> None:
    stack.start_all("console", "collector", "exporter")
    for kind in ("collect_only", "sync_only"):
        assert stack.wait_job(stack.job(kind)) == "completed", stack.log_ends()
    snapshots = stack.root / "snapshots"
    expected = [
        ("audius-month", "audius", "Audius: most heard this month", "Audius toplists", 3),
        ("audius-week", "audius", "Audius: most heard this week", "Audius toplists", 3),
    ]
    stack.until(lambda: toplists(snapshots) == expected, seconds=60, what="the toplists to be published")
