"""A hold is captured or released once, costs what it held, and never more than there is."""

import json
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from uuid import uuid4

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from billing import accounts, ledger
from billing.errors import (
    AccountNotFoundError,
    AccountSuspendedError,
    DuplicateOperationError,
    HoldNotOpenError,
    InsufficientCreditsError,
    TooManyAtOnceError,
)
from billing.invariants import check_account
from billing.posting import Balance
from billing.tables import LedgerEntry, LedgerTxn
from tests.billing.conftest import (
    JANUARY_31,
    Opens,
    captured,
    entries_of,
    held,
    open_grants_of,
)

AT = JANUARY_31
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


async def test_a_new_account_has_its_plans_credits(db: AsyncSession, open_account: Opens) -> None:
    account_id = await open_account()
    assert await ledger.balance_of(db, account_id, at=AT) == Balance(250, 0, 0, 0, 0)
    assert await entries_of(db, account_id, "grant") == [("issued", -250), ("available", 250)]


async def test_a_hold_sets_credits_aside_and_a_capture_spends_them(
    db: AsyncSession, open_account: Opens
) -> None:
    account_id = await open_account()
    job_id = await held(db, account_id, at=AT)
    assert await ledger.balance_of(db, account_id, at=AT) == Balance(225, 25, 0, 0, 0)
    assert await ledger.capture(db, job_id, at=AT) == Balance(225, 0, 25, 0, 0)
    assert await entries_of(db, account_id, "capture") == [("held", -25), ("consumed", 25)]
    assert await check_account(db, account_id) == []


async def test_a_hold_that_one_grant_pays_in_two_slices_is_charged_whole(
    db: AsyncSession, open_account: Opens
) -> None:
    account_id = await open_account(credit_limit=100)
    first = await held(db, account_id, 240, at=AT)
    second = await held(db, account_id, 50, at=AT)  # 10 of the grant, 40 on the limit
    await ledger.release(db, first, reason="x", at=AT)  # and now the grant pays for the 40 too
    assert await ledger.capture(db, second, at=AT) == Balance(200, 0, 50, 0, 100)
    assert await open_grants_of(db, account_id) == [("plan", 200)]
    assert await check_account(db, account_id) == []


async def test_a_release_costs_nothing(db: AsyncSession, open_account: Opens) -> None:
    account_id = await open_account()
    job_id = await held(db, account_id, at=AT)
    assert await ledger.release(db, job_id, reason="unreadable", at=AT) == Balance(250, 0, 0, 0, 0)
    assert await open_grants_of(db, account_id) == [("plan", 250)]
    assert await check_account(db, account_id) == []


async def test_a_hold_settles_once(db: AsyncSession, open_account: Opens) -> None:
    account_id = await open_account()
    job_id = await captured(db, account_id, at=AT)
    for again in (ledger.capture(db, job_id), ledger.release(db, job_id, reason="late")):
        with pytest.raises(HoldNotOpenError) as refused:
            await again
        assert refused.value.state == "captured"
    released = await held(db, account_id, at=AT)
    await ledger.release(db, released, reason="gone", at=AT)
    with pytest.raises(HoldNotOpenError) as refused:
        await ledger.capture(db, released, at=AT)
    assert refused.value.state == "released"
    with pytest.raises(HoldNotOpenError) as refused:
        await ledger.capture(db, uuid4(), at=AT)
    assert refused.value.state is None


async def test_a_job_is_held_for_once(db: AsyncSession, open_account: Opens) -> None:
    account_id = await open_account()
    job_id = await held(db, account_id, at=AT)
    with pytest.raises(DuplicateOperationError):
        await ledger.place_hold(
            db, account_id=account_id, job_id=job_id, amount=25, concurrency_max=None, at=AT
        )
    assert (await ledger.balance_of(db, account_id, at=AT)).held == 25


async def test_what_is_not_there_cannot_be_held_and_the_refusal_says_when_more_comes(
    db: AsyncSession, open_account: Opens
) -> None:
    account_id = await open_account()
    await captured(db, account_id, 230, at=AT)
    with pytest.raises(InsufficientCreditsError) as refused:
        await held(db, account_id, 25, at=AT)
    assert (refused.value.needed, refused.value.available) == (25, 20)
    assert refused.value.renews_at == AT.replace(month=2, day=28)
    assert await ledger.balance_of(db, account_id, at=AT) == Balance(20, 0, 230, 0, 0)


async def test_the_last_credits_can_be_held(db: AsyncSession, open_account: Opens) -> None:
    account_id = await open_account()
    await held(db, account_id, 250, at=AT)
    assert await ledger.balance_of(db, account_id, at=AT) == Balance(0, 250, 0, 0, 0)


async def test_no_more_jobs_are_open_at_once_than_allowed(
    db: AsyncSession, open_account: Opens
) -> None:
    account_id = await open_account()
    jobs = [await held(db, account_id, amount, at=AT) for amount in (25, 0)]
    with pytest.raises(TooManyAtOnceError) as refused:
        await ledger.place_hold(
            db, account_id=account_id, job_id=uuid4(), amount=25, concurrency_max=2, at=AT
        )
    assert refused.value.concurrency_max == 2
    await ledger.capture(db, jobs[1], at=AT)
    await ledger.place_hold(
        db, account_id=account_id, job_id=uuid4(), amount=25, concurrency_max=2, at=AT
    )


async def test_a_test_keys_hold_moves_no_credits(db: AsyncSession, open_account: Opens) -> None:
    account_id = await open_account()
    kept, dropped = [await held(db, account_id, 0, at=AT) for _ in range(2)]
    assert await ledger.capture(db, kept, at=AT) == Balance(250, 0, 0, 0, 0)
    assert await ledger.release(db, dropped, reason="no", at=AT) == Balance(250, 0, 0, 0, 0)
    assert await entries_of(db, account_id, "hold") == []
    with pytest.raises(HoldNotOpenError):
        await ledger.refund(db, kept, actor="test", reason="it was free", at=AT)
    assert await check_account(db, account_id) == []


async def test_a_suspended_account_may_finish_but_not_begin(
    db: AsyncSession, open_account: Opens
) -> None:
    account_id = await open_account()
    job_id = await held(db, account_id, at=AT)
    await accounts.suspend_account(db, account_id, actor="test", reason="unpaid")
    with pytest.raises(AccountSuspendedError) as refused:
        await held(db, account_id, at=AT)
    assert refused.value.status == "suspended"
    await ledger.capture(db, job_id, at=AT)
    await accounts.resume_account(db, account_id, actor="test", reason="paid")
    await held(db, account_id, at=AT)


async def test_nobodys_account_can_hold_nothing(db: AsyncSession) -> None:
    with pytest.raises(AccountNotFoundError):
        await held(db, uuid4())
    with pytest.raises(AccountNotFoundError):
        await ledger.balance_of(db, uuid4())


async def test_an_enterprise_commit_may_draw_on_its_limit_and_no_further(
    db: AsyncSession, open_account: Opens
) -> None:
    account_id = await open_account(credit_limit=100)
    job_id = await held(db, account_id, 300, at=AT)
    assert await ledger.balance_of(db, account_id, at=AT) == Balance(-50, 300, 0, 0, 100)
    with pytest.raises(InsufficientCreditsError) as refused:
        await held(db, account_id, 51, at=AT)
    assert refused.value.available == 50
    await ledger.capture(db, job_id, at=AT)
    assert await check_account(db, account_id) == []


async def test_what_was_drawn_on_the_limit_is_paid_back_by_the_next_credits(
    db: AsyncSession, open_account: Opens
) -> None:
    account_id = await open_account(credit_limit=100)
    await captured(db, account_id, 300, at=AT)
    await ledger.grant_credits(
        db, account_id, amount=120, source="topup", ref="t1", actor="test", reason="paid", at=AT
    )
    assert await ledger.balance_of(db, account_id, at=AT) == Balance(70, 0, 300, 0, 100)
    assert ("topup", 70) in await open_grants_of(db, account_id)
    assert await check_account(db, account_id) == []


async def test_a_hold_drawn_on_the_limit_goes_back_to_the_credits_that_paid_for_it_since(
    db: AsyncSession, open_account: Opens
) -> None:
    account_id = await open_account(credit_limit=100)
    job_id = await held(db, account_id, 300, at=AT)
    await ledger.grant_credits(
        db, account_id, amount=40, source="topup", ref="t1", actor="test", reason="paid", at=AT
    )
    assert await ledger.balance_of(db, account_id, at=AT) == Balance(-10, 300, 0, 0, 100)
    await ledger.release(db, job_id, reason="failed", at=AT)
    assert await open_grants_of(db, account_id) == [("plan", 250), ("topup", 40)]
    assert await check_account(db, account_id) == []


async def test_the_chain_covers_every_field_of_every_entry(
    db: AsyncSession, open_account: Opens
) -> None:
    """Reckoned anew by what docs/billing.md says of it, not by the database's function."""
    account_id = await open_account(credit_limit=50)
    job_id = await captured(db, account_id, 280, at=AT)
    await ledger.refund(db, job_id, actor="grace", reason='a "bad" edge\n', at=AT)
    previous = b""
    for txn in await db.scalars(
        select(LedgerTxn).where(LedgerTxn.account_id == account_id).order_by(LedgerTxn.account_seq)
    ):
        entries = list(
            await db.scalars(
                select(LedgerEntry).where(LedgerEntry.txn_id == txn.id).order_by(LedgerEntry.line)
            )
        )
        fields = [
            str(account_id),
            txn.account_seq,
            txn.op,
            txn.ref,
            txn.actor,
            txn.reason,
            txn.reverses,
            (txn.effective_at - EPOCH) // timedelta(microseconds=1),
            [entry.bucket for entry in entries],
            [entry.grant_id and str(entry.grant_id) for entry in entries],
            [entry.amount for entry in entries],
        ]
        assert txn.prev_hash == previous
        assert txn.hash == sha256(previous + json.dumps(fields).encode()).digest()
        previous = txn.hash
