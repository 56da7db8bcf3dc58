"""`cutout key`: what authenticates a caller. A key is shown once, when it is made."""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from typing import Annotated, Literal
from uuid import UUID

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from billing.accounts import find_account
from billing.key_lists import HAS_ENDED, KeyLine
from billing.keys import DEFAULT_SCOPES, SCOPES, KeyHasher, create_key, revoke_key, rotate_key
from billing.tables import ApiKey
from gateway.cli.database import DATA_DIR, DataDir, actor, run, screen
from gateway.cli.listing import show_table
from gateway.cli.marks import say_failed

app = typer.Typer(add_completion=False, no_args_is_help=True)

Env = Literal["live", "test", "enterprise"]
Queue = Literal["standard", "priority"]
Limit = Annotated[int | None, typer.Option(help="Instead of the plan's.", min=1)]
KeyId = Annotated[
    str, typer.Argument(metavar="KEY_ID", help="The 8 characters after the key's prefix.")
]


def _read_scopes(said: list[str] | None) -> list[str] | None:
    for scope in said or []:
        if scope not in SCOPES:
            raise typer.BadParameter(f"{scope!r} is none of {', '.join(sorted(SCOPES))}")
    return said


def _read_networks(said: list[str] | None) -> list[str] | None:
    for network in said or []:
        try:
            ip_network(network, strict=False)
        except ValueError:
            raise typer.BadParameter(
                f"{network!r} is no network: write 203.0.113.0/24, 2001:db8::/32 or one address"
            ) from None
    return said


@app.command()
def create(  # noqa: PLR0913, PLR0917 - each is an option of the command
    account: Annotated[UUID, typer.Argument(metavar="ACCOUNT")],
    env: Annotated[Env, typer.Option(help="test: watermarked, free.")] = "live",
    name: Annotated[str, typer.Option(help="To tell it from others.")] = "",
    scope: Annotated[
        list[str] | None,
        typer.Option(
            help="cutout, read or admin, which may do all; may be repeated. "
            "cutout and read unless given.",
            callback=_read_scopes,
        ),
    ] = None,
    ip: Annotated[
        list[str] | None,
        typer.Option(help="Only from this network; may be repeated.", callback=_read_networks),
    ] = None,
    expires: Annotated[
        datetime | None, typer.Option(help="UTC.", formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"])
    ] = None,
    budget: Annotated[
        int | None, typer.Option(help="Credits that it may use in a period.", min=0)
    ] = None,
    rate_per_minute: Limit = None,
    burst: Limit = None,
    at_once: Limit = None,
    queue: Annotated[
        Queue | None, typer.Option(help="Instead of the plan's; enterprise keys have priority.")
    ] = None,
    data_dir: DataDir = DATA_DIR,
) -> None:
    """Create a key; prints it, this once."""
    expires_at = expires.replace(tzinfo=UTC) if expires else None
    if expires_at is not None and expires_at <= datetime.now(UTC):
        raise typer.BadParameter("a key cannot expire before it is made")

    async def work(db: AsyncSession, hasher: KeyHasher) -> tuple[str, str]:
        await find_account(db, account)
        key, plaintext = await create_key(
            db,
            hasher,
            account_id=account,
            env=env,
            name=name,
            scopes=scope or DEFAULT_SCOPES,
            ip_allow=ip or None,
            expires_at=expires_at,
            budget_credits=budget,
            rate_per_minute=rate_per_minute,
            burst=burst,
            concurrency_max=at_once,
            queue_class=queue,
            actor=actor(),
        )
        return key.key_id, plaintext

    _print_key(*run(data_dir, work))


@app.command()
def rotate(
    key_id: KeyId,
    grace_hours: Annotated[float, typer.Option(help="How long the old one works.", min=0)] = 24,
    data_dir: DataDir = DATA_DIR,
) -> None:
    """Replace a key; the old one works on for a while. Prints the new one, this once."""

    async def work(db: AsyncSession, hasher: KeyHasher) -> tuple[str, str]:
        key, plaintext = await rotate_key(
            db, hasher, await _find(db, key_id), grace=timedelta(hours=grace_hours), actor=actor()
        )
        return key.key_id, plaintext

    _print_key(*run(data_dir, work))


@app.command()
def revoke(
    key_id: KeyId,
    reason: Annotated[str, typer.Option(help="For the audit trail.")] = "revoked by hand",
    data_dir: DataDir = DATA_DIR,
) -> None:
    """End a key; in force everywhere within 5 seconds."""

    async def work(db: AsyncSession, _: KeyHasher) -> None:
        await revoke_key(db, await _find(db, key_id), actor=actor(), reason=reason)

    run(data_dir, work)
    screen.print("Revoked; in force everywhere within 5 seconds.")


@app.command("list")
def list_(
    account: Annotated[UUID, typer.Argument(metavar="ACCOUNT")], data_dir: DataDir = DATA_DIR
) -> None:
    """List an account's keys; the keys themselves are not kept."""

    async def work(db: AsyncSession, _: KeyHasher) -> Table:
        await find_account(db, account)
        table = Table(
            "key id", "kind", "name", "ends in", "created", "last used", "state", box=None
        )
        mine = select(ApiKey, ~HAS_ENDED).where(ApiKey.account_id == account)
        for key, is_living in await db.execute(mine.order_by(ApiKey.created_at)):
            used = f"{key.last_used_at:%Y-%m-%d %H:%M}" if key.last_used_at else "never"
            state = KeyLine(key, is_living=is_living).state
            created = f"{key.created_at:%Y-%m-%d}"
            table.add_row(key.key_id, key.env, escape(key.name), key.last4, created, used, state)
        return table

    show_table(screen, run(data_dir, work), folding=["name"])


async def _find(db: AsyncSession, key_id: str) -> UUID:
    found = await db.scalar(select(ApiKey.id).where(ApiKey.key_id == key_id))
    if found is None:
        say_failed(Console(stderr=True), f"there is no key {key_id}")
        raise typer.Exit(1)
    return found


def _print_key(key_id: str, plaintext: str) -> None:
    """Print the key alone on standard output, for a script, and its id beside it."""
    screen.out(plaintext)
    Console(stderr=True, highlight=False).print(f"id {key_id}; the key is not shown again")
