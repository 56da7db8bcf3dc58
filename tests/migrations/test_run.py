"""The migrations make what the code believes to be there, go back, and may be run twice."""

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine
from typer.testing import CliRunner, Result

from billing.db import make_engine
from gateway.cli import db
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


async def fail_to_build(url: str, name: str, on: str) -> None:
    """Begin an index by hand while somebody writes to the table, and lose patience."""
    server = make_engine(url, isolation_level="AUTOCOMMIT")
    writer = make_engine(url)
    build = text(f"CREATE INDEX CONCURRENTLY {name} ON {on}")
    async with writer.begin() as writing, server.connect() as building:
        await writing.execute(text(f"LOCK TABLE {on.split(maxsplit=1)[0]} IN ROW EXCLUSIVE MODE"))
        await building.execute(text("SET statement_timeout = '300ms'"))
        with pytest.raises(DBAPIError, match="statement timeout"):
            await building.execute(build)
    await writer.dispose()
    await server.dispose()


async def execute(url: str, *statements: str) -> None:
    server = make_engine(url, isolation_level="AUTOCOMMIT")
    async with server.connect() as connection:
        for statement in statements:
            await connection.execute(text(statement))
    await server.dispose()


async def migrate(url: str) -> Result:
    """Migrate as an operator does."""
    said = {
        "DATABASE_URL": url,
        "KEY_PEPPERS": '{"1": "pepper-of-the-tests-and-nobody-else"}',
        "LINK_SECRET": "link-secret-of-the-tests-and-nobody-else",
    }
    env = {f"CUTOUT_{name}": value for name, value in said.items()}
    return await asyncio.to_thread(CliRunner().invoke, db.app, ["migrate"], env=env)


@pytest.mark.parametrize(
    ("before", "name", "on"),
    [
        ("0006", "ix_job_created_at", "job (created_at, id)"),
        (
            "0008",
            "ix_job_error_code_created_at",
            "job (error_code, created_at) WHERE state = 'failed'",
        ),
        ("0009", "ix_audit_event_action_seq", "audit_event (action, seq)"),
    ],
)
async def test_an_index_whose_building_by_hand_failed_is_not_taken_for_one(
    empty_url: str, before: str, name: str, on: str
) -> None:
    await asyncio.to_thread(run.upgrade, empty_url, before)
    await fail_to_build(empty_url, name, on)
    refused = await migrate(empty_url)
    assert refused.exit_code == 2
    assert f"✗ the index {name} is not valid" in refused.output
    mend = f"DROP INDEX CONCURRENTLY {name}"
    assert mend in refused.output
    await execute(empty_url, mend, f"CREATE INDEX CONCURRENTLY {name} ON {on}")
    assert (await migrate(empty_url)).exit_code == 0
    await asyncio.to_thread(run.check, empty_url)


async def test_going_back_gives_up_on_a_table_that_is_in_use(
    empty_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await asyncio.to_thread(run.upgrade, empty_url)
    monkeypatch.setitem(run.SERVER_SETTINGS, "lock_timeout", "200")
    reader = make_engine(empty_url)
    async with reader.begin() as reading:
        await reading.execute(text("LOCK TABLE audit_event IN ACCESS SHARE MODE"))
        with pytest.raises(DBAPIError, match="lock timeout"):
            await asyncio.to_thread(run.downgrade, empty_url, "0009")
    await reader.dispose()
