"""The worker's part of the books: time is played for all, and every rule is asked."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from uuid import UUID

import pytest
from httpx import AsyncClient
from sqlalchemy import delete, func, select, text, update
from sqlalchemy.exc import DBAPIError
from structlog.testing import capture_logs

from billing import invariants, periods
from billing.accounts import create_account
from billing.db import SessionFactory
from billing.invariant_queries import QUERIES
from billing.invariants import TITLES
from billing.ledger import balance_of
from billing.staff_tables import InvariantRun
from billing.statements import balance_at
from billing.tables import CreditAccount, Subscription
from gateway import bookkeeping
from gateway.bookkeeping import Bookkeeper
from gateway.worker import Worker
from tests.gateway.test_health import sample
from tests.gateway.workshop import Workshop

MINUTE = timedelta(minutes=1)
NOW = timedelta(0)
FREE_CREDITS = 250


@pytest.fixture
async def bookkeeper(committed_sessions: SessionFactory) -> AsyncIterator[Bookkeeper]:
    """A bookkeeper of books that nobody has looked at yet; nothing else is due."""
    await forget_runs(committed_sessions)
    keeper = Bookkeeper(committed_sessions)
    await keeper.advance_due()
    yield keeper
    await forget_runs(committed_sessions)


async def forget_runs(sessions: SessionFactory) -> None:
    async with sessions.begin() as db:
        await db.execute(delete(InvariantRun))


async def overdue_account(sessions: SessionFactory) -> UUID:
    """Open an account as of 40 days ago, to which nobody came since."""
    async with sessions.begin() as db:
        began_at = datetime.now(UTC) - timedelta(days=40)
        return (await create_account(db, name="Ada", plan="free", actor="test", at=began_at)).id


async def period_of(sessions: SessionFactory, account_id: UUID) -> tuple[datetime, datetime]:
    async with sessions.begin() as db:
        found = await db.scalars(select(Subscription).where(Subscription.account_id == account_id))
        subscription = found.one()
        return subscription.period_start, subscription.period_end


async def runs_of(sessions: SessionFactory, rule: str = "I1") -> int:
    async with sessions.begin() as db:
        count = select(func.count()).where(InvariantRun.name == rule)
        return await db.scalar(count) or 0


async def date_runs_back(sessions: SessionFactory, by: timedelta) -> None:
    async with sessions.begin() as db:
        await db.execute(update(InvariantRun).values(started_at=InvariantRun.started_at - by))


async def test_an_account_that_nobody_calls_gets_its_next_period(
    bookkeeper: Bookkeeper, committed_sessions: SessionFactory
) -> None:
    account_id = await overdue_account(committed_sessions)

    assert await bookkeeper.advance_due() == 1
    assert await bookkeeper.advance_due() == 0

    began_at, ends_at = await period_of(committed_sessions, account_id)
    assert began_at < datetime.now(UTC) < ends_at
    async with committed_sessions.begin() as db:
        assert (await balance_of(db, account_id)).available == 2 * FREE_CREDITS  # rolled over
        assert (await balance_at(db, account_id, began_at - MINUTE)).available == FREE_CREDITS


async def test_an_account_that_cannot_be_advanced_holds_up_no_other(
    bookkeeper: Bookkeeper, committed_sessions: SessionFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck, fine = [await overdue_account(committed_sessions) for _ in range(2)]
    advance = periods.advance

    async def stumble(db: object, account_id: UUID) -> object:
        if account_id == stuck:
            raise RuntimeError("a bug that only this account meets")
        return await advance(db, account_id)  # type: ignore[arg-type]  # as it came

    monkeypatch.setattr(periods, "advance", stumble)
    monkeypatch.setattr("gateway.bookkeeping.BATCH_MAX", 1)
    with capture_logs() as logs:
        await bookkeeper.advance_due()
        await bookkeeper.advance_due()

    assert [line["account_id"] for line in logs] == [str(stuck)]  # said once a minute, not more
    async with committed_sessions.begin() as db:
        books = await db.get_one(CreditAccount, fine)
        assert books.next_due_at is not None
        assert books.next_due_at > datetime.now(UTC)
    monkeypatch.undo()
    assert await Bookkeeper(committed_sessions).advance_due() == 1


async def test_several_bookkeepers_at_once_close_a_period_once(
    bookkeeper: Bookkeeper, committed_sessions: SessionFactory
) -> None:
    account_id = await overdue_account(committed_sessions)
    others = [Bookkeeper(committed_sessions) for _ in range(5)]

    await asyncio.gather(*(keeper.advance_due() for keeper in (bookkeeper, *others)))

    async with committed_sessions.begin() as db:
        assert (await balance_of(db, account_id)).available == 2 * FREE_CREDITS


async def test_every_rule_is_asked_once_a_minute_however_many_workers_there_are(
    bookkeeper: Bookkeeper, committed_sessions: SessionFactory
) -> None:
    keepers = [bookkeeper, *(Bookkeeper(committed_sessions) for _ in range(4))]

    await asyncio.gather(*(keeper.check() for keeper in keepers))
    assert [await runs_of(committed_sessions, rule) for rule in TITLES] == [1] * len(TITLES)

    assert not await bookkeeper.check()
    await date_runs_back(committed_sessions, MINUTE)
    await asyncio.gather(*(keeper.check() for keeper in keepers))
    assert await runs_of(committed_sessions) in {2, 3}  # 3 on the stroke of midnight


async def test_the_first_check_of_a_day_asks_of_everything_and_forgets_last_weeks(
    bookkeeper: Bookkeeper, committed_sessions: SessionFactory
) -> None:
    await bookkeeper.check()
    await date_runs_back(committed_sessions, timedelta(days=8))

    with capture_logs() as logs:
        assert await bookkeeper.check()

    assert [line["event"] for line in logs] == ["invariants.checked_all"]
    assert await runs_of(committed_sessions) == 2  # what is new, then everything


async def test_a_whole_check_that_failed_is_tried_again(
    bookkeeper: Bookkeeper, committed_sessions: SessionFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    await overdue_account(committed_sessions)
    await bookkeeper.check()
    await date_runs_back(committed_sessions, timedelta(days=1))
    with monkeypatch.context() as patch:
        # Slow for every transaction of old, and nothing is new.
        patch.setattr("billing.invariant_history.OVERLAP", -timedelta(days=2))
        patch.setitem(
            QUERIES, "I1", ("SELECT pg_sleep(1) FROM ledger_txn t WHERE true /* of t */",)
        )
        patch.setattr(invariants, "PATIENCE", text("SET LOCAL statement_timeout = '100ms'"))
        with pytest.raises(DBAPIError, match="timeout"):
            await bookkeeper.check(every=NOW)

    with capture_logs() as logs:
        await bookkeeper.check(every=NOW)
        assert logs == []  # not at once: it may take minutes
        in_an_hour = time.monotonic() + 3601
        monkeypatch.setattr(bookkeeping, "time", SimpleNamespace(monotonic=lambda: in_an_hour))
        await bookkeeper.check(every=NOW)
        await bookkeeper.check(every=NOW)
    assert [line["event"] for line in logs] == ["invariants.checked_all"]


async def test_a_breach_is_logged_and_stays_on_the_metrics_for_a_day(
    bookkeeper: Bookkeeper,
    client: AsyncClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert sample((await client.get("/metrics")).text, "invariants_ok") == 0  # nobody knows
    await bookkeeper.check(every=NOW)
    page = (await client.get("/metrics")).text
    assert sample(page, "invariants_ok") == 1
    assert sample(page, 'invariant_breaches{rule="I1"}') == 0
    assert sample(page, "invariants_age_seconds") < 3600

    # The books themselves cannot be broken by the application: a rule that calls good books bad.
    with monkeypatch.context() as patch, capture_logs() as logs:
        patch.setitem(QUERIES, "I1", ("SELECT 7 AS txn_id",))
        await bookkeeper.check(every=NOW)
    await bookkeeper.check(every=NOW)

    breach = next(line for line in logs if line["event"] == "invariant.breached")
    assert (breach["log_level"], breach["rule"], breach["count"]) == ("error", "I1", 1)
    assert breach["sample"] == [{"txn_id": "7"}]
    page = (await client.get("/metrics")).text
    assert sample(page, "invariants_ok") == 0
    assert sample(page, 'invariant_breaches{rule="I1"}') == 1
    assert sample(page, 'invariant_breaches{rule="I2"}') == 0


async def test_a_worker_keeps_the_books(
    bookkeeper: Bookkeeper,
    open_workshop: Callable[..., Awaitable[Workshop]],
    committed_sessions: SessionFactory,
) -> None:
    del bookkeeper  # it has tidied up
    workshop = await open_workshop(sweep_interval=0.05)
    account_id = await overdue_account(committed_sessions)
    worker = Worker(workshop.settings, workshop.cutouts)
    running = asyncio.create_task(worker.run())
    try:
        async with asyncio.timeout(60):
            is_checked = is_advanced = False
            while not (is_checked and is_advanced):
                await asyncio.sleep(0.05)
                is_checked = await runs_of(committed_sessions) > 0
                _, ends_at = await period_of(committed_sessions, account_id)
                is_advanced = ends_at > datetime.now(UTC)
    finally:
        worker.stop()
        await asyncio.wait_for(running, 60)


async def test_without_a_database_a_bookkeeper_tries_on(
    committed_sessions: SessionFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = asyncio.Queue[None]()

    async def away(*_: object, **__: object) -> None:
        tried.put_nowait(None)
        async with committed_sessions.begin() as db:
            await db.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))

    monkeypatch.setattr(periods, "due_accounts", away)
    with capture_logs() as logs:
        loop = asyncio.create_task(Bookkeeper(committed_sessions).advance_forever(0.01))
        async with asyncio.timeout(60):
            for _ in range(3):
                await tried.get()
        loop.cancel()
        await asyncio.wait([loop])

    assert {line["event"] for line in logs} == {"accounts.advance_failed"}
