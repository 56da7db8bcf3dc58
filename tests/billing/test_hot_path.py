"""What makes a hold fast stays: plans that are kept, each by a key."""

from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from billing.db import SessionFactory
from billing.tables import Account, CreditAccount
from tests.billing.conftest import JANUARY_31

CONFIGURATION = text("SELECT proconfig FROM pg_proc WHERE proname = :name")
GRANTS = 5000
GIVE = text(
    "INSERT INTO credit_grant (id, account_id, source, ref, amount, remaining, priority,"
    " effective_at, activated_at, actor) SELECT gen_random_uuid(), :account_id, 'promo', n, 10, 10,"
    " 50, CAST(:at AS timestamptz) + n * interval '1 ms', :at, 'test' FROM generate_series(1, :n) n"
)
PLACE = text("SELECT status FROM place_hold(:account_id, :job_id, 25, NULL, NULL, :at)")
READ = text(
    "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables"
    " WHERE relname = 'credit_grant'"
)


@pytest.mark.parametrize("function", ["ledger_post", "place_hold", "capture_hold"])
async def test_a_function_of_the_hot_path_plans_once_and_by_keys(
    db: AsyncSession, function: str
) -> None:
    settings = await db.scalar(CONFIGURATION, {"name": function})
    assert {"plan_cache_mode=force_generic_plan", "enable_seqscan=off"} <= set(settings)


async def open_with_grants(db: AsyncSession, count: int) -> UUID:
    account = Account(id=uuid4(), name="many", status="active")
    db.add(account)
    await db.flush()
    books = CreditAccount(account_id=account.id, credit_limit=0, advanced_at=JANUARY_31)
    books.available = 10 * count
    db.add(books)
    await db.flush()
    await db.execute(GIVE, {"account_id": account.id, "at": JANUARY_31, "n": count})
    return account.id


async def test_a_hold_reads_only_the_grants_that_pay_however_many_an_account_has(
    owner_engine: AsyncEngine,
) -> None:
    async with SessionFactory(owner_engine)() as db:  # what it writes is undone
        large = await open_with_grants(db, GRANTS)
        for _ in range(100):  # the plan is made for accounts like these
            await open_with_grants(db, 20)
        await db.execute(text("ANALYZE credit_grant"))
        before = await db.scalar(READ)
        asked = {"account_id": large, "job_id": uuid4(), "at": JANUARY_31}
        assert await db.scalar(PLACE, asked) == "done"
        assert await db.scalar(READ) - before < GRANTS / 10
