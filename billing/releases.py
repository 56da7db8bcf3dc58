"""Where a released hold goes: to its grants, to what they have become, or to breakage."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import Row, select
from sqlalchemy.ext.asyncio import AsyncSession

from billing.grants import cover_overdraft
from billing.periods import carry, live_subscription
from billing.posting import Entry, move
from billing.tables import BillingPeriod, CreditGrant, Hold, HoldSlice


async def entries_of_release(db: AsyncSession, hold: Hold, moment: datetime) -> list[Entry]:
    """Spell where each slice of a hold goes back to. Needs the lock, and time caught up."""
    slices: Sequence[Row[HoldSlice, CreditGrant | None]] = (
        await db.execute(
            select(HoldSlice, CreditGrant)
            .outerjoin(CreditGrant, CreditGrant.id == HoldSlice.grant_id)
            .where(HoldSlice.job_id == hold.job_id)
            .order_by(HoldSlice.line)
            .execution_options(populate_existing=True)
        )
    ).all()
    entries: list[Entry] = []
    incoming: list[tuple[UUID, int]] = []
    to_limit = 0
    for slice_, grant in slices:
        if grant is None:
            entries += move("held", "available", None, slice_.amount)
            to_limit += slice_.amount
        elif grant.closed_at is None:
            entries += move("held", "available", grant.id, slice_.amount)
            incoming.append((grant.id, slice_.amount))
        elif grant.closed_reason == "voided":
            entries += move("held", "issued", grant.id, slice_.amount)
        else:
            successor = await _successor_for(db, grant, slice_.amount, moment)
            carried = successor.amount if successor else 0
            if successor:
                entries += move("held", "available", grant.id, carried, to=successor.id)
                incoming.append((successor.id, carried))
            if lost := slice_.amount - carried:
                entries += move("held", "expired", grant.id, lost)
    entries += await cover_overdraft(
        db, hold.account_id, incoming, given_back=to_limit, settling=hold.job_id
    )
    return entries


async def _successor_for(
    db: AsyncSession, grant: CreditGrant, amount: int, moment: datetime
) -> CreditGrant | None:
    """Carry a late release to where its closed grant has gone, as far as the caps have room."""
    if grant.closed_reason != "rolled" or (grant.expires_at and grant.expires_at <= moment):
        return None
    subscription = await live_subscription(db, grant.account_id)
    if subscription is None:
        return None
    later = list(
        await db.scalars(
            select(BillingPeriod)
            .where(
                BillingPeriod.account_id == grant.account_id,
                BillingPeriod.period_start > grant.period_start,
            )
            .execution_options(populate_existing=True)
        )
    )
    carried = min(amount, *(period.rollover_cap - period.rolled_in for period in later))
    if not carried:
        return None
    for period in later:
        period.rolled_in += carried
    successor = carry(
        grant,
        carried,
        at=moment,
        period_start=subscription.period_start,
        generations=len(later),
    )
    db.add(successor)
    return successor
