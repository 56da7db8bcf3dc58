"""The database itself keeps what was written, and keeps every transaction at zero."""

from uuid import UUID

import pytest
from sqlalchemy import select, text, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from billing import accounts, ledger
from billing.db import SessionFactory, sqlstate_of
from billing.tables import CreditGrant, HoldSlice
from tests.billing.conftest import JANUARY_31, Opens, captured, held

INSUFFICIENT_PRIVILEGE = "42501"
RESTRICT_VIOLATION = "23001"
INTEGRITY_VIOLATION = "23000"
CHECK_VIOLATION = "23514"
FOREIGN_KEY_VIOLATION = "23503"

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


LINE_MORE = (
    "INSERT INTO ledger_entry (txn_id, line, bucket, amount, balance_after)"
    " SELECT max(txn_id), 9, 'available', 5, 5 FROM ledger_entry"
)


async def test_the_application_may_write_no_entry_itself(engine: AsyncEngine, spent: UUID) -> None:
    assert spent
    assert await refusal_of(engine, LINE_MORE) == INSUFFICIENT_PRIVILEGE
    balance = f"UPDATE credit_account SET available = 10000 WHERE account_id = '{spent}'"  # noqa: S608
    assert await refusal_of(engine, balance) == INSUFFICIENT_PRIVILEGE


async def test_entries_that_do_not_sum_to_zero_are_refused_whoever_writes_them(
    engine: AsyncEngine, owner_engine: AsyncEngine, spent: UUID
) -> None:
    assert await refusal_of(owner_engine, LINE_MORE) == INTEGRITY_VIOLATION
    out_of_nothing = (
        f"SELECT ledger_post('{spent}', 'adjust', 'x', 'me', '', NULL, now(),"
        " ARRAY['available'], ARRAY[NULL::uuid], ARRAY[1000])"
    )
    assert await refusal_of(engine, out_of_nothing) == INTEGRITY_VIOLATION


async def test_a_transaction_touches_no_other_accounts_grants(
    engine: AsyncEngine, committed_sessions: SessionFactory, spent: UUID
) -> None:
    async with committed_sessions.begin() as db:
        other = await accounts.create_account(db, name="Other", plan="free", actor="test")
        grant_id = await db.scalar(select(CreditGrant.id).where(CreditGrant.account_id == other.id))
    theft = (
        f"SELECT ledger_post('{spent}', 'adjust', 'x', 'me', '', NULL, now(),"
        f" ARRAY['available', 'issued'], ARRAY['{grant_id}', NULL]::uuid[], ARRAY[-5, 5])"
    )
    assert await refusal_of(engine, theft) == FOREIGN_KEY_VIOLATION


async def test_a_capture_spends_no_other_accounts_grants(
    db: AsyncSession, open_account: Opens
) -> None:
    account_id, other = await open_account(), await open_account()
    job_id = await held(db, account_id, at=JANUARY_31)
    theirs = select(CreditGrant.id).where(CreditGrant.account_id == other).scalar_subquery()
    await db.execute(update(HoldSlice).where(HoldSlice.job_id == job_id).values(grant_id=theirs))
    with pytest.raises(DBAPIError) as refused:
        await ledger.capture(db, job_id, at=JANUARY_31)
    assert sqlstate_of(refused.value) == FOREIGN_KEY_VIOLATION


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE hold SET state = 'held', settled_at = NULL",
        "UPDATE hold SET amount = 1",
        "UPDATE credit_grant SET amount = amount + 1",
        "UPDATE credit_grant SET expires_at = NULL",
    ],
)
async def test_what_is_settled_or_given_stays_as_it_is(
    owner_engine: AsyncEngine, spent: UUID, change: str
) -> None:
    code = await refusal_of(owner_engine, f"{change} WHERE account_id = '{spent}'")
    assert code == RESTRICT_VIOLATION


async def test_a_balance_below_the_limit_is_refused_by_the_database(
    owner_engine: AsyncEngine, spent: UUID
) -> None:
    overdraw = f"UPDATE credit_account SET available = -1 WHERE account_id = '{spent}'"  # noqa: S608
    assert await refusal_of(owner_engine, overdraw) == CHECK_VIOLATION


async def test_the_ledger_can_be_read_and_appended_to(
    db: AsyncSession, open_account: Opens
) -> None:
    account_id = await open_account()
    await captured(db, account_id, at=JANUARY_31)
    assert (await ledger.balance_of(db, account_id, at=JANUARY_31)).consumed == 25


MINT = (
    "SELECT ledger_post('{account}', 'grant', 'x', 'me', '', NULL, now(),"
    " ARRAY['issued', 'available'], ARRAY[NULL, NULL]::uuid[], ARRAY[-1000, 1000])"
)
SPEND = "SELECT place_hold('{account}', gen_random_uuid(), 25, NULL, NULL, now())"
CHARGE = "SELECT capture_hold(gen_random_uuid(), now())"


@pytest.mark.parametrize("statement", [MINT, SPEND, CHARGE])
async def test_a_role_that_was_given_nothing_may_not_post(
    owner_engine: AsyncEngine, spent: UUID, statement: str
) -> None:
    async with owner_engine.connect() as connection:
        await connection.execute(text("CREATE ROLE passer_by"))
        await connection.execute(text("SET LOCAL ROLE passer_by"))
        with pytest.raises(DBAPIError) as refused:
            await connection.execute(text(statement.format(account=spent)))
        await connection.rollback()
    assert sqlstate_of(refused.value) == INSUFFICIENT_PRIVILEGE
    assert "permission denied for function" in str(refused.value)


async def test_no_function_is_open_to_everybody_or_looks_names_up_where_the_caller_says(
    owner_engine: AsyncEngine,
) -> None:
    loose = text(
        "SELECT p.proname FROM pg_proc p WHERE p.pronamespace = 'public'::regnamespace"
        " AND (EXISTS (SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a"
        "              WHERE a.grantee = 0)"
        "      OR NOT 'search_path=public, pg_temp' = ANY (coalesce(p.proconfig, '{}')))"
    )
    async with owner_engine.connect() as connection:
        assert (await connection.execute(loose)).scalars().all() == []


async def test_temporary_tables_of_the_names_that_are_looked_up_fool_nobody(
    owner_engine: AsyncEngine, spent: UUID
) -> None:
    async with owner_engine.connect() as connection:
        # The second is what the trigger calls the lines that its statement wrote.
        for name in ("ledger_entry", "written"):
            await connection.execute(text(f"CREATE TEMP TABLE {name} (txn_id bigint, amount int)"))
        with pytest.raises(DBAPIError) as refused:
            await connection.execute(
                text(
                    f"SELECT ledger_post('{spent}', 'adjust', 'x', 'me', '', NULL, now(),"
                    " ARRAY['available'], ARRAY[NULL::uuid], ARRAY[1000])"
                )
            )
        await connection.rollback()
    assert sqlstate_of(refused.value) == INTEGRITY_VIOLATION


async def test_the_application_may_make_no_temporary_table(engine: AsyncEngine) -> None:
    assert await refusal_of(engine, "CREATE TEMP TABLE hold (x int)") == INSUFFICIENT_PRIVILEGE
