"""What is forgotten when it is old: webhooks that were told, and what a job's making needed.

A job's row stays, since statements, refunds and the audit trail name it: whose it was, when, what
it cost, how it ended, how large and how sure its result was (ADR 18). Functions take a session and
never commit; each takes a batch, so that no table is held for long.
"""

from datetime import timedelta
from typing import Any, Final

from sqlalchemy import delete, func, null, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.tables import Job, WebhookAttempt, WebhookDelivery

# Literals: the partial indexes are of these very conditions.
IS_IN_FULL: Final = text(
    "job.is_tidy AND NOT job.is_brief AND (job.state <> 'succeeded' OR job.purged_at IS NOT NULL)"
)
HAS_ENDED: Final = text("webhook_delivery.finished_at IS NOT NULL")
FORGOTTEN: Final[dict[str, Any]] = {
    "options": {},
    "stages_ms": {},
    "webhook_url": null(),
    "source_key": null(),
    "background_key": null(),
    "is_brief": True,
}


async def abridge_jobs(db: AsyncSession, *, kept: timedelta, rows_max: int) -> int:
    """Forget what only the making of jobs needed that ended longer ago than `kept`.

    Storage is done with first: of a job whose upload or result is still there, everything stays.
    """
    old = (
        select(Job.id)
        .where(IS_IN_FULL, Job.finished_at < func.now() - kept)
        .order_by(Job.finished_at)
        .limit(rows_max)
        .with_for_update(skip_locked=True)
    )
    abridged = await db.scalars(
        update(Job)
        .where(Job.id.in_(old))
        .values(**FORGOTTEN)
        .returning(Job.id)
        .execution_options(synchronize_session=False)
    )
    return len(abridged.all())


async def forget_deliveries(db: AsyncSession, *, kept: timedelta, rows_max: int) -> int:
    """Delete deliveries that ended longer ago than `kept`, told or given up, and their attempts."""
    chosen = await db.scalars(
        select(WebhookDelivery.id)
        .where(HAS_ENDED, WebhookDelivery.finished_at < func.now() - kept)
        .order_by(WebhookDelivery.finished_at)
        .limit(rows_max)
        .with_for_update(skip_locked=True)
    )
    old = chosen.all()
    if old:
        await db.execute(delete(WebhookAttempt).where(WebhookAttempt.delivery_id.in_(old)))
        await db.execute(delete(WebhookDelivery).where(WebhookDelivery.id.in_(old)))
    return len(old)
