"""Under everything: the account's lock, and the one way to write to its books.

Whoever writes for an account takes the lock on its `credit_account` row first, in the order job,
hold, credit_account, grants; then two writers of one account never see half of each other's work,
and two of different accounts never wait.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, Uuid, bindparam, func, select, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncSession

from billing.errors import AccountNotFoundError, DuplicateOperationError
from billing.tables import CreditAccount, CreditGrant, LedgerTxn

POST = text(
    "SELECT ledger_post(:account_id, :op, :ref, :actor, :reason, :reverses,"
    " :at, :buckets, :grants, :amounts)"
).bindparams(bindparam("grants", type_=ARRAY(Uuid)))


@dataclass(frozen=True, slots=True)
class Balance:
    """What an account has. `available` may be below zero by at most `credit_limit`."""

    available: int
    held: int
    consumed: int
    expired: int
    credit_limit: int


@dataclass(frozen=True, slots=True)
class Entry:
    """One line to be written: `amount` into a bucket, of a grant or (None) of the credit limit."""

    bucket: str
    grant_id: UUID | None
    amount: int


def move(
    source: str, target: str, grant_id: UUID | None, amount: int, *, to: UUID | None = None
) -> list[Entry]:
    """Spell `amount` moving between two buckets, of one grant or from one grant to another."""
    return [
        Entry(source, grant_id, -amount),
        Entry(target, to if to is not None else grant_id, amount),
    ]


async def lock_account(db: AsyncSession, account_id: UUID) -> CreditAccount:
    """Take the account's mutex, held until the transaction ends, and read its books."""
    books = await db.scalar(
        select(CreditAccount)
        .where(CreditAccount.account_id == account_id)
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    if books is None:
        raise AccountNotFoundError(account_id)
    return books


async def moment_for(db: AsyncSession, books: CreditAccount, at: datetime | None) -> datetime:
    """Tell the time: the database's, unless `at` is given, and never before the last operation."""
    now = at if at is not None else await db.scalar(select(func.clock_timestamp()))
    if now is None:
        raise RuntimeError("the database did not tell the time")
    return max(now, books.advanced_at)


async def open_grants(db: AsyncSession, account_id: UUID) -> list[CreditGrant]:
    """Read the account's grants that are not closed, scheduled ones included; needs the lock.

    In burn-down order, which their index has: of several that begin at one instant the first covers
    what is overdrawn, and which that is must not be the table's to choose.
    """
    return list(
        await db.scalars(
            select(CreditGrant)
            .where(CreditGrant.account_id == account_id, CreditGrant.closed_at.is_(None))
            .order_by(
                CreditGrant.priority,
                CreditGrant.expires_at.nulls_last(),
                CreditGrant.effective_at,
                CreditGrant.seq,
            )
            .execution_options(populate_existing=True)
        )
    )


async def post(
    db: AsyncSession,
    account_id: UUID,
    *,
    op: str,
    ref: str,
    actor: str,
    reason: str,
    at: datetime,
    entries: Sequence[Entry],
    reverses: int | None = None,
) -> int:
    """Write one transaction; the account's and the grants' balances move with it.

    Raises:
        DuplicateOperationError: `op` was posted under `ref` before. Nothing is posted; what the
            caller wrote before stays until he rolls back, which leaving `begin()` by the exception
            does.
    """
    await db.flush()
    if await posted(db, account_id, op, ref) is not None:
        raise DuplicateOperationError(op, ref)
    txn_id: int = await db.scalar(
        POST,
        {
            "account_id": account_id,
            "op": op,
            "ref": ref,
            "actor": actor,
            "reason": reason,
            "reverses": reverses,
            "at": at,
            "buckets": [entry.bucket for entry in entries],
            "grants": [entry.grant_id for entry in entries],
            "amounts": [entry.amount for entry in entries],
        },
    )
    return txn_id


async def posted(db: AsyncSession, account_id: UUID, op: str, ref: str) -> int | None:
    """Find the transaction that this operation made; under the lock the answer is final."""
    return await db.scalar(
        select(LedgerTxn.id).where(
            LedgerTxn.account_id == account_id, LedgerTxn.op == op, LedgerTxn.ref == ref
        )
    )


async def read_balance(db: AsyncSession, account_id: UUID) -> Balance:
    """Read the balances as they are posted."""
    books = (
        await db.execute(
            select(
                CreditAccount.available,
                CreditAccount.held,
                CreditAccount.consumed,
                CreditAccount.expired,
                CreditAccount.credit_limit,
            ).where(CreditAccount.account_id == account_id)
        )
    ).one_or_none()
    if books is None:
        raise AccountNotFoundError(account_id)
    return balance_from(books)


def balance_from(row: Row[*tuple[Any, ...]]) -> Balance:
    return Balance(row.available, row.held, row.consumed, row.expired, row.credit_limit)
