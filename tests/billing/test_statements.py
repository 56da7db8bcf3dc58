"""Statements, usage, months and alerts: what a customer and an accountant read."""

import csv
import io
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from billing import (
    accounts,
    alerts,
    anchors,
    keys,
    ledger,
    monthpack,
    statements,
    subscriptions,
    usage,
)
from billing.db import SessionFactory
from billing.keys import KeyHasher
from billing.posting import Balance
from tests.billing.conftest import JANUARY_31, Opens, captured, held

AT = JANUARY_31
HOUR = timedelta(hours=1)


async def eventful_month(db: AsyncSession, account_id: UUID) -> None:
    """Grants, calls, a failure, a refund, an upgrade, a rollover and a void."""
    first = await captured(db, account_id, at=AT + HOUR)
    failed = await held(db, account_id, at=AT + 2 * HOUR)
    await ledger.release(db, failed, reason="unreadable_image", at=AT + 2 * HOUR)
    await ledger.refund(db, first, actor="support", reason="bad edge", at=AT + 3 * HOUR)
    await ledger.grant_credits(
        db, account_id, amount=1000, source="topup", ref="pay-1", actor="shop", reason="paid",
        at=AT + 4 * HOUR,
    )  # fmt: skip
    promo = await ledger.grant_credits(
        db, account_id, amount=30, source="promo", ref="hello", actor="shop", reason="welcome",
        at=AT + 5 * HOUR,
    )  # fmt: skip
    await ledger.void_grant(db, promo, actor="shop", reason="mistake", at=AT + 6 * HOUR)
    await ledger.adjust(
        db, account_id, amount=-3, ref="adj", actor="shop", reason="typo", at=AT + 7 * HOUR
    )
    await subscriptions.change_plan(
        db, account_id, "starter", actor="shop", at=AT + timedelta(days=14)
    )
    await captured(db, account_id, at=AT + timedelta(days=20))


async def test_a_statement_lists_each_operation_with_the_balance_after_it(
    db: AsyncSession, open_account: Opens
) -> None:
    account_id = await open_account()
    job_id = await captured(db, account_id, at=AT + HOUR)
    lines = await statements.statement(db, account_id, now=AT + HOUR)
    assert [(line.op, line.amount, line.balance, line.available) for line in lines] == [
        ("grant", 250, 250, 250),
        ("hold", 0, 250, 225),
        ("capture", -25, 225, 225),
    ]
    assert [line.job_id for line in lines] == [None, job_id, job_id]
    late = await statements.statement(
        db, account_id, since=AT + HOUR, until=AT + 2 * HOUR, now=AT + HOUR
    )
    assert late == lines[1:]


async def test_a_statement_foots_and_says_the_balance_as_of_any_time(
    db: AsyncSession, open_account: Opens
) -> None:
    account_id = await open_account()
    await eventful_month(db, account_id)
    end = AT + timedelta(days=60)
    lines = await statements.statement(db, account_id, now=end)
    running = 0
    for line in lines:
        running += line.amount
        assert line.balance == running == line.available + line.held
        as_of = await statements.balance_at(db, account_id, line.at, now=end)
        last_then = [other for other in lines if other.at <= line.at][-1]
        assert as_of.available == last_then.available
    assert [line.at for line in lines] == sorted(line.at for line in lines)
    start = await statements.balance_at(db, account_id, AT - HOUR, now=end)
    assert start == Balance(0, 0, 0, 0, 0)


async def test_a_statement_can_be_read_by_a_spreadsheet(
    db: AsyncSession, open_account: Opens
) -> None:
    account_id = await open_account()
    await eventful_month(db, account_id)
    lines = await statements.statement(db, account_id, now=AT + timedelta(days=21))
    rows = list(csv.DictReader(io.StringIO(statements.statement_csv(lines))))
    assert [int(row["amount"]) for row in rows] == [line.amount for line in lines]
    assert rows[0]["at"] == "2025-01-31T12:00:00+00:00"


async def test_a_report_keeps_no_call_waiting(
    committed_sessions: SessionFactory,
) -> None:
    async with committed_sessions.begin() as db:
        account = await accounts.create_account(db, name="R", plan="free", actor="test")
    async with committed_sessions() as report, committed_sessions() as call:
        await statements.statement(report, account.id)
        await statements.balance_at(report, account.id, datetime.now(UTC))
        await call.execute(
            text("SELECT 1 FROM credit_account WHERE account_id = :id FOR UPDATE NOWAIT"),
            {"id": account.id},
        )


async def test_a_statement_of_a_span_is_that_part_of_the_whole(
    db: AsyncSession, open_account: Opens
) -> None:
    account_id = await open_account()
    await eventful_month(db, account_id)
    whole = await statements.statement(db, account_id, now=AT + timedelta(days=60))
    for since in (AT - HOUR, AT + 2 * HOUR, AT + timedelta(days=14), AT + timedelta(days=59)):
        part = await statements.statement(db, account_id, since=since)
        assert part == [line for line in whole if line.at >= since]


async def test_a_month_pack_foots_to_zero_for_each_account_and_in_all(
    db: AsyncSession, open_account: Opens
) -> None:
    busy = await open_account(name="=Busy")
    await eventful_month(db, busy)
    quiet = await open_account(name="Quiet")
    end = datetime(2025, 5, 1, tzinfo=UTC)
    months = [await monthpack.month_pack(db, 2025, month, now=end) for month in (1, 2, 3, 4)]
    assert {line.foots for lines in months for line in lines} == {0}
    [busy_lines, quiet_lines] = [
        [line for lines in months for line in lines if line.account_id == str(account_id)]
        for account_id in (busy, quiet)
    ]
    for line, next_line in pairwise(busy_lines):
        assert next_line.opening == line.closing
    february, march = busy_lines[1], quiet_lines[2]
    assert (february.consumed, february.plan) == (25, (5000 - 250) // 2 + 5000)
    assert (march.expired, march.rolled_over) == (250, 250)
    rows = list(csv.DictReader(io.StringIO(monthpack.month_pack_csv(months[-1]))))
    assert rows[-1]["name"] == "total"
    assert {row["foots"] for row in rows} == {"0"}
    assert "'=Busy" in {row["name"] for row in rows}


async def test_a_month_pack_locks_nobody_and_each_account_is_advanced_by_itself(
    committed_sessions: SessionFactory,
) -> None:
    began_at = datetime.now(UTC) - timedelta(days=70)
    second = anchors.boundary(began_at, 1)
    async with committed_sessions.begin() as db:
        account = await accounts.create_account(
            db, name="M", plan="free", actor="test", at=began_at
        )
    lock = text("SELECT 1 FROM credit_account WHERE account_id = :id FOR UPDATE NOWAIT")
    async with committed_sessions() as report, committed_sessions() as call:
        await monthpack.month_pack(report, second.year, second.month)
        await call.execute(lock, {"id": account.id})
    await monthpack.catch_up_all(committed_sessions, second.year, second.month)
    async with committed_sessions() as db:
        lines = await monthpack.month_pack(db, second.year, second.month)
    [line] = [line for line in lines if line.account_id == str(account.id)]
    assert (line.plan, line.foots) == (250, 0)


async def test_usage_is_told_by_day_and_key_and_failures_cost_nothing(
    db: AsyncSession, open_account: Opens, hasher: KeyHasher
) -> None:
    account_id = await open_account()
    key, _ = await keys.create_key(
        db, hasher, account_id=account_id, env="live", name="shop", actor="test"
    )
    for _ in range(2):
        await captured(db, account_id, at=AT)
    await captured(db, account_id, at=AT + timedelta(days=1))
    failed = await held(db, account_id, api_key_id=key.id, at=AT)
    await ledger.release(db, failed, reason="unreadable", at=AT + timedelta(days=1))
    lines = await usage.usage(db, account_id, since=AT, until=AT + timedelta(days=2))
    assert {
        (line.day.day, line.key_name, line.succeeded, line.failed, line.charged_credits)
        for line in lines
    } == {(31, "", 2, 0, 50), (1, "", 1, 0, 25), (1, "shop", 0, 1, 0)}


async def test_an_alert_is_given_once_at_50_80_and_100_percent_of_a_period(
    db: AsyncSession, open_account: Opens
) -> None:
    account_id = await open_account()
    told = []
    for _ in range(10):
        await captured(db, account_id, 25, at=AT)
        told += [(a.percent, a.consumed) for a in await alerts.cross_thresholds(db, account_id)]
    assert told == [(50, 125), (80, 200), (100, 250)]
    renewal = AT.replace(month=2, day=28)
    await captured(db, account_id, 25, at=renewal)
    assert await alerts.cross_thresholds(db, account_id) == []
    await captured(db, account_id, 200, at=renewal)
    assert [a.percent for a in await alerts.cross_thresholds(db, account_id)] == [50, 80]


async def test_usage_is_found_by_an_index(db: AsyncSession, open_account: Opens) -> None:
    account_id = await open_account()
    await db.execute(text("SET LOCAL enable_seqscan = off"))
    plan = await db.scalars(
        text(
            "EXPLAIN SELECT count(*) FROM hold WHERE account_id = :id"
            " AND settled_at >= :since AND settled_at < :until"
        ),
        {"id": account_id, "since": AT, "until": AT + HOUR},
    )
    assert "ix_hold_account_id_settled_at" in "".join(plan)


async def test_the_last_alert_comes_when_what_is_left_pays_for_no_cutout(
    db: AsyncSession, open_account: Opens
) -> None:
    account_id = await open_account()
    await captured(db, account_id, 230, at=AT)
    told = [alert.percent for alert in await alerts.cross_thresholds(db, account_id)]
    assert told == [50, 80, 100]
    generous = await open_account(plan="enterprise", credit_limit=1000)
    await captured(db, generous, 4_999_990, at=AT)
    told = [alert.percent for alert in await alerts.cross_thresholds(db, generous)]
    assert told == [50, 80]
