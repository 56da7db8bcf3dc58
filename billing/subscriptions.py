"""Changing plans: up at once and in proportion, down when the period ends.

Neither touches a grant that is there. An upgrade adds the difference for what is left of the
period; a downgrade is written on the subscription, and the period's close reads it.
"""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncSession

from billing import audit
from billing.errors import InvalidOperationError
from billing.grants import draft_grant, issue, refresh_due
from billing.periods import advance, live_subscription, plan_credits_expire_at
from billing.plans import current_version
from billing.tables import BillingPeriod, PlanVersion, Subscription


@dataclass(frozen=True, slots=True)
class PlanChange:
    """What a change of plan does, told before it is done."""

    plan_from: str
    plan_to: str
    takes_effect_at: datetime
    is_immediate: bool
    credits_now: int
    """Added at once: the difference of the plans, for the part of the period that is left."""
    monthly_credits: int
    price_minor: int
    currency: str
    rollover_cap: int


async def preview_change(
    db: AsyncSession,
    account_id: UUID,
    plan: str,
    *,
    is_at_period_end: bool = False,
    at: datetime | None = None,
) -> PlanChange:
    """Tell what `change_plan` would do now.

    Raises:
        InvalidOperationError: there is no such plan, the account is closed, or it is on that plan.
    """
    moment = await advance(db, account_id, at=at)
    return (await _plan_change(db, account_id, plan, moment, is_at_period_end=is_at_period_end))[0]


async def change_plan(
    db: AsyncSession,
    account_id: UUID,
    plan: str,
    *,
    is_at_period_end: bool = False,
    actor: str,
    reason: str = "",
    at: datetime | None = None,
) -> PlanChange:
    """Move an account to a plan: to a larger one now, to any other at the period's end.

    `is_at_period_end` lets a larger one wait too.

    Raises as `preview_change` does.
    """
    moment = await advance(db, account_id, at=at)
    change, subscription, target = await _plan_change(
        db, account_id, plan, moment, is_at_period_end=is_at_period_end
    )
    if change.is_immediate:
        await _upgrade(db, subscription, target, change, actor=actor, reason=reason)
    else:
        subscription.next_plan_version_id = target.id
    await refresh_due(db, account_id)
    await audit.record(
        db,
        actor=actor,
        action="subscription.change",
        object_name=f"account {account_id}",
        account_id=account_id,
        reason=reason,
        before={"plan": change.plan_from},
        after={
            "plan": change.plan_to,
            "takes_effect_at": change.takes_effect_at.isoformat(),
            "credits_now": change.credits_now,
        },
    )
    return change


async def cancel_change(
    db: AsyncSession,
    account_id: UUID,
    *,
    actor: str,
    reason: str = "",
    at: datetime | None = None,
) -> None:
    """Stay on the plan that the account is on.

    Raises:
        InvalidOperationError: no change is waiting.
    """
    await advance(db, account_id, at=at)
    subscription = await live_subscription(db, account_id)
    if subscription is None or subscription.next_plan_version_id is None:
        raise InvalidOperationError("no change of plan is waiting")
    subscription.next_plan_version_id = None
    await db.flush()
    await audit.record(
        db,
        actor=actor,
        action="subscription.cancel_change",
        object_name=f"account {account_id}",
        account_id=account_id,
        reason=reason,
    )


async def _plan_change(
    db: AsyncSession, account_id: UUID, plan: str, moment: datetime, *, is_at_period_end: bool
) -> tuple[PlanChange, Subscription, PlanVersion]:
    subscription = await live_subscription(db, account_id)
    if subscription is None:
        raise InvalidOperationError("the account is closed")
    now_on = await db.get_one(PlanVersion, subscription.plan_version_id)
    target = await current_version(db, plan)
    if target.id == now_on.id:
        raise InvalidOperationError(f"the account is on {plan} already")
    is_upgrade = target.monthly_credits > now_on.monthly_credits and not is_at_period_end
    change = PlanChange(
        plan_from=now_on.plan,
        plan_to=target.plan,
        takes_effect_at=moment if is_upgrade else subscription.period_end,
        is_immediate=is_upgrade,
        credits_now=prorated(target.monthly_credits - now_on.monthly_credits, subscription, moment)
        if is_upgrade
        else 0,
        monthly_credits=target.monthly_credits,
        price_minor=target.price_minor,
        currency=target.currency,
        rollover_cap=target.rollover_cap,
    )
    return change, subscription, target


def prorated(credits_a_month: int, subscription: Subscription, moment: datetime) -> int:
    """Share a month's credits out over what is left of the period, rounded down. Integers only."""
    left = subscription.period_end - moment
    whole = subscription.period_end - subscription.period_start
    return (credits_a_month * left) // whole


async def _upgrade(
    db: AsyncSession,
    subscription: Subscription,
    target: PlanVersion,
    change: PlanChange,
    *,
    actor: str,
    reason: str,
) -> None:
    subscription.plan_version_id = target.id
    subscription.next_plan_version_id = None
    await db.execute(
        update(BillingPeriod)
        .where(
            BillingPeriod.account_id == subscription.account_id,
            BillingPeriod.period_start == subscription.period_start,
        )
        .values(plan_version_id=target.id)
    )
    if not change.credits_now:
        return
    grant = draft_grant(
        subscription.account_id,
        source="plan",
        ref=f"plan:upgrade:{target.plan}:v{target.version}:{subscription.period_start.isoformat()}",
        amount=change.credits_now,
        effective_at=change.takes_effect_at,
        expires_at=plan_credits_expire_at(subscription, target),
        actor=actor,
        reason=reason or f"upgrade to {target.plan} v{target.version}",
        period_start=subscription.period_start,
    )
    await issue(db, grant, at=change.takes_effect_at)
