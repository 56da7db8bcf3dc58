"""Bring a database up to date: `upgrade(database_url)`.

Alembic is driven from here rather than from an alembic.ini, so that the command line, the tests
and a deployment migrate by the same lines. Synchronous: call it in a thread where a loop runs.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text
from sqlalchemy.pool import NullPool
from sqlalchemy.util import await_only

from billing.db import make_engine

# Whoever migrates this database holds this advisory lock: two gateways may start at once.
MIGRATION_LOCK = 7_205_759
# A deploy that cannot have a table within seconds fails, instead of stalling the traffic behind it.
SERVER_SETTINGS = {"statement_timeout": "300000", "lock_timeout": "5000"}


class BrokenIndexError(Exception):
    """An index that was built by hand, ahead of its migration, is not valid."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"the index {name} is not valid: its CREATE INDEX CONCURRENTLY failed or still runs."
            f" Once that has ended: DROP INDEX CONCURRENTLY {name}, build it anew or leave it to"
            " the migration, and migrate again"
        )


def upgrade(database_url: str, revision: str = "head") -> None:
    """Run what has not been run yet; nothing if the database is up to date."""
    run_alembic(database_url, lambda config: command.upgrade(config, revision))


def downgrade(database_url: str, revision: str) -> None:
    """Undo down to `revision` (`base` for all). For development; data goes with its tables."""
    run_alembic(database_url, lambda config: command.downgrade(config, revision))


def check(database_url: str) -> None:
    """Raise if the tables in the code and those in the database differ."""
    run_alembic(database_url, command.check)


def run_alembic(database_url: str, work: Callable[[Config], None]) -> None:
    asyncio.run(_on_connection(database_url, work))


async def _on_connection(database_url: str, work: Callable[[Config], None]) -> None:
    engine = make_engine(database_url, server_settings=SERVER_SETTINGS, poolclass=NullPool)
    try:
        async with engine.begin() as connection:
            await connection.run_sync(_locked, work)
    finally:
        await engine.dispose()


def execute_script(connection: Connection, script: str) -> None:
    """Run a file of several statements inside the connection's transaction.

    asyncpg prepares what SQLAlchemy sends, and only one statement can be prepared; its own
    `execute` takes a script as psql does.
    """
    raw = connection.connection.driver_connection
    if raw is None:
        raise RuntimeError("the connection was given back to its pool")
    await_only(raw.execute(script))


def refuse_broken_indexes(connection: Connection, *names: str) -> None:
    """Stop where an index of these names was begun by hand and never became whole.

    CREATE INDEX CONCURRENTLY that fails leaves one behind which no query may use, and which
    IF NOT EXISTS takes for the index itself.

    Raises:
        BrokenIndexError: one of them is not valid.
    """
    broken = text("SELECT 1 FROM pg_index WHERE indexrelid = to_regclass(:name) AND NOT indisvalid")
    for name in names:
        if connection.scalar(broken, {"name": name}) is not None:
            raise BrokenIndexError(name)


def _locked(connection: Connection, work: Callable[[Config], None]) -> None:
    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": MIGRATION_LOCK})
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.set_main_option("path_separator", "os")
    work(config)
