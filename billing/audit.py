"""Who did what: one event per administrative act, in the act's own transaction, hash-chained.

The chain makes a change of the past visible, and `verify` finds where. The head is one row that
an appender locks, so the sequence has no gap; acts are rare, so nobody waits for it.
"""

import hashlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from billing.staff_tables import AuditEvent, AuditHead

BATCH: Final = 1_000
"""Events in memory at a time."""


async def record(
    db: AsyncSession,
    *,
    actor: str,
    action: str,
    object_name: str,
    account_id: UUID | None = None,
    reason: str = "",
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
    request_id: str | None = None,
) -> int:
    """Append an event and return its sequence number. `before` and `after` hold no secrets."""
    head = (await db.execute(select(AuditHead.seq, AuditHead.hash).with_for_update())).one()
    event = AuditEvent(
        seq=head.seq + 1,
        at=await db.scalar(select(func.clock_timestamp())),
        actor=actor,
        action=action,
        object=object_name,
        account_id=account_id,
        reason=reason,
        before=before,
        after=after,
        request_id=request_id,
        prev_hash=head.hash,
    )
    event.hash = digest_of(event)
    db.add(event)
    await db.execute(update(AuditHead).values(seq=event.seq, hash=event.hash))
    await db.flush()
    return event.seq


def digest_of(event: AuditEvent) -> bytes:
    """Hash an event together with the hash before it."""
    fields = [
        event.seq,
        event.at.astimezone(UTC).isoformat(),
        event.actor,
        event.action,
        event.object,
        str(event.account_id),
        event.reason,
        event.before,
        event.after,
        event.request_id,
    ]
    return hashlib.sha256(event.prev_hash + json.dumps(fields, sort_keys=True).encode()).digest()


@dataclass(frozen=True, slots=True)
class ChainReport:
    """What a verification found: how many events, and where the chain first breaks."""

    count: int
    broken_at: int | None
    why: str = ""
    checked_at: datetime | None = None

    @property
    def is_whole(self) -> bool:
        return self.broken_at is None


async def verify(db: AsyncSession) -> ChainReport:
    """Walk the chain from its beginning to the head."""
    previous, seq = b"", 0
    async for event in _events(db):
        if event.seq != seq + 1:
            return ChainReport(seq, seq + 1, "an event is missing")
        if event.prev_hash != previous:
            return ChainReport(seq, event.seq, "it does not follow the event before it")
        if digest_of(event) != event.hash:
            return ChainReport(seq, event.seq, "it is not what was written")
        previous, seq = event.hash, event.seq
    head = (await db.execute(select(AuditHead.seq, AuditHead.hash))).one()
    if (head.seq, head.hash) != (seq, previous):
        return ChainReport(seq, seq + 1, "the last events are missing")
    return ChainReport(seq, None, checked_at=await db.scalar(select(func.clock_timestamp())))


async def _events(db: AsyncSession) -> AsyncIterator[AuditEvent]:
    """Read the events as they are in the database, a batch at a time."""
    seq: int | None = None
    while True:
        batch = select(AuditEvent).order_by(AuditEvent.seq).limit(BATCH)
        if seq is not None:
            batch = batch.where(AuditEvent.seq > seq)
        events = (await db.scalars(batch.execution_options(populate_existing=True))).all()
        for event in events:
            yield event
            seq = event.seq
        if len(events) < BATCH:
            return
