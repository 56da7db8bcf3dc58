"""Two callers at once, on real connections with real commits; bench/proofs sends thousands."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from billing import accounts, keys, ledger
from billing.db import SessionFactory, sqlstate_of, transact
from billing.errors import (
    AccountSuspendedError,
    BillingError,
    DuplicateOperationError,
    HoldNotOpenError,
    InsufficientCreditsError,
    KeyBudgetError,
    TooManyAtOnceError,
)
from billing.invariants import check_account
from billing.keys import KeyHasher
from billing.posting import lock_account

Work = Callable[[AsyncSession], Awaitable[Any]]


@pytest.fixture
async def account_id(committed_sessions: SessionFactory) -> UUID:
    """An account of this test alone, with 250 credits."""
    async with committed_sessions.begin() as db:
        return (await accounts.create_account(db, name="R", plan="free", actor="test")).id


async def at_once(sessions: SessionFactory, *works: Work) -> Counter[str]:
    """Do all at once and count how each ended; anything but a refusal is a failure."""

    async def one(work: Work) -> str:
        try:
            await transact(sessions, work)
        except BillingError as exc:
            return type(exc).__name__
        return "done"

    return Counter(await asyncio.gather(*(one(work) for work in works)))


def hold(account_id: UUID, job_id: UUID | None = None, **options: Any) -> Work:
    job_id = job_id or uuid4()
    known: dict[str, Any] = {"amount": 25, "concurrency_max": None}
    return lambda db: ledger.place_hold(
        db, account_id=account_id, job_id=job_id, **(known | options)
    )


async def is_sound(sessions: SessionFactory, account_id: UUID) -> bool:
    async with sessions.begin() as db:
        return await check_account(db, account_id) == []


async def test_no_more_is_sold_than_there_is(
    committed_sessions: SessionFactory, account_id: UUID
) -> None:
    answers = await at_once(committed_sessions, *(hold(account_id) for _ in range(30)))
    assert answers == {"done": 10, InsufficientCreditsError.__name__: 20}
    assert await is_sound(committed_sessions, account_id)


async def test_no_more_jobs_run_at_once_than_may(
    committed_sessions: SessionFactory, account_id: UUID
) -> None:
    works = [hold(account_id, concurrency_max=4) for _ in range(10)]
    answers = await at_once(committed_sessions, *works)
    assert answers == {"done": 4, TooManyAtOnceError.__name__: 6}


async def test_a_keys_budget_is_exact(committed_sessions: SessionFactory, account_id: UUID) -> None:
    async with committed_sessions.begin() as db:
        key, _ = await keys.create_key(
            db, KeyHasher({1: "p"}), account_id=account_id, env="live", budget_credits=75,
            actor="test",
        )  # fmt: skip
    works = [hold(account_id, api_key_id=key.id) for _ in range(9)]
    assert await at_once(committed_sessions, *works) == {"done": 3, KeyBudgetError.__name__: 6}


@pytest.mark.parametrize("op", ["hold", "capture", "release", "refund", "topup", "adjust"])
async def test_what_is_sent_four_times_at_once_happens_once(
    committed_sessions: SessionFactory, account_id: UUID, op: str
) -> None:
    job_id = uuid4()
    if op != "hold":
        await transact(committed_sessions, hold(account_id, job_id))
    if op == "refund":
        await transact(committed_sessions, lambda db: ledger.capture(db, job_id))
    works: dict[str, Work] = {
        "hold": hold(account_id, job_id),
        "capture": lambda db: ledger.capture(db, job_id),
        "release": lambda db: ledger.release(db, job_id, reason="x"),
        "refund": lambda db: ledger.refund(db, job_id, actor="test", reason="x"),
        "topup": lambda db: ledger.grant_credits(
            db, account_id, amount=5, source="topup", ref="pay", actor="test", reason="x"
        ),
        "adjust": lambda db: ledger.adjust(
            db, account_id, amount=-5, ref="adj", actor="test", reason="x"
        ),
    }
    answers = await at_once(committed_sessions, *[works[op]] * 4)
    refusal = HoldNotOpenError if op in {"capture", "release"} else DuplicateOperationError
    assert answers == {"done": 1, refusal.__name__: 3}
    assert await is_sound(committed_sessions, account_id)


async def test_a_job_is_either_captured_or_released(
    committed_sessions: SessionFactory, account_id: UUID
) -> None:
    for _ in range(5):
        job_id = uuid4()
        await transact(committed_sessions, hold(account_id, job_id))
        answers = await at_once(
            committed_sessions,
            lambda db, job=job_id: ledger.capture(db, job),  # type: ignore[misc]  # loop variable
            lambda db, job=job_id: ledger.release(db, job, reason="x"),  # type: ignore[misc]  # same
        )
        assert answers == {"done": 1, HoldNotOpenError.__name__: 1}
    assert await is_sound(committed_sessions, account_id)


async def test_nothing_is_held_after_an_account_was_suspended(
    committed_sessions: SessionFactory, account_id: UUID
) -> None:
    """The hold waits for the lock that the suspension has, and then must see what it did."""
    waiting = asyncio.Event()

    async def slowly_suspend(db: AsyncSession) -> None:
        await accounts.suspend_account(db, account_id, actor="test", reason="x")
        waiting.set()
        await asyncio.sleep(0.3)

    suspension = asyncio.create_task(transact(committed_sessions, slowly_suspend))
    await waiting.wait()
    assert await at_once(committed_sessions, hold(account_id)) == {
        AccountSuspendedError.__name__: 1
    }
    await suspension


async def test_a_deadlock_is_tried_again_and_reaches_no_caller(
    committed_sessions: SessionFactory, account_id: UUID
) -> None:
    async with committed_sessions.begin() as db:
        other = (await accounts.create_account(db, name="R2", plan="free", actor="test")).id
    lock = text("SELECT 1 FROM credit_account WHERE account_id = :id FOR UPDATE")
    tries = Counter[str]()

    def locking(name: str, first: UUID, second: UUID) -> Work:
        async def work(db: AsyncSession) -> None:
            tries[name] += 1
            await db.execute(lock, {"id": first})
            await asyncio.sleep(0.1)
            await db.execute(lock, {"id": second})

        return work

    answers = await at_once(
        committed_sessions, locking("a", account_id, other), locking("b", other, account_id)
    )
    assert answers == {"done": 2}
    assert sorted(tries.values()) == [1, 2]


async def test_a_capture_and_a_grant_that_pays_for_its_hold_do_not_block_each_other(
    committed_sessions: SessionFactory,
) -> None:
    job_id = uuid4()
    async with committed_sessions.begin() as db:
        account = await accounts.create_account(
            db, name="R3", plan="free", credit_limit=50, actor="test"
        )
        await hold(account.id, amount=250)(db)
        await hold(account.id, job_id)(db)  # on the credit limit

    async def capture_once() -> ledger.Balance:
        async with committed_sessions.begin() as db:
            return await ledger.capture(db, job_id)

    async with committed_sessions.begin() as db:
        await lock_account(db, account.id)
        capture = asyncio.create_task(capture_once())
        # Until it has the hold, and waits for the account.
        waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
        while not await db.scalar(waiting):  # noqa: ASYNC110 - it is Postgres that is waited for
            await asyncio.sleep(0.05)
        await ledger.grant_credits(  # cuts the hold's slice in two
            db, account.id, amount=10, source="topup", ref="r", actor="test", reason="x"
        )
    assert (await capture).consumed == 25
    assert await is_sound(committed_sessions, account.id)


async def test_a_transaction_that_waits_too_long_gives_up(
    committed_sessions: SessionFactory,
) -> None:
    async with committed_sessions.begin() as db:
        await db.execute(text("SET LOCAL statement_timeout = '50ms'"))
        with pytest.raises(DBAPIError) as refused:
            await db.execute(text("SELECT pg_sleep(5)"))
        assert sqlstate_of(refused.value) == "57014"
        await db.rollback()
    async with committed_sessions() as db:
        limits = [
            await db.scalar(text(f"SHOW {name}")) for name in ("statement_timeout", "lock_timeout")
        ]
    assert limits == ["5s", "3s"]
