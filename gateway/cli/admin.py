"""`cutout admin`: who may sign in to the dashboard."""

import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Final, TypeVar

import typer
from rich.console import Console
from rich.table import Table
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from billing.staff_tables import AdminUser
from gateway.cli.arguments import Reason
from gateway.cli.database import DATA_DIR, DataDir, actor, run, screen
from gateway.cli.listing import show_table
from gateway.cli.marks import say_done, say_failed
from gateway.dashboard.codes import forget_codes
from gateway.dashboard.staff import (
    ROLES,
    create_staff,
    disable_staff,
    find_staff,
    set_password,
)
from gateway.web.refusals import PageError

T = TypeVar("T")

GENERATED_BYTES: Final = 18

app = typer.Typer(add_completion=False, no_args_is_help=True)

Email = Annotated[str, typer.Argument(metavar="EMAIL")]
Generate = Annotated[
    bool, typer.Option("--generate", help="Make a password and print it, instead of asking.")
]


@app.callback()
def admin() -> None:
    """Say who may sign in to the dashboard at /admin."""


@app.command()
def create(
    email: Email,
    role: Annotated[str, typer.Option(help=f"One of {', '.join(ROLES)}.")] = "viewer",
    *,
    generate: Generate = False,
    data_dir: DataDir = DATA_DIR,
) -> None:
    """Let somebody in; asks for the password."""
    password = _new_password(generate=generate)

    async def work(db: AsyncSession) -> AdminUser:
        return await create_staff(db, email=email, password=password, role=role, actor=actor())

    user = _run(data_dir, work)
    say_done(screen, f"{user.email} may sign in at /admin as {role}")


@app.command("list")
def list_(data_dir: DataDir = DATA_DIR) -> None:
    """List who may sign in."""

    async def work(db: AsyncSession) -> Table:
        table = Table("email", "role", "codes", "since", "state", box=None)
        for user in await db.scalars(select(AdminUser).order_by(AdminUser.email)):
            codes = "on" if user.is_totp_on else "off"
            state = "disabled" if user.disabled_at else "active"
            table.add_row(user.email, user.role, codes, f"{user.created_at:%Y-%m-%d}", state)
        return table

    show_table(screen, _run(data_dir, work))


@app.command()
def password(email: Email, *, generate: Generate = False, data_dir: DataDir = DATA_DIR) -> None:
    """Set somebody's password anew; their browsers are signed out."""
    chosen = _new_password(generate=generate)

    async def work(db: AsyncSession) -> None:
        await set_password(db, await _known(db, email), chosen, actor=actor())

    _run(data_dir, work)
    say_done(screen, f"the password of {email} was changed")


@app.command("codes-off")
def codes_off(email: Email, data_dir: DataDir = DATA_DIR) -> None:
    """Sign somebody in without one-time codes again, who has lost the telephone."""

    async def work(db: AsyncSession) -> None:
        await forget_codes(db, await _known(db, email), actor=actor())

    _run(data_dir, work)
    say_done(screen, f"{email} signs in without codes")


@app.command()
def disable(email: Email, reason: Reason, data_dir: DataDir = DATA_DIR) -> None:
    """Let somebody in no longer; their browsers are signed out."""

    async def work(db: AsyncSession) -> None:
        await disable_staff(db, await _known(db, email), actor=actor(), reason=reason)

    _run(data_dir, work)
    say_done(screen, f"{email} can sign in no longer")


async def _known(db: AsyncSession, email: str) -> AdminUser:
    user = await find_staff(db, email)
    if user is None:
        say_failed(Console(stderr=True), f"nobody signs in as {email}")
        raise typer.Exit(1)
    return user


def _new_password(*, generate: bool) -> str:
    """Ask for a password, or make one and print it: it is shown this once."""
    if not generate:
        asked: str = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
        return asked
    made = secrets.token_urlsafe(GENERATED_BYTES)
    screen.out(made)
    return made


def _run(data_dir: Path, work: Callable[[AsyncSession], Awaitable[T]]) -> T:
    """Run `work` in a transaction; a refusal ends the command with its words."""
    try:
        return run(data_dir, lambda db, _: work(db))
    except PageError as exc:
        say_failed(Console(stderr=True), getattr(exc, "hint", "") or exc.title)
        raise typer.Exit(1) from exc
