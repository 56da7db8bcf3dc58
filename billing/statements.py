"""What happened to an account's credits, in order, with the balance after each line."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import ColumnElement, case, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from billing.periods import catch_up
from billing.posting import Balance, read_balance
from billing.sequence import last_before
from billing.spreadsheet import safe_cell
from billing.tables import LedgerEntry, LedgerTxn

JOB_OPS = frozenset({"hold", "capture", "release", "refund"})
BUCKETS = ("available", "held", "consumed", "expired")
BREAKING_OPS: Final = ("expire", "rollover", "release")
"""What may move credits to `expired`; few among many, and found by their index."""
INSTANT: Final = timedelta(microseconds=1)


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
    """List the operations with `since` <= time < `until`, without the account's lock.

    Whoever wants what is due in it too calls `periods.catch_up` before, in a transaction that ends
    there: a report must not stop the account's calls. `now`, for replays, plays time up to it here.
    """
    if now is not None:
        await catch_up(db, account_id, at=now)
    available = held = 0
    if since is not None:
        after = await last_before(db, account_id, since)
        available = await _balance(db, account_id, "available", after)
        held = await _balance(db, account_id, "held", after)
    chosen = (
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
        .order_by(LedgerTxn.account_seq)
    )
    if since is not None:
        chosen = chosen.where(LedgerTxn.account_seq > after)
    if until is not None:
        chosen = chosen.where(LedgerTxn.account_seq <= await last_before(db, account_id, until))
    lines = []
    for row in await db.execute(chosen):
        available += int(row.to_available)
        held += int(row.to_held)
        lines.append(
            StatementLine(
                at=row.at,
                seq=row.seq,
                op=row.op,
                ref=row.ref,
                job_id=UUID(row.ref) if row.op in JOB_OPS else None,
                amount=int(row.to_available + row.to_held),
                balance=available + held,
                available=available,
                held=held,
                actor=row.actor,
                reason=row.reason,
            )
        )
    return lines


async def balance_at(
    db: AsyncSession, account_id: UUID, at: datetime, *, now: datetime | None = None
) -> Balance:
    """Tell the balances as they were at `at`, everything of that very moment included.

    Takes no lock; `periods.catch_up` and `now` are as for `statement`.
    """
    if now is not None:
        await catch_up(db, account_id, at=now)
    limit = (await read_balance(db, account_id)).credit_limit
    last = await last_before(db, account_id, at + INSTANT)
    then = {bucket: await _balance(db, account_id, bucket, last) for bucket in BUCKETS}
    return Balance(**then, credit_limit=limit)


async def _balance(db: AsyncSession, account_id: UUID, bucket: str, last: int) -> int:
    """Read a bucket's balance after operation `last` off its last entry (the order is I17's)."""
    entry = (
        select(LedgerEntry.balance_after)
        .join(LedgerTxn, LedgerTxn.id == LedgerEntry.txn_id)
        .where(
            LedgerTxn.account_id == account_id,
            LedgerTxn.account_seq <= last,
            LedgerEntry.bucket == bucket,
        )
        .order_by(LedgerTxn.account_seq.desc(), LedgerEntry.line.desc())
        .limit(1)
    )
    if bucket == "expired":
        entry = entry.where(LedgerTxn.op.in_(BREAKING_OPS))
    return int(await db.scalar(entry) or 0)


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
