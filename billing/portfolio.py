"""All there is to know of one account's credits: its plan, grants, usage, and what people did.

Read only, without the account's lock.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from billing.burndown import burn_down_key
from billing.staff_tables import AuditEvent
from billing.tables import CreditGrant

CLOSED_SHOWN_MAX: Final = 20
EVENTS_SHOWN_MAX: Final = 50

FACTS: Final = text(
    """
    SELECT a.id, a.name, a.status, a.created_at,
        c.available, c.held, c.consumed, c.expired, c.credit_limit, c.open_holds,
        coalesce(c.consumed - p.consumed_before, 0) AS used, coalesce(p.rolled_in, 0) AS rolled_in,
        v.plan, v.version, v.monthly_credits, v.price_minor, v.currency, v.rollover_cap,
        v.rollover_periods, v.rate_per_minute, v.burst, v.concurrency_max, v.queue_class,
        w.plan AS next_plan, s.period_start, s.period_end,
        (SELECT min(g.expires_at) FROM credit_grant g
         WHERE g.account_id = a.id AND g.closed_at IS NULL AND g.remaining > 0) AS next_end_at
    FROM account a
    JOIN credit_account c ON c.account_id = a.id
    LEFT JOIN subscription s ON s.account_id = a.id AND s.ended_at IS NULL
    LEFT JOIN plan_version v ON v.id = s.plan_version_id
    LEFT JOIN plan_version w ON w.id = s.next_plan_version_id
    LEFT JOIN billing_period p ON p.account_id = a.id AND p.period_start = s.period_start
    WHERE a.id = :account_id
    """
)
USED: Final = text(
    """
    SELECT date_bin('1 day', settled_at, TIMESTAMPTZ '2000-01-01Z') AS day,
        count(*) FILTER (WHERE state = 'captured') AS succeeded,
        count(*) FILTER (WHERE state <> 'captured') AS failed,
        coalesce(sum(amount) FILTER (WHERE state = 'captured'), 0) AS credits
    FROM hold
    WHERE account_id = :account_id AND settled_at >= :since AND settled_at < :until
    GROUP BY 1 ORDER BY 1
    """
)


@dataclass(frozen=True, slots=True)
class AccountFacts:
    """One account; what is of its plan is None once it is closed."""

    id: UUID
    name: str
    status: str
    created_at: datetime
    available: int
    held: int
    consumed: int
    expired: int
    credit_limit: int
    open_holds: int
    used: int
    """In the present period."""
    rolled_in: int
    plan: str | None
    version: int | None
    monthly_credits: int | None
    price_minor: int | None
    currency: str | None
    rollover_cap: int | None
    rollover_periods: int | None
    rate_per_minute: int | None
    burst: int | None
    concurrency_max: int | None
    queue_class: str | None
    next_plan: str | None
    period_start: datetime | None
    period_end: datetime | None
    next_end_at: datetime | None

    @property
    def whole(self) -> int:
        """All there is to spend in this period: used, available and held."""
        return self.used + max(0, self.available) + self.held


@dataclass(frozen=True, slots=True)
class UsageDay:
    """An account's jobs that were settled on one day (UTC)."""

    day: date
    succeeded: int
    failed: int
    credits: int


async def account_facts(db: AsyncSession, account_id: UUID) -> AccountFacts | None:
    """Read one account; None where there is none."""
    row = (await db.execute(FACTS, {"account_id": account_id})).one_or_none()
    return AccountFacts(*row) if row else None


async def waterfall(db: AsyncSession, account_id: UUID) -> list[CreditGrant]:
    """List the open grants in the order in which they pay; scheduled ones come last."""
    open_ones = await db.scalars(
        select(CreditGrant).where(
            CreditGrant.account_id == account_id, CreditGrant.closed_at.is_(None)
        )
    )
    return sorted(open_ones, key=lambda grant: (grant.activated_at is None, burn_down_key(grant)))


async def closed_grants(db: AsyncSession, account_id: UUID) -> Sequence[CreditGrant]:
    """List the last grants that have ended."""
    ended = select(CreditGrant).where(
        CreditGrant.account_id == account_id, CreditGrant.closed_at.is_not(None)
    )
    newest = ended.order_by(CreditGrant.closed_at.desc(), CreditGrant.seq.desc())
    return (await db.scalars(newest.limit(CLOSED_SHOWN_MAX))).all()


async def usage_by_day(
    db: AsyncSession, account_id: UUID, *, since: datetime, until: datetime
) -> list[UsageDay]:
    """Count what was settled with `since` <= time < `until`; days without any are left out."""
    arguments = {"account_id": account_id, "since": since, "until": until}
    return [
        UsageDay(row.day.date(), row.succeeded, row.failed, int(row.credits))
        for row in await db.execute(USED, arguments)
    ]


async def events_of(db: AsyncSession, account_id: UUID) -> Sequence[AuditEvent]:
    """List what people did to an account, newest first."""
    mine = select(AuditEvent).where(AuditEvent.account_id == account_id)
    return (await db.scalars(mine.order_by(AuditEvent.seq.desc()).limit(EVENTS_SHOWN_MAX))).all()


async def grant_of(db: AsyncSession, account_id: UUID, grant_id: UUID) -> CreditGrant | None:
    """Find a grant of this account; None where it is another's, or nobody's."""
    found: CreditGrant | None = await db.scalar(
        select(CreditGrant)
        .where(CreditGrant.id == grant_id, CreditGrant.account_id == account_id)
        .execution_options(populate_existing=True)
    )
    return found
