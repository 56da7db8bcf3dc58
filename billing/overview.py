"""All accounts at a glance: where credits came from and went, what is owed, who runs low.

Read only, without any account's lock: what is due by the clock and not yet posted is not in it.
Days are UTC's; a credit counts on the day of its operation (`effective_at`), not of its writing.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

LOW_PERCENT: Final = 20

# `date_bin` reckons in integers: a third of the time that a conversion of each row's zone takes.
# Holds and captures are most of the ledger, and the hold's row says when and how much as well.
CONSUMED: Final = text(
    """
    SELECT date_bin('1 day', settled_at, TIMESTAMPTZ '2000-01-01Z') AS day, sum(amount) AS consumed
    FROM hold
    WHERE settled_at >= :since AND settled_at < :until AND state = 'captured'
    GROUP BY 1
    """
)
# An extended grant's credits were given before: they were moved, not issued.
GIVEN: Final = text(
    """
    SELECT date_bin('1 day', activated_at, TIMESTAMPTZ '2000-01-01Z') AS day,
        coalesce(sum(amount) FILTER (WHERE source NOT IN ('rollover', 'refund')), 0) AS granted,
        coalesce(sum(amount) FILTER (WHERE source = 'rollover'), 0) AS rolled,
        coalesce(sum(amount) FILTER (WHERE source = 'refund'), 0) AS refunded
    FROM credit_grant
    WHERE activated_at >= :since AND activated_at < :until AND ref NOT LIKE 'extend:%'
    GROUP BY 1
    """
)
ENDED: Final = text(
    """
    SELECT date_bin('1 day', t.effective_at, TIMESTAMPTZ '2000-01-01Z') AS day,
        coalesce(sum(e.amount) FILTER (WHERE e.bucket = 'expired'), 0) AS expired,
        coalesce(sum(e.amount) FILTER (WHERE e.bucket = 'issued'), 0) AS taken_back
    FROM ledger_entry e
    -- Few end among many that are held and captured: each is looked up, the ledger is not read.
    CROSS JOIN LATERAL (SELECT effective_at FROM ledger_txn WHERE id = e.txn_id OFFSET 0) t
    WHERE e.amount > 0 AND e.bucket IN ('issued', 'expired')
      AND t.effective_at >= :since AND t.effective_at < :until
    GROUP BY 1
    """
)

MRR: Final = text(
    """
    SELECT v.plan, v.currency, count(*) AS accounts,
        count(*) FILTER (WHERE a.status = 'suspended') AS suspended, sum(v.price_minor) AS mrr_minor
    FROM subscription s
    JOIN account a ON a.id = s.account_id
    JOIN plan_version v ON v.id = s.plan_version_id
    WHERE s.ended_at IS NULL
    GROUP BY v.plan, v.currency
    ORDER BY mrr_minor DESC, v.plan
    """
)

# What was carried over is worth what its first grant was: a plan's, at that plan's price.
OWED: Final = text(
    """
    WITH RECURSIVE origin AS (
        SELECT g.id AS open_id, g.id, g.parent_id, g.account_id, g.source, g.period_start,
               g.remaining + g.held AS unspent
        FROM credit_grant g
        WHERE g.remaining + g.held > 0
        UNION ALL
        SELECT o.open_id, p.id, p.parent_id, p.account_id, p.source, p.period_start, o.unspent
        FROM origin o JOIN credit_grant p ON p.id = o.parent_id
    )
    SELECT g.source, coalesce(v.price_minor > 0, g.source = 'topup') AS is_paid, v.currency,
        count(*) AS grants, sum(o.unspent) AS credits,
        sum(o.unspent * v.price_minor / nullif(v.monthly_credits, 0)) AS value_minor
    FROM origin o
    JOIN credit_grant g ON g.id = o.open_id
    LEFT JOIN billing_period b
        ON o.source = 'plan' AND b.account_id = o.account_id AND b.period_start = o.period_start
    LEFT JOIN plan_version v ON v.id = b.plan_version_id
    WHERE o.parent_id IS NULL
    GROUP BY 1, 2, 3
    ORDER BY 2 DESC, credits DESC
    """
)

SUMS: Final = text(
    """
    SELECT coalesce(sum(available), 0) AS available, coalesce(sum(held), 0) AS held,
        coalesce(sum(consumed), 0) AS consumed, coalesce(sum(expired), 0) AS expired,
        coalesce(sum(available + held + consumed + expired), 0) AS issued,
        coalesce(sum(open_holds), 0) AS open_holds,
        count(*) FILTER (WHERE available < 0) AS overdrawn
    FROM credit_account
    """
)

TOP: Final = text(
    """
    SELECT a.id AS account_id, a.name, v.plan, used.calls, used.credits, c.available
    FROM (
        SELECT account_id, count(*) AS calls, sum(amount) AS credits
        FROM hold
        WHERE settled_at >= :since AND settled_at < :until AND state = 'captured'
        GROUP BY account_id
        ORDER BY credits DESC, account_id
        LIMIT :rows_max
    ) used
    JOIN account a ON a.id = used.account_id
    JOIN credit_account c ON c.account_id = a.id
    LEFT JOIN subscription s ON s.account_id = a.id AND s.ended_at IS NULL
    LEFT JOIN plan_version v ON v.id = s.plan_version_id
    ORDER BY used.credits DESC, a.id
    """
)

# Of all that there was to spend in this period: what was spent, what is left, what is held.
LOW: Final = text(
    """
    SELECT *, count(*) OVER () AS all_count
    FROM (
        SELECT a.id AS account_id, a.name, v.plan, c.available, s.period_end,
            c.consumed - p.consumed_before AS used,
            c.consumed - p.consumed_before + greatest(c.available, 0) + c.held AS whole
        FROM subscription s
        JOIN account a ON a.id = s.account_id
        JOIN credit_account c ON c.account_id = a.id
        JOIN billing_period p ON p.account_id = a.id AND p.period_start = s.period_start
        JOIN plan_version v ON v.id = s.plan_version_id
        WHERE s.ended_at IS NULL AND a.status = 'active'
    ) standing
    WHERE used > 0 AND available * 100 < whole * :percent
    ORDER BY available::numeric / nullif(whole, 0), used DESC, account_id
    LIMIT :rows_max
    """
)


@dataclass(frozen=True, slots=True)
class CreditDay:
    """What happened to credits on one day. `rolled` moves no balance."""

    day: date
    granted: int = 0
    consumed: int = 0
    expired: int = 0
    rolled: int = 0
    refunded: int = 0
    taken_back: int = 0
    """Voided, and adjusted downwards."""


@dataclass(frozen=True, slots=True)
class PlanRevenue:
    """What one plan's subscriptions bring a month, suspended ones included."""

    plan: str
    currency: str
    accounts: int
    suspended: int
    mrr_minor: int


@dataclass(frozen=True, slots=True)
class Liability:
    """Credits that were given and may still be used, of one kind of grant."""

    source: str
    is_paid: bool
    grants: int
    credits: int
    value_minor: int | None
    """At the plan's price; None where the ledger knows no price, as of top-ups."""
    currency: str | None


@dataclass(frozen=True, slots=True)
class CreditSums:
    """All accounts' balances. `issued` is what all the others come from."""

    available: int
    held: int
    consumed: int
    expired: int
    issued: int
    open_holds: int
    overdrawn: int
    """Accounts that draw on their credit limit."""


@dataclass(frozen=True, slots=True)
class TopAccount:
    """One of the accounts that used most."""

    account_id: UUID
    name: str
    plan: str | None
    calls: int
    credits: int
    available: int


@dataclass(frozen=True, slots=True)
class LowAccount:
    """An active account that has little left of this period's credits."""

    account_id: UUID
    name: str
    plan: str
    available: int
    used: int
    whole: int
    """All there was to spend in this period: used, available and held."""
    period_end: datetime


async def credits_by_day(db: AsyncSession, *, since: datetime, until: datetime) -> list[CreditDay]:
    """Tell what happened with `since` <= time < `until`; days on which nothing did are left out."""
    days: dict[date, dict[str, int]] = {}
    for query in (CONSUMED, GIVEN, ENDED):
        for row in (await db.execute(query, {"since": since, "until": until})).mappings():
            numbers = {name: int(value) for name, value in row.items() if name != "day"}
            days.setdefault(row["day"].astimezone(UTC).date(), {}).update(numbers)
    return [CreditDay(day, **numbers) for day, numbers in sorted(days.items())]


async def revenue_by_plan(db: AsyncSession) -> list[PlanRevenue]:
    """Tell what live subscriptions bring a month, by plan and currency."""
    return [PlanRevenue(*_ints(row, "plan", "currency")) for row in await db.execute(MRR)]


async def liability(db: AsyncSession) -> list[Liability]:
    """Tell what is owed to customers, paid kinds first.

    Paid is a top-up, and what a plan with a price gave, carried over or not. Promotions,
    adjustments, refunds and free plans are there too, as unpaid.
    """
    return [
        Liability(
            source=row.source,
            is_paid=row.is_paid,
            grants=row.grants,
            credits=int(row.credits),
            value_minor=None if row.value_minor is None else int(row.value_minor),
            currency=row.currency,
        )
        for row in await db.execute(OWED)
    ]


async def credit_sums(db: AsyncSession) -> CreditSums:
    """Add up all balances; `expired` is the breakage of all time."""
    row = (await db.execute(SUMS)).one()
    return CreditSums(*(int(number) for number in row))


async def top_accounts(
    db: AsyncSession, *, since: datetime, until: datetime, rows_max: int = 10
) -> list[TopAccount]:
    """List who was charged most with `since` <= time < `until`, most first."""
    arguments = {"since": since, "until": until, "rows_max": rows_max}
    rows = await db.execute(TOP, arguments)
    return [TopAccount(*_ints(row, "account_id", "name", "plan")) for row in rows]


async def low_accounts(
    db: AsyncSession, *, percent: int = LOW_PERCENT, rows_max: int = 10
) -> tuple[list[LowAccount], int]:
    """List who has less than `percent` of this period's credits left, and tell how many they are.

    Only who has used some: an account that was given nothing is not running out.
    """
    rows = (await db.execute(LOW, {"percent": percent, "rows_max": rows_max})).all()
    found = [
        LowAccount(
            account_id=row.account_id,
            name=row.name,
            plan=row.plan,
            available=row.available,
            used=row.used,
            whole=row.whole,
            period_end=row.period_end,
        )
        for row in rows
    ]
    return found, rows[0].all_count if rows else 0


def _ints(row: Row[Any], *words: str) -> list[Any]:
    """Give a row's values, sums as the integers that they are; columns named are left alone."""
    named = row._mapping.items()  # noqa: SLF001 - SQLAlchemy's public name for it
    return [value if name in words else int(value) for name, value in named]
