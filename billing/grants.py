"""Giving credits, and ending what was given. The account's lock is held throughout.

Credits drawn on the credit limit belong to no grant. Whenever credits come in (a new grant, a
release) they first cover what is drawn, so that an account is never both overdrawn and in credit:
`available` below zero means that every grant is empty.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID, uuid4

from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from billing.posting import Entry, move, post
from billing.tables import CreditAccount, CreditGrant, Hold, HoldSlice

# Promotional credits before paid ones, a subscription's before what never expires.
PRIORITIES: Final = {
    "promo": 40,
    "plan": 50,
    "rollover": 50,
    "refund": 50,
    "adjustment": 50,
    "topup": 60,
}

REFRESH_DUE: Final = text(
    """
    UPDATE credit_account SET next_due_at = least(
        (SELECT min(least(expires_at, CASE WHEN activated_at IS NULL THEN effective_at END))
         FROM credit_grant WHERE account_id = :account_id AND closed_at IS NULL),
        (SELECT period_end FROM subscription
         WHERE account_id = :account_id AND ended_at IS NULL))
    WHERE account_id = :account_id
    """
)


async def refresh_due(db: AsyncSession, account_id: UUID) -> None:
    """Note when the account next has something to do by the clock alone."""
    await db.flush()
    await db.execute(REFRESH_DUE, {"account_id": account_id})


def draft_grant(
    account_id: UUID,
    *,
    source: str,
    ref: str,
    amount: int,
    effective_at: datetime,
    expires_at: datetime | None,
    actor: str,
    reason: str = "",
    priority: int | None = None,
    parent: CreditGrant | None = None,
    period_start: datetime | None = None,
    generation: int = 0,
) -> CreditGrant:
    """Write a grant down; its credits are there once a transaction has moved them into it."""
    return CreditGrant(
        id=uuid4(),
        account_id=account_id,
        source=source,
        ref=ref,
        parent_id=parent.id if parent else None,
        generation=generation,
        amount=amount,
        priority=PRIORITIES[source] if priority is None else priority,
        period_start=period_start,
        effective_at=effective_at,
        expires_at=expires_at,
        actor=actor,
        reason=reason,
    )


async def issue(
    db: AsyncSession,
    grant: CreditGrant,
    *,
    op: str = "grant",
    at: datetime,
    origin: str = "issued",
    reverses: int | None = None,
) -> None:
    """Move a grant's credits into it, out of nothing or (a refund) out of what was consumed."""
    grant.activated_at = at
    db.add(grant)
    await db.flush()
    entries = move(origin, "available", grant.id, grant.amount)
    entries += await cover_overdraft(db, grant.account_id, [(grant.id, grant.amount)])
    await post(
        db,
        grant.account_id,
        op=op,
        ref=grant.ref,
        actor=grant.actor,
        reason=grant.reason,
        at=at,
        entries=entries,
        reverses=reverses,
    )


async def cover_overdraft(
    db: AsyncSession,
    account_id: UUID,
    incoming: Sequence[tuple[UUID, int]],
    *,
    given_back: int = 0,
    settling: UUID | None = None,
) -> list[Entry]:
    """Spend what comes in on what is drawn on the credit limit.

    What was captured is covered first. Then open holds that the limit pays for are put on the
    grant, so that a release gives the credits back to whoever pays now. A release says what it has
    `given_back` to the limit itself, and which hold it is `settling`.
    """
    available = await db.scalar(
        select(CreditAccount.available).where(CreditAccount.account_id == account_id)
    )
    overdrawn = max(0, -(available or 0)) - given_back
    if overdrawn <= 0:
        return []
    drawn_by_holds = await _slices_on_the_limit(db, account_id, but_of=settling)
    captured = overdrawn - sum(slice_.amount for slice_ in drawn_by_holds)
    entries: list[Entry] = []
    for grant_id, amount in incoming:
        left = amount
        if part := min(left, captured):
            entries += [Entry("available", grant_id, -part), Entry("available", None, part)]
            captured -= part
            left -= part
        while left and drawn_by_holds:
            slice_ = drawn_by_holds[0]
            part = min(left, slice_.amount)
            await _put_on_grant(db, slice_, grant_id, part)
            if slice_.grant_id is not None:
                drawn_by_holds.pop(0)
            entries += [
                Entry("available", grant_id, -part),
                Entry("available", None, part),
                Entry("held", None, -part),
                Entry("held", grant_id, part),
            ]
            left -= part
    return entries


async def _slices_on_the_limit(
    db: AsyncSession, account_id: UUID, *, but_of: UUID | None
) -> list[HoldSlice]:
    """Find the slices of open holds that no grant pays, oldest hold first."""
    return list(
        await db.scalars(
            select(HoldSlice)
            .join(Hold, Hold.job_id == HoldSlice.job_id)
            .where(
                Hold.account_id == account_id,
                Hold.state == "held",
                HoldSlice.grant_id.is_(None),
                Hold.job_id.is_distinct_from(but_of),
            )
            .order_by(Hold.placed_at, Hold.job_id)
            .execution_options(populate_existing=True)
        )
    )


async def _put_on_grant(db: AsyncSession, slice_: HoldSlice, grant_id: UUID, part: int) -> None:
    """Put `part` of a slice on a grant; a slice that is only partly paid is cut in two."""
    if part == slice_.amount:
        slice_.grant_id = grant_id
        return
    last = await db.scalar(
        select(func.max(HoldSlice.line)).where(HoldSlice.job_id == slice_.job_id)
    )
    slice_.amount -= part
    db.add(HoldSlice(job_id=slice_.job_id, line=(last or 0) + 1, grant_id=grant_id, amount=part))
    await db.flush()
