"""Login sessions. The table holds no value that could be used as a cookie."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from datetime import datetime, timedelta

from sqlalchemy import delete, insert, select

from console.adapters.ledger.database import Database
from console.adapters.ledger.tables import sessions

LIFETIME = timedelta(days=14)


class SessionStore:
    """Sessions end by time, by logout, and all at once when the credential changes."""

    def __init__(self, database: Database, *, credential: str) -> None:
        self._database = database
        self._key = credential.encode()
        self._known: dict[str, datetime] = {}

    def open(self, at: datetime) -> str:
        """Start a session; the returned value goes into the cookie and nowhere else."""
        value = secrets.token_urlsafe(32)
        ends = at + LIFETIME
        with self._database.write() as connection:
            connection.execute(delete(sessions).where(sessions.c.expires_at <= at))
            connection.execute(insert(sessions).values(key=self._hash(value), created_at=at, expires_at=ends))
        return value

    def valid(self, value: str, at: datetime) -> bool:
        """Whether ``value`` is a session that goes on."""
        key = self._hash(value)
        ends = self._known.get(key)
        if ends is None:
            with self._database.read() as connection:
                ends = connection.scalar(select(sessions.c.expires_at).where(sessions.c.key == key))
            if ends is None:
                return False
            self._known[key] = ends
        return ends > at

    def close(self, value: str) -> None:
        """End a session; the cookie is worth nothing from here on."""
        key = self._hash(value)
        self._known.pop(key, None)
        with self._database.write() as connection:
            connection.execute(delete(sessions).where(sessions.c.key == key))

    def _hash(self, value: str) -> str:
        return hmac.new(self._key, value.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()
