"""Credits that people give and take: each once, each for a reason, each in the audit trail."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from billing import accounts, audit, ledger
from billing.errors import (
    AccountSuspendedError,
    DuplicateOperationError,
    HoldNotOpenError,
    InvalidOperationError,
)
from billing.invariants import check_account
from billing.posting import Balance
from billing.staff_tables import AuditEvent
from billing.tables import CreditGrant
from tests.billing.conftest import (
    JANUARY_31,
    Opens,
    captured,
    entries_of,
    held,
    open_grants_of,
)

AT = JANUARY_31


async def test_a_topup_works_once_under_its_reference(
    db: AsyncSession, open_account: Opens
) -> None:
    account_id = await open_account()
    paid: dict[str, Any] = {
        "amount": 500,
        "source": "topup",
        "ref": "payment-7",
        "actor": "cli",
        "reason": "paid",
    }
    await ledger.grant_credits(db, account_id, **paid, at=AT)
    with pytest.raises(DuplicateOperationError):
        await ledger.grant_credits(db, account_id, **paid, at=AT)
    assert (await ledger.balance_of(db, account_id, at=AT)).available == 750


async def test_a_reference_cannot_take_the_place_of_a_plans_grant(
    db: AsyncSession, open_account: Opens
) -> None:
    account_id = await open_account()
    renewal = AT.replace(month=2, day=28)
    await ledger.grant_credits(
        db, account_id, amount=1, source="topup", ref=f"plan:{renewal.isoformat()}", actor="x",
        reason="y", at=AT,
    )  # fmt: skip
    assert (await ledger.balance_of(db, account_id, at=renewal)).available == 501


async def test_priority_then_soonest_expiry_then_oldest_pays_first(
    db: AsyncSession, open_account: Opens
) -> None:
    account_id = await open_account()
    for ref, priority, days in (
        ("never", 20, None),
        ("late", 20, 20),
        ("soon", 20, 10),
        ("soon-too", 20, 10),
        ("first", 10, None),
    ):
        await ledger.grant_credits(
            db, account_id, amount=10, source="promo", ref=ref, actor="test", reason="x",
            priority=priority, expires_at=AT + timedelta(days=days) if days else None, at=AT,
        )  # fmt: skip
    order: list[str] = []
    for _ in range(6):
        await captured(db, account_id, 10, at=AT)
        empty = await db.scalars(
            select(CreditGrant.ref).where(
                CreditGrant.account_id == account_id, CreditGrant.remaining == 0
            )
        )
        order += [ref.removeprefix("promo:") for ref in set(empty) - {f"promo:{o}" for o in order}]
    assert order == ["first", "soon", "soon-too", "late", "never"]
    assert await check_account(db, account_id) == []


async def test_one_hold_may_be_paid_by_several_grants_and_goes_back_to_each(
    db: AsyncSession, open_account: Opens
) -> None:
    account_id = await open_account()
    await ledger.grant_credits(
        db, account_id, amount=10, source="promo", ref="p", actor="test", reason="x", at=AT
    )
    job_id = await held(db, account_id, at=AT)
    assert await open_grants_of(db, account_id) == [("plan", 235), ("promo", 0)]
    await ledger.release(db, job_id, reason="failed", at=AT)
    assert await open_grants_of(db, account_id) == [("plan", 250), ("promo", 10)]


async def test_a_charge_is_refunded_once_by_a_new_grant(
    db: AsyncSession, open_account: Opens
) -> None:
    account_id = await open_account()
    job_id = await captured(db, account_id, at=AT)
    grant_id = await ledger.refund(db, job_id, actor="support", reason="bad edge", at=AT)
    assert await ledger.balance_of(db, account_id, at=AT) == Balance(250, 0, 0, 0, 0)
    assert await entries_of(db, account_id, "refund") == [("consumed", -25), ("available", 25)]
    grant = await db.get_one(CreditGrant, grant_id)
    assert (grant.source, grant.amount) == ("refund", 25)
    with pytest.raises(DuplicateOperationError):
        await ledger.refund(db, job_id, actor="support", reason="again", at=AT)


async def test_a_refund_lives_at_least_a_month(db: AsyncSession, open_account: Opens) -> None:
    account_id = await open_account()
    await ledger.grant_credits(
        db, account_id, amount=25, source="promo", ref="p", actor="test", reason="x",
        expires_at=AT + timedelta(days=1), at=AT,
    )  # fmt: skip
    job_id = await captured(db, account_id, at=AT)
    grant_id = await ledger.refund(db, job_id, actor="support", reason="x", at=AT)
    assert (await db.get_one(CreditGrant, grant_id)).expires_at == AT + timedelta(days=30)


async def test_what_was_not_charged_cannot_be_refunded(
    db: AsyncSession, open_account: Opens
) -> None:
    account_id = await open_account()
    job_id, released = [await held(db, account_id, at=AT) for _ in range(2)]
    await ledger.release(db, released, reason="failed", at=AT)
    for which in (job_id, released, uuid4()):
        with pytest.raises(HoldNotOpenError):
            await ledger.refund(db, which, actor="support", reason="x", at=AT)


async def test_an_adjustment_needs_a_reason_and_stays_within_the_limit(
    db: AsyncSession, open_account: Opens
) -> None:
    account_id = await open_account(credit_limit=10)
    with pytest.raises(InvalidOperationError):
        await ledger.adjust(db, account_id, amount=5, ref="a", actor="x", reason=" ", at=AT)
    with pytest.raises(InvalidOperationError):
        await ledger.adjust(db, account_id, amount=-261, ref="b", actor="x", reason="y", at=AT)
    down = await ledger.adjust(db, account_id, amount=-260, ref="c", actor="x", reason="y", at=AT)
    assert down.available == -10
    up = await ledger.adjust(db, account_id, amount=15, ref="d", actor="x", reason="y", at=AT)
    assert up.available == 5
    with pytest.raises(DuplicateOperationError):
        await ledger.adjust(db, account_id, amount=15, ref="d", actor="x", reason="y", at=AT)
    assert await check_account(db, account_id) == []


async def test_a_void_ends_a_grant_and_leaves_its_open_holds(
    db: AsyncSession, open_account: Opens
) -> None:
    account_id = await open_account()
    grant_id = await ledger.grant_credits(
        db, account_id, amount=100, source="promo", ref="p", actor="test", reason="x", at=AT
    )
    kept, dropped = [await held(db, account_id, at=AT) for _ in range(2)]
    voided = await ledger.void_grant(db, grant_id, actor="test", reason="mistake", at=AT)
    assert voided == Balance(250, 50, 0, 0, 0)
    assert (await ledger.capture(db, kept, at=AT)).consumed == 25
    assert await ledger.release(db, dropped, reason="x", at=AT) == Balance(250, 0, 25, 0, 0)
    with pytest.raises(InvalidOperationError):
        await ledger.void_grant(db, grant_id, actor="test", reason="again", at=AT)
    assert await check_account(db, account_id) == []


async def test_closing_an_account_voids_what_is_left_and_lets_jobs_end(
    db: AsyncSession, open_account: Opens
) -> None:
    account_id = await open_account()
    job_id = await held(db, account_id, at=AT)
    await accounts.close_account(db, account_id, actor="owner", reason="asked for", at=AT)
    with pytest.raises(AccountSuspendedError):
        await held(db, account_id, at=AT)
    assert await ledger.capture(db, job_id, at=AT) == Balance(0, 0, 25, 0, 0)
    later = await ledger.balance_of(db, account_id, at=AT + timedelta(days=400))
    assert later == Balance(0, 0, 25, 0, 0)
    with pytest.raises(InvalidOperationError):
        await accounts.resume_account(db, account_id, actor="owner", reason="no")
    assert await check_account(db, account_id) == []


async def test_a_closed_account_takes_no_credits(db: AsyncSession, open_account: Opens) -> None:
    account_id = await open_account()
    job_id = await captured(db, account_id, at=AT)
    await accounts.close_account(db, account_id, actor="owner", reason="asked for", at=AT)
    with pytest.raises(InvalidOperationError, match="closed"):
        await ledger.grant_credits(
            db, account_id, amount=5, source="topup", ref="p", actor="shop", reason="paid", at=AT
        )
    with pytest.raises(InvalidOperationError, match="closed"):
        await ledger.adjust(db, account_id, amount=5, ref="a", actor="shop", reason="typo", at=AT)
    with pytest.raises(InvalidOperationError, match="closed"):
        await ledger.refund(db, job_id, actor="shop", reason="bad edge", at=AT)
    assert await check_account(db, account_id) == []


async def test_every_act_is_in_the_audit_trail_with_who_and_why(
    db: AsyncSession, open_account: Opens
) -> None:
    account_id = await open_account()
    job_id = await captured(db, account_id, at=AT)
    await ledger.refund(db, job_id, actor="grace", reason="bad edge", at=AT)
    await ledger.adjust(db, account_id, amount=-5, ref="a", actor="grace", reason="typo", at=AT)
    await accounts.suspend_account(db, account_id, actor="grace", reason="unpaid")
    events = await db.execute(
        select(AuditEvent.action, AuditEvent.actor, AuditEvent.reason)
        .where(AuditEvent.account_id == account_id)
        .order_by(AuditEvent.seq)
    )
    assert [tuple(event) for event in events] == [
        ("account.create", "test", ""),
        ("job.refund", "grace", "bad edge"),
        ("credits.adjust", "grace", "typo"),
        ("account.suspended", "grace", "unpaid"),
    ]
    assert (await audit.verify(db)).is_whole
