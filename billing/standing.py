"""How one account stands: what it can spend, what ends soon, what its period's end will bring.

Read only; whoever wants what is due by the clock in it calls `periods.catch_up` before.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from billing.burndown import burn_down_key
from billing.overview import LOW_PERCENT
from billing.periods import ROLLABLE, live_subscription
from billing.posting import Balance, read_balance
from billing.tables import Account, BillingPeriod, CreditGrant, PlanVersion

SOON: Final = timedelta(days=7)
"""Credits that end within this time are told of."""


@dataclass(frozen=True, slots=True)
class Ending:
    """Credits that end if they are not used."""

    credits: int
    first_at: datetime


@dataclass(frozen=True, slots=True)
class Renewal:
    """What the end of the period brings, were nothing more used until then."""

    at: datetime
    plan: str
    new_credits: int
    rolled: int
    lapsed: int
    """Ends that day: over the cap, or carried as often as the plan allows."""


@dataclass(frozen=True, slots=True)
class Standing:
    """An account at one moment."""

    name: str
    status: str
    plan: str
    balance: Balance
    period_start: datetime
    used: int
    """In this period."""
    ending: Ending | None
    renewal: Renewal
    grants: Sequence[CreditGrant]
    """What can be spent, in the order in which it will be."""

    @property
    def whole(self) -> int:
        """All there is to spend in this period: used, available and held."""
        return self.used + max(0, self.balance.available) + self.balance.held

    @property
    def is_low(self) -> bool:
        """Some was used, and less than `LOW_PERCENT` of it all is left."""
        return self.used > 0 and self.balance.available * 100 < self.whole * LOW_PERCENT


async def standing_of(db: AsyncSession, account_id: UUID) -> Standing:
    """Tell how an open account stands.

    Raises:
        LookupError: it is closed.
    """
    account = await db.get_one(Account, account_id)
    subscription = await live_subscription(db, account_id)
    if subscription is None:
        raise LookupError(f"account {account_id} is closed")
    version = await db.get_one(PlanVersion, subscription.plan_version_id)
    coming = await db.get_one(
        PlanVersion, subscription.next_plan_version_id or subscription.plan_version_id
    )
    period = await db.get_one(BillingPeriod, (account_id, subscription.period_start))
    balance = await read_balance(db, account_id)
    grants = await _spendable(db, account_id)
    now = (await db.execute(select(func.clock_timestamp()))).scalar_one()
    renewal = _renewal(grants, subscription.period_end, version, coming)
    return Standing(
        name=account.name,
        status=account.status,
        plan=version.plan,
        balance=balance,
        period_start=subscription.period_start,
        used=balance.consumed - period.consumed_before,
        ending=_ending(grants, renewal, now + SOON),
        renewal=renewal,
        grants=grants,
    )


async def _spendable(db: AsyncSession, account_id: UUID) -> list[CreditGrant]:
    chosen = select(CreditGrant).where(
        CreditGrant.account_id == account_id,
        CreditGrant.closed_at.is_(None),
        CreditGrant.remaining > 0,
    )
    return sorted(await db.scalars(chosen), key=burn_down_key)


def _ending(grants: Sequence[CreditGrant], renewal: Renewal, until: datetime) -> Ending | None:
    """Sum what ends by `until`: by its own time, or because the period's end carries no more."""
    ending = [
        (grant.expires_at, grant.remaining)
        for grant in grants
        if grant.expires_at is not None and grant.expires_at <= until
    ]
    if renewal.lapsed and renewal.at <= until:
        # It tells of all that a period may carry.
        own = [grant for grant in grants if grant.source not in ROLLABLE]
        kept = [(g.expires_at, g.remaining) for g in own if g.expires_at and g.expires_at <= until]
        ending = [(renewal.at, renewal.lapsed), *kept]
    if not ending:
        return None
    return Ending(sum(left for _, left in ending), min(at for at, _ in ending))


def _renewal(
    grants: Sequence[CreditGrant], at: datetime, version: PlanVersion, coming: PlanVersion
) -> Renewal:
    """Play the period's end: what has ended by then is gone, the rest is carried up to the cap."""
    rollable = [grant for grant in grants if grant.source in ROLLABLE]
    living = sum(g.remaining for g in rollable if g.expires_at is None or g.expires_at > at)
    rolled = min(living, version.rollover_cap)
    return Renewal(
        at=at,
        plan=coming.plan,
        new_credits=coming.monthly_credits,
        rolled=rolled,
        lapsed=sum(grant.remaining for grant in rollable) - rolled,
    )
