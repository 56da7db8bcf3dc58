"""Letting credits live longer. A grant's end never changes: what is left moves to a new grant."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from billing import audit
from billing.credits import advance_open
from billing.errors import InvalidOperationError
from billing.grants import draft_grant, refresh_due
from billing.posting import move, post
from billing.tables import CreditGrant

PERIODIC = frozenset({"plan", "rollover"})


async def extend_grant(
    db: AsyncSession,
    grant_id: UUID,
    *,
    expires_at: datetime | None,
    actor: str,
    reason: str,
    at: datetime | None = None,
) -> UUID:
    """Move what is left of a grant into one that ends later, or never (None).

    What is held of it stays where it is, and ends when it was to end; once that comes back it can
    be moved as well. Credits of a plan become an adjustment: they are no longer the period's to
    carry over or to trim.

    Raises:
        InvalidOperationError: there is no such grant, nothing is left of it, the end is no later;
            a closed account.
    """
    old, moment = await _living(db, grant_id, at=at)
    if old.expires_at is None or (expires_at is not None and expires_at <= old.expires_at):
        raise InvalidOperationError("a grant can only be extended to a later end")
    new = await _successor_of(old, db, moment, expires_at=expires_at, actor=actor, reason=reason)
    await post(
        db,
        old.account_id,
        op="adjust",
        ref=new.ref,
        actor=actor,
        reason=reason,
        at=moment,
        entries=move("available", "available", grant_id, old.remaining, to=new.id),
    )
    if not old.held:
        old.closed_at, old.closed_reason = moment, "exhausted"
    await refresh_due(db, old.account_id)
    await audit.record(
        db,
        actor=actor,
        action="grant.extend",
        object_name=f"grant {grant_id}",
        account_id=old.account_id,
        reason=reason,
        before={"expires_at": old.expires_at.isoformat()},
        after={
            "credits": new.amount,
            "expires_at": expires_at.isoformat() if expires_at else None,
            "grant": str(new.id),
        },
    )
    return new.id


async def _successor_of(
    old: CreditGrant,
    db: AsyncSession,
    moment: datetime,
    *,
    expires_at: datetime | None,
    actor: str,
    reason: str,
) -> CreditGrant:
    """Write down the grant that what is left of `old` moves to."""
    new = draft_grant(
        old.account_id,
        source="adjustment" if old.source in PERIODIC else old.source,
        ref=f"extend:{old.id}",
        amount=old.remaining,
        effective_at=moment,
        expires_at=expires_at,
        actor=actor,
        reason=reason,
        priority=old.priority,
    )
    new.ref += f":{new.id}"  # its own: what was held of the old one may be moved another time
    new.activated_at = moment
    db.add(new)
    await db.flush()
    return new


async def _living(
    db: AsyncSession, grant_id: UUID, *, at: datetime | None
) -> tuple[CreditGrant, datetime]:
    """Find a grant of which something is left, with its account's lock and the time."""
    account_id = await db.scalar(select(CreditGrant.account_id).where(CreditGrant.id == grant_id))
    if account_id is None:
        raise InvalidOperationError("there is no such grant")
    moment = await advance_open(db, account_id, at=at)
    grant = await db.get_one(CreditGrant, grant_id, populate_existing=True)
    if grant.closed_at is not None or not grant.remaining:
        raise InvalidOperationError("nothing is left of the grant that could live longer")
    return grant, moment
