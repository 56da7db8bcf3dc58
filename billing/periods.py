"""What time does to an account: grants begin and expire, periods close.

`advance` opens each money transaction and runs in the sweeper. It plays what has become due in the
order in which it became due, each dated with its own time, so that it does not matter when or how
often it runs: a late sweeper lets nobody spend what has expired, and a statement is right as of
any time.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from billing import anchors
from billing.burndown import NEVER
from billing.grants import draft_grant, issue, refresh_due
from billing.posting import Entry, lock_account, moment_for, move, open_grants, post, read_balance
from billing.tables import BillingPeriod, CreditAccount, CreditGrant, PlanVersion, Subscription

ACTOR: Final = "clock"
ROLLABLE: Final = frozenset({"plan", "rollover"})


async def advance(db: AsyncSession, account_id: UUID, *, at: datetime | None = None) -> datetime:
    """Lock the account, do what is due, and return the moment that its time has reached."""
    books = await lock_account(db, account_id)
    moment = await moment_for(db, books, at)
    if books.next_due_at is None or books.next_due_at > moment:
        return moment
    subscription = await live_subscription(db, account_id)
    while True:
        grants = await open_grants(db, account_id)
        due_at = next_due(grants, subscription)
        if due_at > moment:
            break
        await _do_due(db, grants, subscription, due_at)
    await refresh_due(db, account_id)
    return moment


async def catch_up(db: AsyncSession, account_id: UUID, *, at: datetime | None = None) -> None:
    """Do what is due, if anything is; an account that has nothing due is not locked."""
    is_due = await db.scalar(
        select(CreditAccount.next_due_at <= func.coalesce(at, func.clock_timestamp())).where(
            CreditAccount.account_id == account_id
        )
    )
    if is_due:
        await advance(db, account_id, at=at)


def next_due(grants: Iterable[CreditGrant], subscription: Subscription | None) -> datetime:
    """Find the first instant at which time alone changes the account."""
    ends = [grant.expires_at for grant in grants if grant.expires_at is not None]
    begins = [grant.effective_at for grant in grants if grant.activated_at is None]
    closes = [subscription.period_end] if subscription else []
    return min([*ends, *begins, *closes], default=NEVER)


async def _do_due(
    db: AsyncSession,
    grants: list[CreditGrant],
    subscription: Subscription | None,
    due_at: datetime,
) -> None:
    """Do everything of one instant: expire, then close the period, then let grants begin."""
    for grant in grants:
        if grant.expires_at == due_at:
            await expire(db, grant)
    if subscription and subscription.period_end == due_at:
        await close_period(db, subscription)
    for grant in grants:
        if grant.activated_at is None and grant.effective_at == due_at:
            await issue(db, grant, at=due_at)


async def expire(db: AsyncSession, grant: CreditGrant) -> None:
    """End a grant at its time: what was not spent is breakage. Open holds on it stand."""
    if grant.expires_at is None:
        raise RuntimeError("a grant that never expires has expired")
    if grant.remaining:
        await post(
            db,
            grant.account_id,
            op="expire",
            ref=str(grant.id),
            actor=ACTOR,
            reason="unused",
            at=grant.expires_at,
            entries=move("available", "expired", grant.id, grant.remaining),
        )
    grant.closed_at, grant.closed_reason = grant.expires_at, "expired"
    await db.flush()


async def close_period(db: AsyncSession, subscription: Subscription) -> None:
    """Carry unused plan credits over, up to the cap, and begin the next period.

    Top-ups, promotions, refunds and adjustments are not touched, whatever the plan.
    """
    ended = await db.get_one(PlanVersion, subscription.plan_version_id)
    began_at = subscription.period_start
    closed_at = subscription.period_end
    grants = await open_grants(db, subscription.account_id)
    rollable = [grant for grant in grants if grant.source in ROLLABLE]
    kept, entries = await _roll(db, rollable, cap=ended.rollover_cap, at=closed_at)
    await post(
        db,
        subscription.account_id,
        op="rollover",
        ref=began_at.isoformat(),
        actor=ACTOR,
        reason="period closed",
        at=closed_at,
        entries=entries,
    )
    for grant in grants:
        if grant.activated_at is None:
            continue
        if grant.remaining == 0 and grant.held == 0:
            grant.closed_at, grant.closed_reason = closed_at, "exhausted"
        elif grant.source in ROLLABLE:
            grant.closed_at, grant.closed_reason = closed_at, "rolled"
    await db.execute(
        update(BillingPeriod)
        .where(
            BillingPeriod.account_id == subscription.account_id,
            BillingPeriod.period_start == began_at,
        )
        .values(closed_at=closed_at)
    )
    if subscription.next_plan_version_id is not None:
        subscription.plan_version_id = subscription.next_plan_version_id
        subscription.next_plan_version_id = None
    await begin_period(
        db, subscription, at=closed_at, rolled_in=kept, rollover_cap=ended.rollover_cap
    )


async def _roll(
    db: AsyncSession, grants: list[CreditGrant], *, cap: int, at: datetime
) -> tuple[int, list[Entry]]:
    """Trim what is over the cap, soonest expiry first, and put the rest into new grants.

    Each grant has a successor of its own with the same expiry: generations stay apart, and nothing
    lives longer by being carried.
    """
    entries: list[Entry] = []
    over = max(0, sum(grant.remaining for grant in grants) - cap)
    kept_total = 0
    for grant in sorted(grants, key=lambda grant: (grant.expires_at or NEVER, grant.seq)):
        trimmed = min(over, grant.remaining)
        over -= trimmed
        if trimmed:
            entries += move("available", "expired", grant.id, trimmed)
        if kept := grant.remaining - trimmed:
            successor = carry(grant, kept, at=at, period_start=at, generations=1)
            db.add(successor)
            await db.flush()  # one by one: `seq` is the order of writing
            entries += move("available", "available", grant.id, kept, to=successor.id)
            kept_total += kept
    return kept_total, entries


def carry(
    grant: CreditGrant, amount: int, *, at: datetime, period_start: datetime, generations: int
) -> CreditGrant:
    """Draft the grant that carries `amount` of a closed one into a later period."""
    successor = draft_grant(
        grant.account_id,
        source="rollover",
        ref=period_start.isoformat(),
        amount=amount,
        effective_at=at,
        expires_at=grant.expires_at,
        actor=ACTOR,
        priority=grant.priority,
        parent=grant,
        period_start=period_start,
        generation=grant.generation + generations,
    )
    successor.activated_at = at
    return successor


async def begin_period(
    db: AsyncSession,
    subscription: Subscription,
    *,
    at: datetime,
    rolled_in: int = 0,
    rollover_cap: int = 0,
) -> None:
    """Open the period that starts `at`, with its plan grant."""
    version = await db.get_one(PlanVersion, subscription.plan_version_id)
    subscription.period_start = at
    subscription.period_end = anchors.boundary_after(subscription.anchor_at, at)
    db.add(
        BillingPeriod(
            account_id=subscription.account_id,
            period_start=at,
            period_end=subscription.period_end,
            plan_version_id=version.id,
            rolled_in=rolled_in,
            rollover_cap=rollover_cap,
            consumed_before=(await read_balance(db, subscription.account_id)).consumed,
        )
    )
    if version.monthly_credits:
        grant = draft_grant(
            subscription.account_id,
            source="plan",
            ref=f"plan:{at.isoformat()}",
            amount=version.monthly_credits,
            effective_at=at,
            expires_at=plan_credits_expire_at(subscription, version),
            actor=ACTOR,
            reason=f"{version.plan} v{version.version}",
            period_start=at,
        )
        await issue(db, grant, at=at)
    await db.flush()


def plan_credits_expire_at(subscription: Subscription, version: PlanVersion) -> datetime:
    """End the life of this period's credits: its own end and as many more as may be carried.

    Said on the grant from the start, so that older credits are always spent before newer ones.
    """
    return anchors.boundary_after(
        subscription.anchor_at, subscription.period_start, 1 + version.rollover_periods
    )


async def live_subscription(db: AsyncSession, account_id: UUID) -> Subscription | None:
    """Find the account's subscription; None once the account is closed."""
    return await db.scalar(
        select(Subscription)
        .where(Subscription.account_id == account_id, Subscription.ended_at.is_(None))
        .execution_options(populate_existing=True)
    )


async def due_accounts(db: AsyncSession, *, limit: int = 100) -> list[UUID]:
    """Find accounts that time has caught up with, for the sweeper; most overdue first."""
    return list(
        await db.scalars(
            select(CreditAccount.account_id)
            # now() and not clock_timestamp(), which no index can be asked for.
            .where(CreditAccount.next_due_at <= func.now())
            .order_by(CreditAccount.next_due_at)
            .limit(limit)
        )
    )
