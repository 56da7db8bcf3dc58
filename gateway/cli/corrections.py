"""`cutout account …`, credits put right by hand: adjusted, refunded, voided; and what was used."""

from datetime import UTC, datetime, timedelta
from typing import Annotated
from uuid import UUID, uuid4

import typer
from rich.markup import escape
from rich.table import Table
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from billing import usage as usage_module
from billing.accounts import find_account
from billing.errors import AccountNotFoundError
from billing.keys import KeyHasher
from billing.ledger import Balance, balance_of, void_grant
from billing.ledger import adjust as adjust_credits
from billing.ledger import refund as refund_job
from billing.tables import CreditGrant, Hold
from billing.usage import UsageLine
from gateway.cli.arguments import AccountId, Reason
from gateway.cli.database import DATA_DIR, DataDir, actor, run, screen
from gateway.cli.listing import show_table

Ref = Annotated[str | None, typer.Option(help="The same reference is adjusted for only once.")]
Days = Annotated[int, typer.Option(help="How many, today included.", min=1, max=366)]


def adjust(
    account: AccountId,
    credits_: Annotated[
        int, typer.Option("--credits", help="As in --credits=-100: below zero, they are taken.")
    ],
    reason: Reason,
    ref: Ref = None,
    data_dir: DataDir = DATA_DIR,
) -> None:
    """Correct an account's balance, up or down; never below its credit limit."""
    once = ref or f"cli-{uuid4()}"

    async def work(db: AsyncSession, _: KeyHasher) -> Balance:
        return await adjust_credits(
            db, account, amount=credits_, ref=once, actor=actor(), reason=reason
        )

    screen.print(f"{credits_:+,} credits; {run(data_dir, work).available:,} available.")


def refund(
    job: Annotated[UUID, typer.Argument(metavar="JOB")],
    reason: Reason,
    data_dir: DataDir = DATA_DIR,
) -> None:
    """Give back what a job was charged, once."""

    async def work(db: AsyncSession, _: KeyHasher) -> Balance:
        await refund_job(db, job, actor=actor(), reason=reason)
        account_id = await db.scalar(select(Hold.account_id).where(Hold.job_id == job))
        if account_id is None:
            raise AccountNotFoundError(job)
        return await balance_of(db, account_id)

    screen.print(f"Refunded; {run(data_dir, work).available:,} available.")


def grants(account: AccountId, data_dir: DataDir = DATA_DIR) -> None:
    """List an account's open grants, in the order in which they pay."""

    async def work(db: AsyncSession, _: KeyHasher) -> list[CreditGrant]:
        await find_account(db, account)
        chosen = select(CreditGrant).where(
            CreditGrant.account_id == account, CreditGrant.closed_at.is_(None)
        )
        in_order = (CreditGrant.priority, CreditGrant.expires_at.nulls_last(), CreditGrant.seq)
        return list(await db.scalars(chosen.order_by(*in_order)))

    table = Table("grant", "source", box=None)
    for column in ("credits", "left", "held"):
        table.add_column(column, justify="right")
    table.add_column("ends")
    for grant in run(data_dir, work):
        numbers = (f"{n:,}" for n in (grant.amount, grant.remaining, grant.held))
        ends = f"{grant.expires_at:%Y-%m-%d %H:%M}" if grant.expires_at else "never"
        table.add_row(str(grant.id), grant.source, *numbers, ends)
    show_table(screen, table)


def void(
    grant: Annotated[UUID, typer.Argument(metavar="GRANT", help="See `cutout account grants`.")],
    reason: Reason,
    data_dir: DataDir = DATA_DIR,
) -> None:
    """Take back what is left of a grant; what is held of it stays held."""

    async def work(db: AsyncSession, _: KeyHasher) -> Balance:
        return await void_grant(db, grant, actor=actor(), reason=reason)

    screen.print(f"Void; {run(data_dir, work).available:,} available.")


def usage(account: AccountId, days: Days = 30, data_dir: DataDir = DATA_DIR) -> None:
    """Print what was called, by day (UTC), key, model and dialect."""
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    until = today + timedelta(days=1)

    async def work(db: AsyncSession, _: KeyHasher) -> list[UsageLine]:
        await find_account(db, account)
        since = until - timedelta(days=days)
        return await usage_module.usage(db, account, since=since, until=until)

    table = Table("day", "key", "model", "dialect", box=None)
    for column in ("succeeded", "failed", "credits"):
        table.add_column(column, justify="right")
    for line in run(data_dir, work):
        words = (escape(line.key_name), line.model, line.dialect)
        numbers = (f"{n:,}" for n in (line.succeeded, line.failed, line.charged_credits))
        table.add_row(f"{line.day:%Y-%m-%d}", *words, *numbers)
    show_table(screen, table)
