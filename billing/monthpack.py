"""A month of every account as CSV, for whatever writes the invoices. Each row foots to zero.

opening + granted + refunded + adjusted - voided - consumed - expired - closing = 0, where the
balance is available and held together. The last row is the sum of the others.
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from datetime import UTC, datetime

from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from billing import anchors
from billing.periods import advance
from billing.spreadsheet import safe_cell
from billing.tables import CreditAccount

MOVEMENTS = text(
    """
    SELECT a.id AS account_id, a.name,
        -coalesce(sum(e.amount) FILTER (WHERE NOT is_now AND is_outside), 0) AS opening,
        -coalesce(sum(e.amount) FILTER (WHERE is_now AND is_issue AND g.source = 'plan'), 0)
            AS plan,
        -coalesce(sum(e.amount) FILTER (WHERE is_now AND is_issue AND g.source = 'topup'), 0)
            AS topup,
        -coalesce(sum(e.amount) FILTER (WHERE is_now AND is_issue
            AND g.source IN ('promo', 'adjustment')), 0) AS promo,
        -coalesce(sum(e.amount) FILTER (WHERE is_now AND t.op = 'refund'
            AND e.bucket = 'consumed'), 0) AS refunded,
        -coalesce(sum(e.amount) FILTER (WHERE is_now AND t.op = 'adjust'
            AND e.bucket = 'issued'), 0) AS adjusted,
        coalesce(sum(e.amount) FILTER (WHERE is_now AND t.op IN ('void', 'release')
            AND e.bucket = 'issued'), 0) AS voided,
        coalesce(sum(e.amount) FILTER (WHERE is_now AND t.op <> 'refund'
            AND e.bucket = 'consumed'), 0) AS consumed,
        coalesce(sum(e.amount) FILTER (WHERE is_now AND e.bucket = 'expired'), 0) AS expired,
        coalesce(sum(e.amount) FILTER (WHERE NOT is_outside), 0) AS closing,
        coalesce(sum(e.amount) FILTER (WHERE is_now AND t.op = 'rollover'
            AND e.bucket = 'available' AND e.amount > 0), 0) AS rolled_over
    FROM account a
    LEFT JOIN ledger_txn t ON t.account_id = a.id AND t.effective_at < :until
    LEFT JOIN ledger_entry e ON e.txn_id = t.id
    LEFT JOIN credit_grant g ON g.id = e.grant_id
    CROSS JOIN LATERAL (SELECT
        t.effective_at >= :since AS is_now,
        t.op = 'grant' AND e.bucket = 'issued' AS is_issue,
        e.bucket NOT IN ('available', 'held') AS is_outside) AS what
    GROUP BY a.id
    ORDER BY a.created_at, a.id
    """
)


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


async def month_pack(
    db: AsyncSession, year: int, month: int, *, now: datetime | None = None
) -> list[MonthLine]:
    """Reckon a calendar month (UTC) of every account, what was due in it included."""
    since = datetime(year, month, 1, tzinfo=UTC)
    until = anchors.boundary(since, 1)
    reached = now or (await db.execute(select(func.clock_timestamp()))).scalar_one()
    due = await db.scalars(
        select(CreditAccount.account_id)
        .where(CreditAccount.next_due_at < min(until, reached))
        .order_by(CreditAccount.account_id)
    )
    for account_id in due.all():
        await advance(db, account_id, at=now)
    rows = await db.execute(MOVEMENTS, {"since": since, "until": until})
    return [
        MonthLine(str(row.account_id), row.name, *(int(number) for number in row[2:]))
        for row in rows
    ]


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
