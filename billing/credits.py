"""Credits that people give and take: top-ups, promotions, refunds, adjustments, voids.

Each is an administrative act: it is audited in its own transaction, and its reference works once.
"""

from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from billing import audit, burndown
from billing.errors import DuplicateOperationError, HoldNotOpenError, InvalidOperationError
from billing.grants import draft_grant, issue, refresh_due
from billing.periods import advance
from billing.posting import Balance, Entry, lock_account, move, open_grants, post, read_balance
from billing.tables import Account, CreditGrant, Hold, HoldSlice

REFUND_LIFE_MIN: Final = timedelta(days=30)
"""A refund of credits that are about to expire is still worth something."""

GIVEN_SOURCES: Final = frozenset({"topup", "promo", "adjustment"})


async def advance_open(db: AsyncSession, account_id: UUID, *, at: datetime | None) -> datetime:
    """Advance an account that credits are to be given to: a closed one takes none.

    Nobody could spend them. A charge of a closed account is paid back in money, outside the ledger.
    """
    moment = await advance(db, account_id, at=at)
    status = await db.scalar(select(Account.status).where(Account.id == account_id))
    if status == "closed":
        raise InvalidOperationError("the account is closed: it takes no credits")
    return moment


async def refund(
    db: AsyncSession, job_id: UUID, *, actor: str, reason: str, at: datetime | None = None
) -> UUID:
    """Undo a job's charge, once, by a new grant; it outlives the grants that paid.

    Raises:
        HoldNotOpenError: the job was not charged.
        DuplicateOperationError: it was refunded before.
        InvalidOperationError: the account is closed.
    """
    hold = await db.scalar(
        select(Hold).where(Hold.job_id == job_id).execution_options(populate_existing=True)
    )
    if hold is None or hold.state != "captured" or hold.txn_id is None:
        raise HoldNotOpenError(job_id, hold.state if hold else None)
    moment = await advance_open(db, hold.account_id, at=at)
    grant = draft_grant(
        hold.account_id,
        source="refund",
        ref=str(job_id),
        amount=hold.amount,
        effective_at=moment,
        expires_at=await _refund_expires_at(db, job_id, moment),
        actor=actor,
        reason=reason,
    )
    await issue(db, grant, op="refund", at=moment, origin="consumed", reverses=hold.txn_id)
    await refresh_due(db, hold.account_id)
    await audit.record(
        db,
        actor=actor,
        action="job.refund",
        object_name=f"job {job_id}",
        account_id=hold.account_id,
        reason=reason,
        after={"credits": hold.amount},
    )
    return grant.id


async def _refund_expires_at(db: AsyncSession, job_id: UUID, moment: datetime) -> datetime | None:
    """As long as the longest-lived grant that paid, and never less than a month from now."""
    paid = await db.execute(
        select(CreditGrant.expires_at)
        .join(HoldSlice, HoldSlice.grant_id == CreditGrant.id)
        .where(HoldSlice.job_id == job_id)
    )
    ends: list[datetime | None] = list(paid.scalars())
    if None in ends:
        return None
    return max([moment + REFUND_LIFE_MIN, *(end for end in ends if end is not None)])


async def grant_credits(
    db: AsyncSession,
    account_id: UUID,
    *,
    amount: int,
    source: str,
    ref: str,
    actor: str,
    reason: str,
    priority: int | None = None,
    effective_at: datetime | None = None,
    expires_at: datetime | None = None,
    at: datetime | None = None,
) -> UUID:
    """Give credits: a top-up or a promotion. `ref` says which, and works once.

    Raises:
        DuplicateOperationError: credits were granted under `ref` before.
        InvalidOperationError: an amount, source or time that makes no sense; a closed account.
    """
    if amount <= 0 or source not in GIVEN_SOURCES:
        raise InvalidOperationError(f"cannot grant {amount} credits as {source!r}")
    moment = await advance_open(db, account_id, at=at)
    begins_at = max(effective_at or moment, moment)
    if expires_at is not None and expires_at <= begins_at:
        raise InvalidOperationError("a grant must end after it begins")
    already = await db.scalar(
        select(CreditGrant.id).where(
            CreditGrant.account_id == account_id,
            CreditGrant.ref == f"{source}:{ref}",
        )
    )
    if already is not None:
        raise DuplicateOperationError("grant", ref)
    grant = draft_grant(
        account_id,
        source=source,
        ref=f"{source}:{ref}",
        amount=amount,
        effective_at=begins_at,
        expires_at=expires_at,
        actor=actor,
        reason=reason,
        priority=priority,
    )
    if begins_at > moment:
        db.add(grant)
    else:
        await issue(db, grant, at=moment)
    await refresh_due(db, account_id)
    await audit.record(
        db,
        actor=actor,
        action="credits.grant",
        object_name=f"grant {grant.id}",
        account_id=account_id,
        reason=reason,
        after={"credits": amount, "source": source, "ref": ref},
    )
    return grant.id


async def adjust(
    db: AsyncSession,
    account_id: UUID,
    *,
    amount: int,
    ref: str,
    actor: str,
    reason: str,
    at: datetime | None = None,
) -> Balance:
    """Correct a balance up or down, for a reason; never below the credit limit.

    Raises:
        DuplicateOperationError: `ref` was used for an adjustment before.
        InvalidOperationError: no amount, no reason, too far down, or up on a closed account.
    """
    if amount == 0 or not reason.strip():
        raise InvalidOperationError("an adjustment needs an amount and a reason")
    catch_up = advance_open if amount > 0 else advance
    moment = await catch_up(db, account_id, at=at)
    if amount > 0:
        grant = draft_grant(
            account_id,
            source="adjustment",
            ref=ref,
            amount=amount,
            effective_at=moment,
            expires_at=None,
            actor=actor,
            reason=reason,
        )
        await issue(db, grant, op="adjust", at=moment)
    else:
        await _take(db, account_id, -amount, ref=ref, actor=actor, reason=reason, moment=moment)
    await refresh_due(db, account_id)
    await audit.record(
        db,
        actor=actor,
        action="credits.adjust",
        object_name=f"account {account_id}",
        account_id=account_id,
        reason=reason,
        after={"credits": amount, "ref": ref},
    )
    return await read_balance(db, account_id)


async def _take(
    db: AsyncSession,
    account_id: UUID,
    amount: int,
    *,
    ref: str,
    actor: str,
    reason: str,
    moment: datetime,
) -> None:
    books = await lock_account(db, account_id)
    if books.available + books.credit_limit < amount:
        raise InvalidOperationError("an adjustment cannot go below the credit limit")
    entries: list[Entry] = []
    for grant_id, part in burndown.split(amount, await open_grants(db, account_id)):
        entries += move("available", "issued", grant_id, part)
    await post(
        db,
        account_id,
        op="adjust",
        ref=ref,
        actor=actor,
        reason=reason,
        at=moment,
        entries=entries,
    )


async def void_grant(
    db: AsyncSession, grant_id: UUID, *, actor: str, reason: str, at: datetime | None = None
) -> Balance:
    """End a grant on purpose: what is left of it was never issued. Open holds on it stand.

    Raises:
        InvalidOperationError: there is no such grant, or it is closed.
    """
    account_id = await db.scalar(select(CreditGrant.account_id).where(CreditGrant.id == grant_id))
    if account_id is None:
        raise InvalidOperationError("there is no such grant")
    moment = await advance(db, account_id, at=at)
    grant = await db.get_one(CreditGrant, grant_id, populate_existing=True)
    if grant.closed_at is not None:
        raise InvalidOperationError(f"the grant is {grant.closed_reason}")
    if grant.remaining:
        await post(
            db,
            account_id,
            op="void",
            ref=str(grant_id),
            actor=actor,
            reason=reason,
            at=moment,
            entries=move("available", "issued", grant_id, grant.remaining),
        )
    grant.closed_at, grant.closed_reason = moment, "voided"
    await refresh_due(db, account_id)
    await audit.record(
        db,
        actor=actor,
        action="grant.void",
        object_name=f"grant {grant_id}",
        account_id=account_id,
        reason=reason,
    )
    return await read_balance(db, account_id)
