"""Run by Alembic for each upgrade, on the connection that the service opened."""

from alembic import context

from common.database_migrations import run_migrations

run_migrations(context.config)
