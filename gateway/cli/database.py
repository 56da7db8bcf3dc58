"""What the bookkeeping commands share: whose settings, which transaction, who did it."""

import asyncio
import os
import pwd
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from rich.console import Console
from sqlalchemy.ext.asyncio import AsyncSession

from billing.db import SessionFactory, make_engine, make_sessions, transact
from billing.errors import BillingError
from billing.keys import KeyHasher
from gateway.cli.marks import say_failed
from gateway.cli.refusals import reaching_database, settings_for

T = TypeVar("T")

DataDir = Annotated[
    Path,
    typer.Option(
        help="Use the database of the `cutout up` in this folder, unless CUTOUT_… say another."
    ),
]
DATA_DIR = Path(".cutout")
screen = Console(highlight=False)


def run(data_dir: Path, work: Callable[[AsyncSession, KeyHasher], Awaitable[T]]) -> T:
    """Run `work` in one transaction; a refusal of the ledger ends the command with its words."""
    hasher = KeyHasher(settings_for(data_dir).peppers)
    return run_many(data_dir, lambda sessions: transact(sessions, lambda db: work(db, hasher)))


def run_many(data_dir: Path, work: Callable[[SessionFactory], Awaitable[T]]) -> T:
    """Run `work`, whose transactions are its own; otherwise as `run`."""
    settings = settings_for(data_dir)

    async def connected() -> T:
        engine = make_engine(str(settings.database_url))
        try:
            return await work(make_sessions(engine))
        finally:
            await engine.dispose()

    try:
        with reaching_database(data_dir, settings):
            return asyncio.run(connected())
    except BillingError as exc:
        say_failed(Console(stderr=True), str(exc))
        raise typer.Exit(1) from exc


def actor() -> str:
    """Name the person at the terminal, for the audit trail; a container's user has no name."""
    uid = os.geteuid()
    try:
        return f"cli:{pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"cli:uid-{uid}"
