"""How the tables of the downloader came to be; Alembic reads ``versions/``."""
