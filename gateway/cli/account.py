"""`cutout account`: who pays, and what they have paid."""

import re
from typing import Annotated, Final
from uuid import uuid4

import typer
from rich.markup import escape
from rich.table import Table
from sqlalchemy.ext.asyncio import AsyncSession

from billing.accounts import create_account, list_accounts
from billing.keys import KeyHasher
from billing.ledger import balance_of, grant_credits
from billing.periods import catch_up
from billing.statements import StatementLine
from billing.statements import statement as statement_of
from billing.tables import Account
from gateway.cli import corrections, standing
from gateway.cli.arguments import AccountId
from gateway.cli.database import DATA_DIR, DataDir, actor, run, screen
from gateway.cli.listing import show_table

MOMENT: Final = re.compile(r"(\d{4}-\d\d-\d\d)T[\d:.]+(?:\+[\d:]+|Z)?")
RANDOM_ID: Final = re.compile(r"([0-9a-f]{8})(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")

app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.command()
def create(
    name: str,
    plan: Annotated[str, typer.Option(help="free, starter, growth, scale or enterprise.")] = "free",
    credit_limit: Annotated[int, typer.Option(help="How far below zero it may go.", min=0)] = 0,
    data_dir: DataDir = DATA_DIR,
) -> None:
    """Create an account with its plan's first credits; prints its id."""

    async def work(db: AsyncSession, _: KeyHasher) -> Account:
        return await create_account(
            db, name=name, plan=plan, credit_limit=credit_limit, actor=actor()
        )

    screen.out(str(run(data_dir, work).id))


@app.command("list")
def list_(data_dir: DataDir = DATA_DIR) -> None:
    """List the accounts and what each has left."""

    async def work(db: AsyncSession, _: KeyHasher) -> Table:
        table = Table("account", "name", "status", box=None)
        for column in ("available", "held", "consumed"):
            table.add_column(column, justify="right")
        for account in await list_accounts(db):
            balance = await balance_of(db, account.id)
            numbers = (balance.available, balance.held, balance.consumed)
            table.add_row(
                str(account.id), escape(account.name), account.status, *(f"{n:,}" for n in numbers)
            )
        return table

    show_table(screen, run(data_dir, work), folding=["name"])


@app.command()
def grant(
    account: AccountId,
    credits_: Annotated[int, typer.Argument(metavar="CREDITS", min=1)],
    reason: Annotated[str, typer.Option(help="For the audit trail.")] = "granted by hand",
    ref: Annotated[
        str | None, typer.Option(help="The same reference is granted only once.")
    ] = None,
    data_dir: DataDir = DATA_DIR,
) -> None:
    """Give an account credits that do not expire."""
    once = ref or f"cli-{uuid4()}"

    async def work(db: AsyncSession, _: KeyHasher) -> int:
        await grant_credits(
            db, account, amount=credits_, source="topup", ref=once, actor=actor(), reason=reason
        )
        return (await balance_of(db, account)).available

    screen.print(f"{credits_:,} credits granted; {run(data_dir, work):,} available.")


@app.command()
def statement(
    account: AccountId,
    last: Annotated[int | None, typer.Option(help="Only so many lines.", min=1)] = None,
    data_dir: DataDir = DATA_DIR,
) -> None:
    """Print every movement of an account's credits, with the balance after each."""

    async def catch_up_first(db: AsyncSession, _: KeyHasher) -> None:
        await catch_up(db, account)

    async def work(db: AsyncSession, _: KeyHasher) -> list[StatementLine]:
        return await statement_of(db, account)

    run(data_dir, catch_up_first)
    lines = run(data_dir, work)[-(last or 0) :]
    show_table(screen, statement_table(lines, is_short=screen.is_terminal))


def statement_table(lines: list[StatementLine], *, is_short: bool) -> Table:
    """Lay a statement out: references whole, or short enough for 80 columns."""
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)  # just fits 80 columns
    table.add_column("at", no_wrap=True)
    table.add_column("what", no_wrap=True)
    for column in ("credits", "balance", "held"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("job or reference")
    for line in lines:
        table.add_row(
            f"{line.at:%m-%d %H:%M:%S}",
            line.op,
            f"{line.amount:+,}" if line.amount else "",
            f"{line.balance:,}",
            f"{line.held:,}" if line.held else "",
            escape(_shortened(line.ref) if is_short and not line.job_id else line.ref),
        )
    return table


def _shortened(ref: str) -> str:
    """Leave of a moment its day, and of a random id its beginning."""
    return RANDOM_ID.sub(r"\1", MOMENT.sub(r"\1", ref))


for act in (
    *(standing.plan, standing.keep, standing.suspend, standing.resume, standing.close),
    *(standing.limit, corrections.adjust, corrections.refund, corrections.grants),
    *(corrections.void, corrections.usage),
):
    app.command()(act)
