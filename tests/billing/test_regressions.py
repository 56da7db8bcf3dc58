"""Bugs that others shipped, by product and number; here they are tests."""

import asyncio
from datetime import timedelta

import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from billing import accounts, ledger, periods, plans, statements, subscriptions
from billing.db import SessionFactory, make_sessions, transact
from billing.errors import DuplicateOperationError
from billing.tables import CreditAccount, CreditGrant
from tests.billing.conftest import JANUARY_31, Opens, captured, held, open_grants_of

AT = JANUARY_31
RENEWAL = AT.replace(month=2, day=28)


async def test_lago_3618_a_topup_that_is_settled_twice_within_milliseconds_counts_once(
    committed_sessions: SessionFactory,
) -> None:
    async with committed_sessions.begin() as db:
        account_id = (await accounts.create_account(db, name="L", plan="free", actor="t")).id

    async def settle() -> None:
        await transact(
            committed_sessions,
            lambda db: ledger.grant_credits(
                db, account_id, amount=100, source="topup", ref="payment", actor="t", reason="paid"
            ),
        )

    outcomes = await asyncio.gather(*(settle() for _ in range(8)), return_exceptions=True)
    refusals = [outcome for outcome in outcomes if outcome is not None]
    assert [type(refusal) for refusal in refusals] == [DuplicateOperationError] * 7
    async with committed_sessions.begin() as db:
        assert (await ledger.balance_of(db, account_id)).available == 350


async def test_lago_4985_a_balance_below_its_limit_is_refused_by_the_database(
    owner_engine: AsyncEngine,
) -> None:
    async with make_sessions(owner_engine)() as db:
        account_id = (await accounts.create_account(db, name="L", plan="free", actor="t")).id
        books = await db.get_one(CreditAccount, account_id)
        books.available = -1
        with pytest.raises(IntegrityError, match="available_within_limit"):
            await db.flush()
        await db.rollback()


async def test_polar_11427_an_edit_of_a_product_leaves_its_customers_balances_alone(
    db: AsyncSession, open_account: Opens
) -> None:
    account_id = await open_account(plan="starter")
    await captured(db, account_id, 1000, at=AT)
    await plans.add_version(db, "starter", actor="t", reason="less", monthly_credits=1)
    assert (await ledger.balance_of(db, account_id, at=AT)).available == 4000


async def test_polar_10513_a_topup_is_not_lost_when_credits_roll_over(
    db: AsyncSession, open_account: Opens
) -> None:
    account_id = await open_account()
    await ledger.grant_credits(
        db, account_id, amount=900, source="topup", ref="p", actor="t", reason="paid", at=AT
    )
    await ledger.balance_of(db, account_id, at=AT + timedelta(days=400))
    assert ("topup", 900) in await open_grants_of(db, account_id)


async def test_polar_8451_subscribing_to_another_plan_resets_nothing_that_was_bought(
    db: AsyncSession, open_account: Opens
) -> None:
    account_id = await open_account()
    await ledger.grant_credits(
        db, account_id, amount=900, source="topup", ref="p", actor="t", reason="paid", at=AT
    )
    await subscriptions.change_plan(db, account_id, "growth", actor="t", at=AT)
    await subscriptions.change_plan(db, account_id, "free", actor="t", at=AT)
    await ledger.balance_of(db, account_id, at=RENEWAL)
    assert ("topup", 900) in await open_grants_of(db, account_id)


async def test_openmeter_4252_a_recurring_grant_is_given_once_a_period(
    db: AsyncSession, open_account: Opens
) -> None:
    account_id = await open_account()
    for hours in (0, 0, 1, 24, 24 * 30):
        await periods.advance(db, account_id, at=RENEWAL + timedelta(hours=hours))
    given = await db.scalar(
        select(func.count()).where(
            CreditGrant.account_id == account_id, CreditGrant.source == "plan"
        )
    )
    assert given == 2


async def test_openmeter_4845_a_balance_read_before_is_not_believed_after(
    db: AsyncSession, open_account: Opens
) -> None:
    account_id = await open_account()
    ends = AT + timedelta(days=2)
    await ledger.grant_credits(
        db, account_id, amount=100, source="promo", ref="p", actor="t", reason="x",
        expires_at=ends, at=AT,
    )  # fmt: skip
    assert (await ledger.balance_of(db, account_id, at=AT)).available == 350
    # Nobody looks while the promotion ends; what is asked of the past afterwards is still right.
    later = ends + timedelta(days=3)
    assert (await ledger.balance_of(db, account_id, at=later)).available == 250
    before = await statements.balance_at(db, account_id, ends - timedelta(seconds=1), now=later)
    assert before.available == 350
    assert (await statements.balance_at(db, account_id, ends, now=later)).available == 250


async def test_autumn_630_credits_bought_once_survive_every_change_of_plan(
    db: AsyncSession, open_account: Opens
) -> None:
    account_id = await open_account()
    await ledger.grant_credits(
        db, account_id, amount=40, source="promo", ref="once", actor="t", reason="x", at=AT
    )
    job_id = await held(db, account_id, 30, at=AT)
    for plan in ("starter", "growth", "free"):
        await subscriptions.change_plan(db, account_id, plan, actor="t", at=AT)
    await ledger.release(db, job_id, reason="x", at=AT)
    await ledger.balance_of(db, account_id, at=RENEWAL)
    assert ("promo", 40) in await open_grants_of(db, account_id)
