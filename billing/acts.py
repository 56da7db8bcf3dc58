"""An act of a person happens once, however often its form is sent; and is tried out beforehand.

A form is made with an id, and the act's follows from it and from what the form says. The act claims
its id in its own transaction, so a double click, a reload or a retry finds it taken and does
nothing. `rehearse` runs an act for its effect and takes
it back: what a confirmation shows is what the ledger itself would do, refusals included.
"""

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID, uuid5

from sqlalchemy import select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from billing.staff_tables import AdminAct, AuditEvent, AuditHead

Work = Callable[[AsyncSession], Awaitable[Any]]

SNAPSHOT: Final = text(
    """
    SELECT a.name, a.status, v.plan, w.plan AS next_plan, s.period_end,
        c.available, c.held, c.consumed, c.expired, c.credit_limit,
        (SELECT count(*) FROM credit_grant g
         WHERE g.account_id = a.id AND g.closed_at IS NULL) AS open_grants,
        (SELECT count(*) FROM api_key k WHERE k.account_id = a.id AND k.revoked_at IS NULL
            AND k.grace_until IS NULL) AS keys
    FROM account a
    JOIN credit_account c ON c.account_id = a.id
    LEFT JOIN subscription s ON s.account_id = a.id AND s.ended_at IS NULL
    LEFT JOIN plan_version v ON v.id = s.plan_version_id
    LEFT JOIN plan_version w ON w.id = s.next_plan_version_id
    WHERE a.id = :account_id
    """
)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """How an account stands: what an act may change."""

    name: str
    status: str
    plan: str | None
    next_plan: str | None
    period_end: datetime | None
    available: int
    held: int
    consumed: int
    expired: int
    credit_limit: int
    open_grants: int
    keys: int
    """Keys that work and were not rotated."""


@dataclass(frozen=True, slots=True)
class Trace:
    """What an act writes into the audit trail."""

    action: str
    object: str
    before: dict[str, Any]
    after: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Effect:
    """What an act would do: the account before and after it, and its lines in the audit trail."""

    before: Snapshot | None
    after: Snapshot | None
    traces: tuple[Trace, ...]


def act_id_of(form_id: UUID, *said: object) -> UUID:
    """Give the id of what a form asks for: of the form's own and of all that `said` it.

    So the same form sent twice is one act, and its id in another person's hands, for another
    account or with other words in it, is another act and not one that was done before.
    """
    return uuid5(form_id, json.dumps([str(one) for one in said]))


async def claim(db: AsyncSession, act_id: UUID, *, actor: str, action: str) -> bool:
    """Take `act_id` for this transaction; False where the act was done before.

    Whoever does the same act at the same moment waits for the first to commit.
    """
    claimed = await db.scalar(
        insert(AdminAct)
        .values(id=act_id, actor=actor, action=action)
        .on_conflict_do_nothing()
        .returning(AdminAct.id)
    )
    return claimed is not None


async def rehearse(db: AsyncSession, account_id: UUID, work: Work) -> Effect:
    """Tell what `work` would do to an account, and leave everything as it was.

    The account's lock is held for as long as it takes. Raises what `work` raises.
    """
    before = await snapshot_of(db, account_id)
    head = await db.scalar(select(AuditHead.seq))
    savepoint = await db.begin_nested()
    try:
        await work(db)
        await db.flush()
        after = await snapshot_of(db, account_id)
        events = await db.scalars(
            select(AuditEvent)
            # The account's alone: others may have acted elsewhere since the head was read.
            .where(AuditEvent.seq > (head or 0), AuditEvent.account_id == account_id)
            .order_by(AuditEvent.seq)
        )
        traces = tuple(
            Trace(event.action, event.object, event.before or {}, event.after or {})
            for event in events
        )
    finally:
        await savepoint.rollback()
    db.expire_all()
    return Effect(before, after, traces)


async def snapshot_of(db: AsyncSession, account_id: UUID) -> Snapshot | None:
    """Read how an account stands; None where there is none."""
    row = (await db.execute(SNAPSHOT, {"account_id": account_id})).one_or_none()
    return Snapshot(*row) if row else None
