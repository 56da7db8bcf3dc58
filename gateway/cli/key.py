"""`cutout key`: what authenticates a caller. A key is shown once, when it is made."""

from datetime import timedelta
from typing import Annotated, Literal
from uuid import UUID

import typer
from rich.console import Console
from sqlalchemy.ext.asyncio import AsyncSession

from billing.keys import KeyHasher, create_key, revoke_key, rotate_key
from gateway.cli.database import DATA_DIR, DataDir, actor, run, screen

app = typer.Typer(add_completion=False, no_args_is_help=True)

Env = Literal["live", "test", "enterprise"]
KeyId = Annotated[UUID, typer.Argument(metavar="KEY_ID")]


@app.command()
def create(
    account: Annotated[UUID, typer.Argument(metavar="ACCOUNT")],
    env: Annotated[Env, typer.Option(help="test: watermarked, free.")] = "live",
    name: Annotated[str, typer.Option(help="To tell it from others.")] = "",
    data_dir: DataDir = DATA_DIR,
) -> None:
    """Create a key; prints it, this once."""

    async def work(db: AsyncSession, hasher: KeyHasher) -> tuple[UUID, str]:
        key, plaintext = await create_key(
            db, hasher, account_id=account, env=env, name=name, actor=actor()
        )
        return key.id, plaintext

    _print_key(*run(data_dir, work))


@app.command()
def rotate(
    key_id: KeyId,
    grace_hours: Annotated[float, typer.Option(help="How long the old one works.", min=0)] = 24,
    data_dir: DataDir = DATA_DIR,
) -> None:
    """Replace a key; the old one works on for a while. Prints the new one, this once."""

    async def work(db: AsyncSession, hasher: KeyHasher) -> tuple[UUID, str]:
        key, plaintext = await rotate_key(
            db, hasher, key_id, grace=timedelta(hours=grace_hours), actor=actor()
        )
        return key.id, plaintext

    _print_key(*run(data_dir, work))


@app.command()
def revoke(
    key_id: KeyId,
    reason: Annotated[str, typer.Option(help="For the audit trail.")] = "revoked by hand",
    data_dir: DataDir = DATA_DIR,
) -> None:
    """End a key; in force everywhere within 5 seconds."""

    async def work(db: AsyncSession, _: KeyHasher) -> None:
        await revoke_key(db, key_id, actor=actor(), reason=reason)

    run(data_dir, work)
    screen.print("Revoked; in force everywhere within 5 seconds.")


def _print_key(key_id: UUID, plaintext: str) -> None:
    """Print the key alone on standard output, for a script, and its id beside it."""
    screen.out(plaintext)
    Console(stderr=True, highlight=False).print(f"id {key_id}; the key is not shown again")
