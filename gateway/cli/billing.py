"""`cutout billing`: are the books right, and what goes to whoever writes the invoices."""

import re
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from sqlalchemy.ext.asyncio import AsyncSession

from billing.db import SessionFactory
from billing.invariants import TITLES, Finding, check_all
from billing.keys import KeyHasher
from billing.monthpack import MonthLine, catch_up_all, month_pack, month_pack_csv
from gateway.cli.database import DATA_DIR, DataDir, run, run_many, screen
from gateway.cli.listing import show_table
from gateway.cli.marks import say_done, say_failed

app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.command()
def check(data_dir: DataDir = DATA_DIR) -> None:
    """Ask every rule of all the books, now; exit code 1 and a sample where one is broken."""

    async def work(db: AsyncSession, _: KeyHasher) -> list[Finding]:
        return await check_all(db)

    findings = run(data_dir, work)
    show_table(screen, _table(findings), folding=["what must be true"])
    broken = [finding for finding in findings if not finding.is_ok]
    for finding in broken:
        say_failed(screen, f"{finding.name}, for example:")
        for row in finding.sample:
            screen.print("  " + escape(" ".join(f"{name}={value}" for name, value in row.items())))
    if broken:
        raise typer.Exit(1)
    say_done(screen, f"{len(findings)} rules, no breach")


def _table(findings: list[Finding]) -> Table:
    table = Table(box=None)
    table.add_column("rule")
    table.add_column("breaches", justify="right")
    table.add_column("ms", justify="right")
    table.add_column("what must be true")
    for finding in findings:
        numbers = (f"{finding.count:,}", f"{finding.elapsed_ms:,}")
        table.add_row(finding.name, *numbers, TITLES[finding.name])
    return table


@app.command()
def month(
    year_month: Annotated[str, typer.Argument(metavar="YYYY-MM", help="A calendar month, UTC.")],
    data_dir: DataDir = DATA_DIR,
) -> None:
    """Print a month of every account as CSV; exit code 1 where a row does not foot to zero."""
    if not re.fullmatch(r"20\d\d-(0[1-9]|1[0-2])", year_month):
        raise typer.BadParameter("say a month as YYYY-MM")
    year, number = map(int, year_month.split("-"))

    async def work(sessions: SessionFactory) -> list[MonthLine]:
        await catch_up_all(sessions, year, number)
        async with sessions.begin() as db:
            return await month_pack(db, year, number)

    lines = run_many(data_dir, work)
    typer.echo(month_pack_csv(lines), nl=False)
    if wrong := [line.account_id for line in lines if line.foots]:
        say_failed(Console(stderr=True), f"does not foot: {', '.join(wrong)}")
        raise typer.Exit(1)
