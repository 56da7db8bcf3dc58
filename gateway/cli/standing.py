"""`cutout account …`, how an account stands: suspended, resumed, closed; its limit, its plan."""

from typing import Annotated

import typer
from rich.console import Console
from sqlalchemy.ext.asyncio import AsyncSession

from billing.accounts import close_account, resume_account, set_credit_limit, suspend_account
from billing.keys import KeyHasher
from billing.subscriptions import PlanChange, cancel_change, change_plan, preview_change
from gateway.cli.arguments import AccountId, Reason
from gateway.cli.database import DATA_DIR, DataDir, actor, run, screen


def suspend(account: AccountId, reason: Reason, data_dir: DataDir = DATA_DIR) -> None:
    """Accept nothing new from an account; what is running may finish."""

    async def work(db: AsyncSession, _: KeyHasher) -> None:
        await suspend_account(db, account, actor=actor(), reason=reason)

    run(data_dir, work)
    screen.print("Suspended; in force everywhere within 5 seconds.")


def resume(account: AccountId, reason: Reason, data_dir: DataDir = DATA_DIR) -> None:
    """Let a suspended account call again."""

    async def work(db: AsyncSession, _: KeyHasher) -> None:
        await resume_account(db, account, actor=actor(), reason=reason)

    run(data_dir, work)
    screen.print("Active; in force everywhere within 5 seconds.")


def close(
    account: AccountId,
    reason: Reason,
    is_sure: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,  # noqa: FBT002 - an option
    data_dir: DataDir = DATA_DIR,
) -> None:
    """End an account for ever, and void its credits; its history stays."""
    if not is_sure:
        typer.confirm("This cannot be undone. Close the account?", abort=True)

    async def work(db: AsyncSession, _: KeyHasher) -> None:
        await close_account(db, account, actor=actor(), reason=reason)

    run(data_dir, work)
    screen.print("Closed.")


def limit(
    account: AccountId,
    credits_: Annotated[int, typer.Argument(metavar="CREDITS", min=0)],
    reason: Reason,
    data_dir: DataDir = DATA_DIR,
) -> None:
    """Set how many credits an account may draw beyond what it was granted."""

    async def work(db: AsyncSession, _: KeyHasher) -> None:
        await set_credit_limit(db, account, credits_, actor=actor(), reason=reason)

    run(data_dir, work)
    screen.print(f"It may go {credits_:,} credits below zero.")


def plan(
    account: AccountId,
    plan_name: Annotated[str, typer.Argument(metavar="PLAN")],
    is_preview: Annotated[bool, typer.Option("--preview", help="Tell, and do nothing.")] = False,  # noqa: FBT002 - an option
    reason: Annotated[str, typer.Option(help="For the audit trail.")] = "",
    data_dir: DataDir = DATA_DIR,
) -> None:
    """Change the plan: to a larger one now, to any other at the period's end."""
    if not is_preview and not reason.strip():
        reason = typer.prompt("Reason")

    async def work(db: AsyncSession, _: KeyHasher) -> PlanChange:
        if is_preview:
            return await preview_change(db, account, plan_name)
        return await change_plan(db, account, plan_name, actor=actor(), reason=reason)

    screen.print(told(run(data_dir, work)), soft_wrap=True)
    if is_preview:
        Console(stderr=True).print("Nothing was changed.")


def told(change: PlanChange) -> str:
    """Say what a change of plan does, in one line."""
    price = f"{change.price_minor / 100:,.2f} {change.currency}"
    when = (
        f"at once, with {change.credits_now:,} credits for the rest of the period"
        if change.is_immediate
        else f"at {change.takes_effect_at:%Y-%m-%d %H:%M} UTC, when the period ends"
    )
    return (
        f"{change.plan_from} → {change.plan_to} {when}; then {change.monthly_credits:,} credits"
        f" a month for {price}, at most {change.rollover_cap:,} of them carried over."
    )


def keep(account: AccountId, data_dir: DataDir = DATA_DIR) -> None:
    """Stay on the plan: call off the change that waits for the period's end."""

    async def work(db: AsyncSession, _: KeyHasher) -> None:
        await cancel_change(db, account, actor=actor())

    run(data_dir, work)
    screen.print("The plan stays as it is.")
