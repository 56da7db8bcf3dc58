"""The database itself keeps what was written, and keeps every transaction at zero."""

from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from billing import accounts, ledger
from billing.db import SessionFactory, sqlstate_of
from tests.billing.conftest import JANUARY_31, Opens, captured

INSUFFICIENT_PRIVILEGE = "42501"
RESTRICT_VIOLATION = "23001"
INTEGRITY_VIOLATION = "23000"
CHECK_VIOLATION = "23514"

PAST = ("ledger_txn", "ledger_entry", "audit_event")
CHANGES = (
    "UPDATE ledger_entry SET amount = amount * 2",
    "UPDATE ledger_txn SET ref = 'x'",
    "UPDATE audit_event SET actor = 'x'",
    "UPDATE plan_version SET monthly_credits = 1",
    *(f"DELETE FROM {table}" for table in (*PAST, "plan_version")),  # noqa: S608 - our own
    *(f"TRUNCATE {table} CASCADE" for table in PAST),
)


@pytest.fixture
async def spent(committed_sessions: SessionFactory) -> UUID:
    """An account that has granted, held and captured, for everybody to see."""
    async with committed_sessions.begin() as db:
        account = await accounts.create_account(db, name="Kept", plan="free", actor="test")
        await captured(db, account.id)
    return account.id


async def refusal_of(engine: AsyncEngine, statement: str) -> str | None:
    """Try a statement and tell the database's code for its refusal."""
    with pytest.raises(DBAPIError) as refused:
        async with engine.begin() as connection:
            await connection.execute(text(statement))
    return sqlstate_of(refused.value)


@pytest.mark.parametrize("statement", CHANGES)
async def test_the_application_may_not_change_the_past(
    engine: AsyncEngine, spent: UUID, statement: str
) -> None:
    assert spent
    assert await refusal_of(engine, statement) == INSUFFICIENT_PRIVILEGE


@pytest.mark.parametrize("statement", CHANGES)
async def test_even_the_owner_of_the_tables_is_refused(
    owner_engine: AsyncEngine, spent: UUID, statement: str
) -> None:
    assert spent
    assert await refusal_of(owner_engine, statement) == RESTRICT_VIOLATION


async def test_entries_that_do_not_sum_to_zero_are_refused(
    engine: AsyncEngine, spent: UUID
) -> None:
    line_more = (
        "INSERT INTO ledger_entry (txn_id, line, bucket, amount, balance_after)"  # noqa: S608
        f" SELECT max(id), 9, 'available', 5, 5 FROM ledger_txn WHERE account_id = '{spent}'"
    )
    assert await refusal_of(engine, line_more) == INTEGRITY_VIOLATION


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE hold SET state = 'held', settled_at = NULL",
        "UPDATE credit_grant SET amount = amount + 1",
        "UPDATE credit_grant SET expires_at = NULL",
    ],
)
async def test_what_is_settled_or_given_stays_as_it_is(
    engine: AsyncEngine, spent: UUID, change: str
) -> None:
    code = await refusal_of(engine, f"{change} WHERE account_id = '{spent}'")
    assert code == RESTRICT_VIOLATION


async def test_a_balance_below_the_limit_is_refused_by_the_database(
    engine: AsyncEngine, spent: UUID
) -> None:
    overdraw = f"UPDATE credit_account SET available = -1 WHERE account_id = '{spent}'"  # noqa: S608
    assert await refusal_of(engine, overdraw) == CHECK_VIOLATION


async def test_the_ledger_can_be_read_and_appended_to(
    db: AsyncSession, open_account: Opens
) -> None:
    account_id = await open_account()
    await captured(db, account_id, at=JANUARY_31)
    assert (await ledger.balance_of(db, account_id, at=JANUARY_31)).consumed == 25
