"""Acts on how an account stands: opened, moved between plans, limited, suspended, closed."""

from collections.abc import Sequence
from typing import Final

from sqlalchemy.ext.asyncio import AsyncSession

from billing import accounts, subscriptions
from billing.periods import live_subscription
from billing.tables import PlanVersion
from gateway.dashboard.act_forms import Act, Deed, Facts, Field
from gateway.web.pages import moment, money

WHEN: Final = (
    ("now", "Now, where it is a larger plan (prorated); otherwise at the period’s end"),
    ("end", "At the period’s end"),
)
PLAN: Final = Field("plan", "Plan", "plan")
LIMIT: Final = Field(
    *("limit", "Credit limit", "number"),
    hint="How many credits it may draw beyond what it was granted. 0 for none.",
    value="0",
    smallest=0,
)


async def _open(db: AsyncSession, deed: Deed) -> None:
    await accounts.create_account(
        db,
        name=deed.values["name"],
        plan=deed.values["plan"],
        credit_limit=deed.values["limit"],
        account_id=deed.account_id,
        actor=deed.actor,
        reason=deed.reason,
    )


async def _change_plan(db: AsyncSession, deed: Deed) -> None:
    await subscriptions.change_plan(
        db,
        deed.account_id,
        deed.values["plan"],
        is_at_period_end=deed.values["when"] == "end",
        actor=deed.actor,
        reason=deed.reason,
    )


async def _tell_change(db: AsyncSession, deed: Deed) -> Facts:
    """Tell when this very change happens, and what the plans cost."""
    change = await subscriptions.preview_change(
        db, deed.account_id, deed.values["plan"], is_at_period_end=deed.values["when"] == "end"
    )
    live = await live_subscription(db, deed.account_id)
    now_on = await db.get_one(PlanVersion, live.plan_version_id) if live else None
    return (
        ("Monthly price now", money(now_on.price_minor, now_on.currency) if now_on else "–"),
        ("Monthly price then", money(change.price_minor, change.currency)),
        (
            "When",
            f"Now, with {change.credits_now:,} credits for the rest of this period"
            if change.is_immediate
            else f"At the period’s end, {moment(change.takes_effect_at)} UTC",
        ),
    )


async def _keep_plan(db: AsyncSession, deed: Deed) -> None:
    await subscriptions.cancel_change(db, deed.account_id, actor=deed.actor, reason=deed.reason)


async def _set_limit(db: AsyncSession, deed: Deed) -> None:
    await accounts.set_credit_limit(
        db, deed.account_id, deed.values["limit"], actor=deed.actor, reason=deed.reason
    )


async def _suspend(db: AsyncSession, deed: Deed) -> None:
    await accounts.suspend_account(db, deed.account_id, actor=deed.actor, reason=deed.reason)


async def _resume(db: AsyncSession, deed: Deed) -> None:
    await accounts.resume_account(db, deed.account_id, actor=deed.actor, reason=deed.reason)


async def _close(db: AsyncSession, deed: Deed) -> None:
    await accounts.close_account(db, deed.account_id, actor=deed.actor, reason=deed.reason)


OPEN: Final = Act(
    "open",
    "Create an account",
    "owner",
    _open,
    "The account is open.",
    (
        Field(
            *("name", "Name"),
            hint="Whoever pays: a company, a person.",
            longest=accounts.NAME_LENGTH_MAX,
        ),
        PLAN,
        LIMIT,
    ),
    explains="Its first period begins at once, with the plan’s credits.",
)

STANDING_ACTS: Final[Sequence[Act]] = (
    Act(
        "plan",
        "Change the plan",
        "finance",
        _change_plan,
        "The plan was changed.",
        (PLAN, Field("when", "When", "choice", choices=WHEN)),
        preview=_tell_change,
        is_reason_told=True,
        explains="A larger plan acts at once and adds its share of the rest of the period; no"
        " credits are ever taken away by a change.",
    ),
    Act(
        "keep-plan",
        "Call the plan change off",
        "finance",
        _keep_plan,
        "The plan stays as it is.",
        explains="The change that waits for the period’s end will not be made.",
    ),
    Act("limit", "Set the credit limit", "owner", _set_limit, "The limit was set.", (LIMIT,)),
    Act(
        "suspend",
        "Suspend the account",
        "owner",
        _suspend,
        "The account is suspended.",
        explains="Nothing new is accepted, everywhere within 5 seconds. What is running may finish;"
        " periods and expiries go on.",
        is_danger=True,
    ),
    Act(
        "resume",
        "Reactivate the account",
        "owner",
        _resume,
        "The account is active.",
        explains="Its keys work again within 5 seconds.",
    ),
    Act(
        "close",
        "Close the account",
        "owner",
        _close,
        "The account is closed.",
        explains="For ever: its subscription ends and its credits are void. Its history stays.",
        is_danger=True,
        is_reason_told=True,
    ),
)
