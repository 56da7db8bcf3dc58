"""What happened to an account's credits, in order, with the balance after each line."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy import ColumnElement, case, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from billing.periods import advance
from billing.posting import Balance, read_balance
from billing.spreadsheet import safe_cell
from billing.tables import LedgerEntry, LedgerTxn

JOB_OPS = frozenset({"hold", "capture", "release", "refund"})


@dataclass(frozen=True, slots=True)
class StatementLine:
    """One operation. `amount` is what it did to the balance, which is available and held together.

    So a hold is 0 (the credits are still the customer's), a capture is -25, and a release is 0.
    """

    at: datetime
    seq: int
    op: str
    ref: str
    job_id: UUID | None
    amount: int
    balance: int
    available: int
    held: int
    actor: str
    reason: str


def _in(*buckets: str) -> ColumnElement[int]:
    moved = case((LedgerEntry.bucket.in_(buckets), LedgerEntry.amount), else_=0)
    return func.coalesce(func.sum(moved), 0)


async def statement(
    db: AsyncSession,
    account_id: UUID,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    now: datetime | None = None,
) -> list[StatementLine]:
    """List the operations with `since` <= time < `until`; what is due by now is posted first."""
    await advance(db, account_id, at=now)
    lines = (
        select(
            LedgerTxn.effective_at.label("at"),
            LedgerTxn.account_seq.label("seq"),
            LedgerTxn.op,
            LedgerTxn.ref,
            LedgerTxn.actor,
            LedgerTxn.reason,
            _in("available").label("to_available"),
            _in("held").label("to_held"),
        )
        .outerjoin(LedgerEntry, LedgerEntry.txn_id == LedgerTxn.id)
        .where(LedgerTxn.account_id == account_id)
        .group_by(LedgerTxn.id)
        .subquery()
    )
    running = select(
        lines,
        func.sum(lines.c.to_available).over(order_by=lines.c.seq).label("available"),
        func.sum(lines.c.to_held).over(order_by=lines.c.seq).label("held"),
    ).subquery()
    chosen = select(running).order_by(running.c.seq)
    if since is not None:
        chosen = chosen.where(running.c.at >= since)
    if until is not None:
        chosen = chosen.where(running.c.at < until)
    return [
        StatementLine(
            at=row.at,
            seq=row.seq,
            op=row.op,
            ref=row.ref,
            job_id=UUID(row.ref) if row.op in JOB_OPS else None,
            amount=int(row.to_available + row.to_held),
            balance=int(row.available + row.held),
            available=int(row.available),
            held=int(row.held),
            actor=row.actor,
            reason=row.reason,
        )
        for row in await db.execute(chosen)
    ]


async def balance_at(
    db: AsyncSession, account_id: UUID, at: datetime, *, now: datetime | None = None
) -> Balance:
    """Tell the balances as they were at `at`, everything of that very moment included."""
    await advance(db, account_id, at=now)
    sums = (
        await db.execute(
            select(
                _in("available").label("available"),
                _in("held").label("held"),
                _in("consumed").label("consumed"),
                _in("expired").label("expired"),
            )
            .select_from(LedgerTxn)
            .join(LedgerEntry, LedgerEntry.txn_id == LedgerTxn.id)
            .where(LedgerTxn.account_id == account_id, LedgerTxn.effective_at <= at)
        )
    ).one()
    limit = (await read_balance(db, account_id)).credit_limit
    return Balance(
        int(sums.available), int(sums.held), int(sums.consumed), int(sums.expired), limit
    )


def statement_csv(lines: Sequence[StatementLine]) -> str:
    """Write a statement as CSV, times in UTC."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    names = ["at", "seq", "op", "job_id", "amount", "balance", "available", "held", "ref", "reason"]
    writer.writerow(names)
    for line in lines:
        cells = [safe_cell(getattr(line, name)) for name in names[1:]]
        writer.writerow([line.at.astimezone(UTC).isoformat(), *cells])
    return out.getvalue()
