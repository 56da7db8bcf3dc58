"""How telling goes: what is owed, since when, and how the last minutes' attempts went.

Workers tell and gateways are asked for metrics, so the figures are the database's: of all workers,
and the same on each gateway.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.tables import DELIVERED, FAILED, WebhookAttempt, WebhookDelivery
from gateway.webhooks.deliveries import Outcome

OF_LATE: Final = timedelta(minutes=5)
UNKNOWN: Final = "unknown"
"""An attempt that is under way, or was lost with its worker."""
OUTCOMES: Final = (*(outcome.value for outcome in Outcome), UNKNOWN)
# A literal: the partial index of what is due holds pending deliveries only.
IS_OWED: Final = text("webhook_delivery.state = 'pending'")


@dataclass(frozen=True, slots=True)
class Telling:
    """The state of all webhooks."""

    owed_count: int
    oldest_owed_s: float
    """Since the longest owed of them was written or replayed; 0 where none is owed."""
    ended: Mapping[str, int]
    """Deliveries that ended of late, by their state."""
    attempts: Mapping[str, int]
    """Attempts of late, by outcome."""


async def look(db: AsyncSession) -> Telling:
    """Count what is owed, and what happened within `OF_LATE`."""
    owing: Any = select(
        func.count(),
        func.coalesce(
            func.extract("epoch", func.now() - func.min(WebhookDelivery.pending_since)), 0
        ),
    ).where(IS_OWED)
    owed_count, oldest_owed_s = (await db.execute(owing)).one()
    ended: Any = await db.execute(
        select(WebhookDelivery.state, func.count())
        .where(WebhookDelivery.finished_at > func.now() - OF_LATE)
        .group_by(WebhookDelivery.state)
    )
    outcome = func.coalesce(WebhookAttempt.outcome, UNKNOWN)
    attempts: Any = await db.execute(
        select(outcome, func.count())
        .where(WebhookAttempt.at > func.now() - OF_LATE)
        .group_by(outcome)
    )
    return Telling(
        owed_count,
        float(oldest_owed_s),
        dict.fromkeys((DELIVERED, FAILED), 0) | dict(ended.all()),
        dict.fromkeys(OUTCOMES, 0) | dict(attempts.all()),
    )
