"""The seed of the dashboard's benchmark: books as the ledger would have kept them."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from bench.seed_billing import check, fill
from bench.seed_lives import Life, new_life
from billing import periods
from billing.db import make_engine, make_sessions
from billing.invariants import check_all
from migrations import run

ACCOUNTS = 80
SEED = 7


def lives(until: datetime) -> list[Life]:
    since = until - timedelta(days=90)
    return [new_life(SEED, number, since=since, until=until) for number in range(ACCOUNTS)]


@pytest.fixture
async def seeded(owner_engine: AsyncEngine) -> AsyncIterator[str]:
    """Seed a database of this test alone, as of two months ago."""
    name = f"seed_{uuid4().hex[:12]}"
    owner_url = owner_engine.url.render_as_string(hide_password=False)
    server = make_engine(owner_url, isolation_level="AUTOCOMMIT")
    async with server.connect() as connection:
        await connection.execute(text(f"CREATE DATABASE {name}"))
    url = owner_engine.url.set(database=name, drivername="postgresql").render_as_string(
        hide_password=False
    )
    await asyncio.to_thread(run.upgrade, url)
    await fill(url, lives(datetime.now(UTC) - timedelta(days=60)))
    yield url
    async with server.connect() as connection:
        await connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    await server.dispose()


async def test_what_is_seeded_keeps_every_rule(seeded: str) -> None:
    assert await check(seeded) == []


async def test_the_ledger_goes_on_where_the_seed_has_ended(seeded: str) -> None:
    engine = make_engine(seeded)
    sessions = make_sessions(engine)
    async with sessions.begin() as db:
        due = await periods.due_accounts(db, limit=ACCOUNTS)
        for account_id in due:
            await periods.advance(db, account_id)
    async with sessions.begin() as db:
        findings = await check_all(db)
    await engine.dispose()
    assert len(due) > ACCOUNTS // 2, "two months have passed"
    assert [finding for finding in findings if not finding.is_ok] == []


def test_the_same_seed_gives_the_same_lives() -> None:
    until = datetime(2026, 11, 20, tzinfo=UTC)
    first, second = (
        [(life.id, life.name, len(life.calls), life.books.balances) for life in lives(until)]
        for _ in range(2)
    )
    assert first == second
