"""How the tables of the collector came to be; Alembic reads ``versions/``."""
