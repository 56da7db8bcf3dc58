"""A key's own budget: the most it may spend in a period, and how much of that it has spent."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from billing.tables import ApiKey, KeyBudget, Subscription


@dataclass(frozen=True, slots=True)
class Budget:
    """What a key, and all that it was rotated to, may spend in the period that runs.

    `used` has what open holds hold, as a budget is taken by the hold and given back with it.
    """

    credits: int
    used: int
    period_end: datetime

    @property
    def left(self) -> int:
        """What it may still spend; a budget may be made smaller than what was spent of it."""
        return max(0, self.credits - self.used)


async def budget_of(db: AsyncSession, api_key_id: UUID) -> Budget | None:
    """Read a key's budget; None where it has none, or its account is closed.

    Whoever wants what is due by the clock in it calls `periods.catch_up` before.
    """
    found = await db.execute(
        select(
            ApiKey.budget_credits,
            func.coalesce(KeyBudget.used, 0).label("used"),
            Subscription.period_end,
        )
        .join(
            Subscription,
            (Subscription.account_id == ApiKey.account_id) & Subscription.ended_at.is_(None),
        )
        .outerjoin(
            KeyBudget,
            (KeyBudget.api_key_id == func.coalesce(ApiKey.root_id, ApiKey.id))
            & (KeyBudget.period_start == Subscription.period_start),
        )
        .where(ApiKey.id == api_key_id, ApiKey.budget_credits.is_not(None))
    )
    row = found.one_or_none()
    return Budget(row.budget_credits, row.used, row.period_end) if row else None
