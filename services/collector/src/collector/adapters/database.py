"""Opening the record, ``collector.db`` or a schema of PostgreSQL: nothing in it that a replay does not give back."""

from __future__ import annotations

from collector import migrations
from common.database import Database, Location, Schema, remove_file
from common.errors import DatabaseUnreadable
from common.telemetry import get_logger

from .tables import songs

FILE_NAME = "collector.db"

SCHEMA = Schema(
    migrations=migrations,
    marker=songs.name,
    alone=True,
    # A power cut may lose the last commits; they are read from the bus again.
    synchronous="NORMAL",
    pragmas=("cache_size=-65536", "temp_store=MEMORY"),
    pool=10,
)


def open_record(location: Location) -> Database:
    """Open or make it; a file that cannot be read is made anew.

    Raises ConfigurationError when another collector has it or it is newer than this program; DatabaseDown when
    it cannot be used now.
    """
    try:
        return Database(location, SCHEMA)
    except DatabaseUnreadable:
        get_logger().warning("the record is made anew from the bus")
        remove_file(location.path)
        return Database(location, SCHEMA)
