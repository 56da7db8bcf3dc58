"""A statement as people read it: newest first, a page at a time, and what it comes to in all.

The whole statement, oldest first, is `statements.statement`; both tell the same balances.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from billing.sequence import last_before
from billing.statements import JOB_OPS, StatementLine

# Backwards along the account's sequence, so that a page costs what a page holds. What a hold does
# to the balance is nothing, always; what a release does, almost always.
PAGE: Final = text(
    """
    SELECT page.*,
        (SELECT e.balance_after FROM ledger_txn t JOIN ledger_entry e ON e.txn_id = t.id
         WHERE t.account_id = :account_id AND t.account_seq <= page.seq AND e.bucket = 'available'
         ORDER BY t.account_seq DESC, e.line DESC LIMIT 1) AS available,
        (SELECT e.balance_after FROM ledger_txn t JOIN ledger_entry e ON e.txn_id = t.id
         WHERE t.account_id = :account_id AND t.account_seq <= page.seq AND e.bucket = 'held'
         ORDER BY t.account_seq DESC, e.line DESC LIMIT 1) AS held
    FROM (
        SELECT t.effective_at AS at, t.account_seq AS seq, t.op, t.ref, t.actor, t.reason,
            moved.amount
        FROM ledger_txn t
        CROSS JOIN LATERAL (
            SELECT coalesce(sum(e.amount) FILTER (WHERE e.bucket IN ('available', 'held')), 0)
                AS amount
            FROM ledger_entry e WHERE e.txn_id = t.id
        ) moved
        WHERE t.account_id = :account_id
          AND t.account_seq > :after_seq AND t.account_seq <= :last_seq
          AND (:has_unmoved OR (t.op <> 'hold' AND moved.amount <> 0))
        ORDER BY t.account_seq DESC
        LIMIT :lines_max
    ) page
    ORDER BY page.seq DESC
    """
)
BALANCE: Final = text(
    """
    SELECT
        (SELECT e.balance_after FROM ledger_txn t JOIN ledger_entry e ON e.txn_id = t.id
         WHERE t.account_id = :account_id AND t.account_seq <= :seq AND e.bucket = 'available'
         ORDER BY t.account_seq DESC, e.line DESC LIMIT 1) AS available,
        (SELECT e.balance_after FROM ledger_txn t JOIN ledger_entry e ON e.txn_id = t.id
         WHERE t.account_id = :account_id AND t.account_seq <= :seq AND e.bucket = 'held'
         ORDER BY t.account_seq DESC, e.line DESC LIMIT 1) AS held
    """
)
# By what was done; each operation moves the balance of one account, in one direction or another.
TOTALS: Final = text(
    """
    SELECT t.op, sum(e.amount) AS amount
    FROM ledger_txn t JOIN ledger_entry e ON e.txn_id = t.id
    WHERE t.account_id = :account_id
      AND t.account_seq > :after_seq AND t.account_seq <= :last_seq
      AND t.op <> 'hold' AND e.bucket IN ('available', 'held')
    GROUP BY t.op HAVING sum(e.amount) <> 0
    """
)


@dataclass(frozen=True, slots=True)
class Totals:
    """What a span did to the balance, which is available and held together."""

    given: int
    spent: int
    expired: int
    corrected: int
    """Adjusted and voided; below zero where credits were taken away."""

    @property
    def change(self) -> int:
        return self.given - self.spent - self.expired + self.corrected


async def newest_lines(
    db: AsyncSession,
    account_id: UUID,
    *,
    since: datetime,
    until: datetime,
    before_seq: int | None = None,
    has_unmoved: bool = False,
    lines_max: int,
) -> list[StatementLine]:
    """List the last operations with `since` <= time < `until`, newest first.

    The next page is what comes before the last line of this one (`before_seq`). Unless
    `has_unmoved`, what leaves the balance as it is (holds, releases) is left out.
    """
    arguments = await _span(db, account_id, since, until)
    if before_seq is not None:
        arguments["last_seq"] = min(arguments["last_seq"], before_seq - 1)
    arguments |= {"has_unmoved": has_unmoved, "lines_max": lines_max}
    rows = await db.execute(PAGE, arguments)
    return [
        StatementLine(
            at=row.at,
            seq=row.seq,
            op=row.op,
            ref=row.ref,
            job_id=UUID(row.ref) if row.op in JOB_OPS else None,
            amount=int(row.amount),
            balance=int(row.available or 0) + int(row.held or 0),
            available=int(row.available or 0),
            held=int(row.held or 0),
            actor=row.actor,
            reason=row.reason,
        )
        for row in rows
    ]


async def balance_before(db: AsyncSession, account_id: UUID, at: datetime) -> int:
    """Tell the balance, available and held together, as it was just before `at`."""
    arguments = {"account_id": account_id, "seq": await last_before(db, account_id, at)}
    then = (await db.execute(BALANCE, arguments)).one()
    return int(then.available or 0) + int(then.held or 0)


async def totals(db: AsyncSession, account_id: UUID, *, since: datetime, until: datetime) -> Totals:
    """Add a span up: opening balance + `change` = closing balance."""
    arguments = await _span(db, account_id, since, until)
    sums = {row.op: int(row.amount) for row in await db.execute(TOTALS, arguments)}
    return Totals(
        given=sums.pop("grant", 0) + sums.pop("refund", 0),
        spent=-sums.pop("capture", 0),
        corrected=sums.pop("adjust", 0) + sums.pop("void", 0),
        expired=-sum(sums.values()),
    )


async def _span(
    db: AsyncSession, account_id: UUID, since: datetime, until: datetime
) -> dict[str, Any]:
    """Tell a span as a part of the account's sequence."""
    return {
        "account_id": account_id,
        "after_seq": await last_before(db, account_id, since),
        "last_seq": await last_before(db, account_id, until),
    }
