"""Telling an account that its credits run out: once at 50, 80 and 100 % of a period's.

What counts is what was consumed in this period against all that there was to consume: that, what
is available and what is held; less left than a cutout costs is nothing left. Whoever ends a job
may ask; each threshold is answered once a period.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from billing.pricing import CREDITS_PER_CUTOUT
from billing.tables import BillingPeriod, CreditAccount, Subscription, UsageAlert

PERCENTS: Final = (50, 80, 100)


@dataclass(frozen=True, slots=True)
class Alert:
    """A threshold that the account has just crossed; a webhook says so."""

    account_id: UUID
    percent: int
    consumed: int
    available: int
    period_end: datetime


async def cross_thresholds(db: AsyncSession, account_id: UUID) -> list[Alert]:
    """Note which thresholds are crossed now and were not before in this period."""
    books = (
        await db.execute(
            select(
                CreditAccount.available,
                CreditAccount.held,
                CreditAccount.credit_limit,
                (CreditAccount.consumed - BillingPeriod.consumed_before).label("consumed"),
                Subscription.period_start,
                Subscription.period_end,
            )
            .join(Subscription, Subscription.account_id == CreditAccount.account_id)
            .join(
                BillingPeriod,
                (BillingPeriod.account_id == Subscription.account_id)
                & (BillingPeriod.period_start == Subscription.period_start),
            )
            .where(CreditAccount.account_id == account_id, Subscription.ended_at.is_(None))
        )
    ).one_or_none()
    if books is None or books.consumed <= 0:
        return []
    whole = books.consumed + max(0, books.available) + books.held
    if books.available + books.credit_limit + books.held < CREDITS_PER_CUTOUT:
        whole = books.consumed  # what is left pays for nothing more
    crossed = [percent for percent in PERCENTS if books.consumed * 100 >= percent * whole]
    if not crossed:
        return []
    new = await db.scalars(
        insert(UsageAlert)
        .values(
            [
                {"account_id": account_id, "period_start": books.period_start, "percent": percent}
                for percent in crossed
            ]
        )
        .on_conflict_do_nothing()
        .returning(UsageAlert.percent)
    )
    return [
        Alert(account_id, percent, books.consumed, books.available, books.period_end)
        for percent in sorted(new)
    ]
