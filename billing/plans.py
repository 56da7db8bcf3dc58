"""The price list. Plans are data: these are the ones an empty database begins with.

A version is never edited. Whoever changes what a plan gives adds a version; accounts stay on the
version they have until they are moved.
"""

from datetime import timedelta
from typing import Any, Final

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from billing import audit
from billing.errors import InvalidOperationError
from billing.tables import Plan, PlanVersion

ROLLOVER_PERIODS: Final = 3

# code: credits a month, price in cents, calls a minute, burst, jobs at once, queue, result kept
DEFAULT_PLANS: Final[dict[str, tuple[int, int, int, int, int, str, timedelta]]] = {
    "free": (250, 0, 60, 10, 4, "standard", timedelta(hours=24)),
    "starter": (5_000, 1_900, 300, 60, 16, "standard", timedelta(hours=24)),
    "growth": (50_000, 14_900, 1_200, 300, 64, "standard", timedelta(days=3)),
    "scale": (500_000, 99_900, 6_000, 1_200, 256, "standard", timedelta(days=7)),
    "enterprise": (5_000_000, 750_000, 30_000, 6_000, 1_024, "priority", timedelta(days=7)),
}


async def ensure_plans(db: AsyncSession) -> None:
    """Put the default plans on an empty price list; what is on it already is left alone."""
    for code, (credits_a_month, price, rate, burst, at_once, queue, ttl) in DEFAULT_PLANS.items():
        added = await db.scalar(
            insert(Plan).values(code=code).on_conflict_do_nothing().returning(Plan.code)
        )
        if added is None:
            continue
        db.add(
            PlanVersion(
                plan=code,
                version=1,
                monthly_credits=credits_a_month,
                price_minor=price,
                currency="USD",
                rollover_cap=credits_a_month,
                rollover_periods=ROLLOVER_PERIODS,
                rate_per_minute=rate,
                burst=burst,
                concurrency_max=at_once,
                queue_class=queue,
                result_ttl=ttl,
            )
        )
    await db.flush()


async def current_version(db: AsyncSession, plan: str) -> PlanVersion:
    """Find the newest version of a plan: what a new subscriber gets."""
    version = await db.scalar(
        select(PlanVersion)
        .where(PlanVersion.plan == plan)
        .order_by(PlanVersion.version.desc())
        .limit(1)
    )
    if version is None:
        smallest_first = func.min(PlanVersion.monthly_credits)
        known = select(PlanVersion.plan).group_by(PlanVersion.plan).order_by(smallest_first)
        names = ", ".join(await db.scalars(known))
        raise InvalidOperationError(f"there is no plan {plan!r}: there are {names}")
    return version


async def add_version(
    db: AsyncSession, plan: str, *, actor: str, reason: str, **changes: Any
) -> PlanVersion:
    """Change what a plan gives from now on to new subscribers; `changes` name columns."""
    await db.execute(insert(Plan).values(code=plan).on_conflict_do_nothing())
    last = await db.scalar(select(func.max(PlanVersion.version)).where(PlanVersion.plan == plan))
    fields = {}
    if last is not None:
        before = await current_version(db, plan)
        kept = set(PlanVersion.__table__.columns.keys()) - {"id", "version", "created_at"}
        fields = {name: getattr(before, name) for name in kept}
    version = PlanVersion(**(fields | changes | {"plan": plan, "version": (last or 0) + 1}))
    db.add(version)
    await db.flush()
    await audit.record(
        db,
        actor=actor,
        action="plan.add_version",
        object_name=f"plan {plan} v{version.version}",
        reason=reason,
        after={name: str(value) for name, value in changes.items()},
    )
    return version
