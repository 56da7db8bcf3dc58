"""The migrations make what the code believes to be there, go back, and may be run twice."""

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from billing.db import make_engine
from migrations import run


@pytest.fixture
async def empty_url(owner_engine: AsyncEngine) -> AsyncIterator[str]:
    """A database of this test alone."""
    name = f"migrations_{uuid4().hex[:12]}"
    server = make_engine(
        owner_engine.url.render_as_string(hide_password=False), isolation_level="AUTOCOMMIT"
    )
    async with server.connect() as connection:
        await connection.execute(text(f"CREATE DATABASE {name}"))
    yield owner_engine.url.set(database=name).render_as_string(hide_password=False)
    async with server.connect() as connection:
        await connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    await server.dispose()


async def test_the_tables_are_those_of_the_code(database_owner_url: str) -> None:
    await asyncio.to_thread(run.check, database_owner_url)


async def test_each_migration_can_be_undone_and_done_again(empty_url: str) -> None:
    await asyncio.to_thread(run.upgrade, empty_url)
    await asyncio.to_thread(run.downgrade, empty_url, "base")
    await asyncio.to_thread(run.upgrade, empty_url)
    await asyncio.to_thread(run.upgrade, empty_url)
    await asyncio.to_thread(run.check, empty_url)


async def test_two_that_migrate_at_once_do_not_meet(empty_url: str) -> None:
    await asyncio.gather(*(asyncio.to_thread(run.upgrade, empty_url) for _ in range(3)))
    await asyncio.to_thread(run.check, empty_url)
