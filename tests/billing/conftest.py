"""Accounts and keys of the billing tests."""

from datetime import UTC, datetime
from typing import Any, Protocol
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from billing import accounts, ledger
from billing.db import SessionFactory
from billing.keys import KeyHasher
from billing.tables import CreditGrant, LedgerEntry, LedgerTxn

JANUARY_31 = datetime(2025, 1, 31, 12, 0, tzinfo=UTC)
"""When most accounts of these tests begin: the day that shows what months are made of."""


class Opens(Protocol):
    async def __call__(self, **options: Any) -> UUID: ...


@pytest.fixture
async def db(sessions: SessionFactory) -> Any:
    """One session, whose work is undone."""
    async with sessions() as db:
        yield db


@pytest.fixture
def hasher() -> KeyHasher:
    return KeyHasher({1: "an-old-pepper", 2: "a-new-pepper"})


@pytest.fixture
def open_account(db: AsyncSession) -> Opens:
    """Open an account, on `free` (250 credits a month) from 31 January 2025 unless told."""

    async def work(**options: Any) -> UUID:
        known: dict[str, Any] = {"name": "Ada", "plan": "free", "actor": "test", "at": JANUARY_31}
        account = await accounts.create_account(db, **(known | options))
        return account.id

    return work


async def held(db: AsyncSession, account_id: UUID, amount: int = 25, **options: Any) -> UUID:
    """Hold `amount` for a new job."""
    job_id = uuid4()
    await ledger.place_hold(
        db, account_id=account_id, job_id=job_id, amount=amount, concurrency_max=None, **options
    )
    return job_id


async def captured(db: AsyncSession, account_id: UUID, amount: int = 25, **options: Any) -> UUID:
    """Charge a new job `amount`."""
    job_id = await held(db, account_id, amount, **options)
    await ledger.capture(db, job_id, **options)
    return job_id


async def open_grants_of(db: AsyncSession, account_id: UUID) -> list[tuple[str, int]]:
    """Tell source and remaining credits of each open grant, in the order of writing."""
    grants = await db.scalars(
        select(CreditGrant)
        .where(CreditGrant.account_id == account_id, CreditGrant.closed_at.is_(None))
        .order_by(CreditGrant.seq)
        .execution_options(populate_existing=True)
    )
    return [(grant.source, grant.remaining) for grant in grants]


async def entries_of(db: AsyncSession, account_id: UUID, op: str) -> list[tuple[str, int]]:
    """Tell bucket and amount of each entry that an operation wrote."""
    rows = await db.execute(
        select(LedgerEntry.bucket, LedgerEntry.amount)
        .join(LedgerTxn, LedgerTxn.id == LedgerEntry.txn_id)
        .where(LedgerTxn.account_id == account_id, LedgerTxn.op == op)
        .order_by(LedgerTxn.account_seq, LedgerEntry.line)
    )
    return [(bucket, amount) for bucket, amount in rows]
