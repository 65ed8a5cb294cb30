"""Looking into the console's ledger, and losing it, wherever it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, create_engine, text

from common.database import parse_url
from tests.support.console import ConsoleProcess


@contextmanager
def ledger(console: ConsoleProcess) -> Iterator[Connection]:
    """A connection that reads the ledger, each statement what is there by then."""
    url = console.environment.get("DATABASE_URL")
    engine = (
        create_engine(parse_url(url), connect_args={"options": "-c search_path=console"}, isolation_level="AUTOCOMMIT")
        if url
        else create_engine(f"sqlite:///file:{console.root}/state/ops.db?mode=ro&uri=true", isolation_level="AUTOCOMMIT")
    )
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


def lose_ledger(console: ConsoleProcess) -> None:
    """Remove it; the console does not run."""
    if not console.environment.get("DATABASE_URL"):
        for file in (console.root / "state").glob("ops.db*"):
            file.unlink()
        return
    with ledger(console) as connection:
        connection.execute(text("DROP SCHEMA console CASCADE"))
