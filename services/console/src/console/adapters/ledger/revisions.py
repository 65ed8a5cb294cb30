"""Versions of the configuration file, secrets masked."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Row, insert, select, update

from console.adapters.ledger.database import Database
from console.adapters.ledger.tables import config_revisions
from console.ports import Revision


class RevisionStore:
    """The console's truth about versions. Methods block."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, *, file_path: str, text: str, digest: str, note: str, at: datetime) -> Revision:
        """Keep a new one."""
        values = {
            "file_path": file_path,
            "content_text": text,
            "content_hash": digest,
            "note": note,
            "created_at": at,
        }
        with self._database.write() as connection:
            made = connection.execute(insert(config_revisions).values(values).returning(*config_revisions.c)).one()
        return _revision(made)

    def get(self, revision_id: int) -> Revision | None:
        """One version."""
        return self._one(config_revisions.c.id == revision_id)

    def by_digest(self, digest: str) -> Revision | None:
        """The version with this text, the newest if there are several."""
        return self._one(config_revisions.c.content_hash == digest)

    def current(self) -> Revision | None:
        """The one that was applied last."""
        query = (
            select(config_revisions)
            .where(config_revisions.c.applied_at.is_not(None))
            .order_by(config_revisions.c.applied_at.desc(), config_revisions.c.id.desc())
            .limit(1)
        )
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none()
        return _revision(row) if row else None

    def page(self, *, before: int | None, limit: int) -> list[Revision]:
        """Versions, newest first."""
        query = select(config_revisions).order_by(config_revisions.c.id.desc()).limit(limit)
        if before is not None:
            query = query.where(config_revisions.c.id < before)
        with self._database.read() as connection:
            return [_revision(row) for row in connection.execute(query)]

    def applied(self, revision_id: int, *, at: datetime) -> None:
        """A version is that of the file now."""
        with self._database.write() as connection:
            connection.execute(
                update(config_revisions).where(config_revisions.c.id == revision_id).values(applied_at=at)
            )

    def _one(self, condition: Any) -> Revision | None:
        query = select(config_revisions).where(condition).order_by(config_revisions.c.id.desc()).limit(1)
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none()
        return _revision(row) if row else None


def _revision(row: Row[Any]) -> Revision:
    return Revision(
        revision_id=row.id,
        file_path=row.file_path,
        text=row.content_text,
        digest=row.content_hash,
        note=row.note,
        created_at=row.created_at,
        applied_at=row.applied_at,
    )
