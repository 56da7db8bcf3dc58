"""A month of every account as CSV, for whatever writes the invoices. Each row foots to zero.

opening + granted + refunded + adjusted - voided - consumed - expired - closing = 0, where the
balance is available and held together. The last row is the sum of the others.
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from datetime import UTC, datetime
from functools import partial
from typing import Final
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from billing import anchors
from billing.db import SessionFactory, transact
from billing.periods import catch_up
from billing.spreadsheet import safe_cell
from billing.tables import CreditAccount

# The account's two balances, each read off its last entry before a time (the order is I17's).
BALANCE_BEFORE: Final = """
    (SELECT coalesce(sum(last.balance_after), 0)
     FROM unnest(ARRAY['available', 'held']::bucket[]) AS one (bucket)
     CROSS JOIN LATERAL (
         SELECT e.balance_after FROM ledger_txn t JOIN ledger_entry e ON e.txn_id = t.id
         WHERE t.account_id = a.id AND t.effective_at < {moment} AND e.bucket = one.bucket
         ORDER BY t.account_seq DESC, e.line DESC LIMIT 1
     ) last)"""

MOVEMENTS: Final = text(
    f"""
    SELECT a.id AS account_id, a.name, {BALANCE_BEFORE.format(moment=":since")} AS opening,
        -coalesce(sum(e.amount) FILTER (WHERE is_issue AND g.source = 'plan'), 0)
            AS plan,
        -coalesce(sum(e.amount) FILTER (WHERE is_issue AND g.source = 'topup'), 0)
            AS topup,
        -coalesce(sum(e.amount) FILTER (WHERE is_issue
            AND g.source IN ('promo', 'adjustment')), 0) AS promo,
        -coalesce(sum(e.amount) FILTER (WHERE t.op = 'refund'
            AND e.bucket = 'consumed'), 0) AS refunded,
        -coalesce(sum(e.amount) FILTER (WHERE t.op = 'adjust'
            AND e.bucket = 'issued'), 0) AS adjusted,
        coalesce(sum(e.amount) FILTER (WHERE t.op IN ('void', 'release')
            AND e.bucket = 'issued'), 0) AS voided,
        coalesce(sum(e.amount) FILTER (WHERE t.op <> 'refund'
            AND e.bucket = 'consumed'), 0) AS consumed,
        coalesce(sum(e.amount) FILTER (WHERE e.bucket = 'expired'), 0) AS expired,
        {BALANCE_BEFORE.format(moment=":until")} AS closing,
        coalesce(sum(e.amount) FILTER (WHERE t.op = 'rollover'
            AND e.bucket = 'available' AND e.amount > 0), 0) AS rolled_over
    FROM account a
    LEFT JOIN ledger_txn t ON t.account_id = a.id
        AND t.effective_at >= :since AND t.effective_at < :until
    LEFT JOIN ledger_entry e ON e.txn_id = t.id
    LEFT JOIN credit_grant g ON g.id = e.grant_id
    CROSS JOIN LATERAL (SELECT t.op = 'grant' AND e.bucket = 'issued' AS is_issue) AS what
    GROUP BY a.id
    ORDER BY a.created_at, a.id
    """  # noqa: S608 - our own text
)
PATIENCE: Final = text("SET LOCAL statement_timeout = '300s'")


@dataclass(frozen=True, slots=True)
class MonthLine:
    """One account's month, in credits."""

    account_id: str
    name: str
    opening: int
    plan: int
    topup: int
    promo: int
    refunded: int
    adjusted: int
    voided: int
    consumed: int
    expired: int
    closing: int
    rolled_over: int
    """Of what is in `closing`, or was spent since: carried at a period's end. Moves no balance."""

    @property
    def foots(self) -> int:
        """Zero, or the books are wrong."""
        given = self.opening + self.plan + self.topup + self.promo + self.refunded + self.adjusted
        return given - self.voided - self.consumed - self.expired - self.closing


async def catch_up_all(sessions: SessionFactory, year: int, month: int) -> None:
    """Do what was due before a month's end, each account in a short transaction of its own."""
    async with sessions.begin() as db:
        due = await _due_before(db, month_of(year, month)[1])
    for account_id in due:
        await transact(sessions, partial(catch_up, account_id=account_id))


async def month_pack(
    db: AsyncSession, year: int, month: int, *, now: datetime | None = None
) -> list[MonthLine]:
    """Reckon a calendar month (UTC) of every account, without their locks.

    Whoever wants what is due in it too calls `catch_up_all` before. `now`, for replays, plays time
    up to it here.
    """
    since, until = month_of(year, month)
    if now is not None:
        for account_id in await _due_before(db, min(until, now)):
            await catch_up(db, account_id, at=now)
    await db.execute(PATIENCE)
    rows = await db.execute(MOVEMENTS, {"since": since, "until": until})
    return [
        MonthLine(str(row.account_id), row.name, *(int(number) for number in row[2:]))
        for row in rows
    ]


def month_of(year: int, month: int) -> tuple[datetime, datetime]:
    """Give the month's beginning and the next one's."""
    since = datetime(year, month, 1, tzinfo=UTC)
    return since, anchors.boundary(since, 1)


async def _due_before(db: AsyncSession, until: datetime) -> Sequence[UUID]:
    due = select(CreditAccount.account_id).where(CreditAccount.next_due_at < until)
    return (await db.scalars(due.order_by(CreditAccount.account_id))).all()


def month_pack_csv(lines: Sequence[MonthLine]) -> str:
    """Write the month as CSV with a row of totals; `foots` is 0 in each row."""
    names = [field.name for field in fields(MonthLine)]
    totals = [sum(getattr(line, name) for line in lines) for name in names[2:]]
    total = MonthLine("", "total", *totals)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*names, "foots"])
    for line in (*lines, total):
        writer.writerow([safe_cell(cell) for cell in astuple(line)] + [line.foots])
    return out.getvalue()
