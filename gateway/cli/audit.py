"""`cutout audit`: is what people did still written as it was."""

import typer
from rich.console import Console
from sqlalchemy.ext.asyncio import AsyncSession

from billing.audit import ChainReport
from billing.audit import verify as verify_chain
from billing.keys import KeyHasher
from gateway.cli.database import DATA_DIR, DataDir, run, screen
from gateway.cli.marks import say_done, say_failed

app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.callback()
def audit() -> None:
    """Verify the audit trail."""


@app.command()
def verify(data_dir: DataDir = DATA_DIR) -> None:
    """Walk the audit trail's chain; exit code 1 at its first broken link."""

    async def work(db: AsyncSession, _: KeyHasher) -> ChainReport:
        return await verify_chain(db)

    report = run(data_dir, work)
    if not report.is_whole:
        say_failed(Console(stderr=True), f"broken at event {report.broken_at}: {report.why}")
        raise typer.Exit(1)
    say_done(screen, f"{report.count:,} events, the chain is whole")
