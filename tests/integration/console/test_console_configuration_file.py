"""A configuration file while a program saves it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from common.contracts.settings import LiveSettings
from console.adapters.env_store import EnvStore
from console.adapters.ledger import Database
from console.adapters.ledger.revisions import RevisionStore
from console.service import configuration
from console.service.configuration import SETTLED_AFTER, Configuration
from tests.support.postgres import location


class Told:
    """What services would have been told."""

    def __init__(self) -> None:
        self.all: list[LiveSettings] = []

    async def announce(self, settings: LiveSettings) -> None:
        self.all.append(settings)


async def test_a_file_counts_when_it_has_stayed_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moment = SimpleNamespace(now=100.0)
    monkeypatch.setattr(configuration, "time", SimpleNamespace(monotonic=lambda: moment.now))
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "music-cloud.env"
    file.write_text("DOWNLOAD_CONCURRENCY=4\n")
    database = Database(location("console", tmp_path / "ops.db", ""))
    try:
        watched = Configuration(
            file=EnvStore(),
            revisions=RevisionStore(database),
            announcer=Told(),
            judge=lambda _: {},
            environment=(),
            secrets=(),
            on_change=lambda: None,
        )
        await watched.look()
        assert watched.current is not None and watched.current.text == "DOWNLOAD_CONCURRENCY=4\n"

        for half in ("", "DOWNLOAD_CONC", "DOWNLOAD_CONCURRENCY=1"):
            file.write_text(half)
            await watched.look()
            moment.now += SETTLED_AFTER * 0.9
            await watched.look()
            assert watched.current.revision_id == 1 and not watched.problem
        file.write_text("DOWNLOAD_CONCURRENCY=12\n")
        await watched.look()
        moment.now += SETTLED_AFTER
        await watched.look()
        assert (watched.current.revision_id, watched.current.text) == (2, "DOWNLOAD_CONCURRENCY=12\n")
    finally:
        database.close()
