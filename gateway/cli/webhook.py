"""`cutout webhook`: an account's secret and alerts; what was told, and telling it again."""

from datetime import timedelta
from typing import Annotated, Literal
from uuid import UUID

import typer
from rich.console import Console
from rich.table import Table
from sqlalchemy.ext.asyncio import AsyncSession

from billing import audit
from billing.accounts import find_account
from billing.keys import KeyHasher
from gateway.cli.database import DATA_DIR, DataDir, actor, run, screen
from gateway.cli.listing import show_table
from gateway.cli.refusals import settings_for
from gateway.errors import UrlNotAllowedError
from gateway.fetching.reach import Reach
from gateway.tables import WebhookAttempt, WebhookDelivery
from gateway.webhooks import deliveries
from gateway.webhooks.endpoints import rotate_secret, secrets_of, set_alert_url
from gateway.webhooks.signing import master_of, written

app = typer.Typer(add_completion=False, no_args_is_help=True)

AccountId = Annotated[UUID, typer.Argument(metavar="ACCOUNT")]
DeliveryId = Annotated[UUID, typer.Argument(metavar="DELIVERY")]
State = Literal["pending", "delivered", "failed"]


@app.command()
def secret(account: AccountId, data_dir: DataDir = DATA_DIR) -> None:
    """Print the secret that the account's webhooks are signed with; noted in the audit trail."""
    master = master_of(settings_for(data_dir))

    async def work(db: AsyncSession, _: KeyHasher) -> bytes:
        await find_account(db, account)
        await audit.record(
            db,
            actor=actor(),
            action="webhook.show_secret",
            object_name=f"account {account}",
            account_id=account,
        )
        return (await secrets_of(db, account, master))[0]

    screen.out(written(run(data_dir, work)))


@app.command()
def rotate(
    account: AccountId,
    grace_hours: Annotated[
        float, typer.Option(help="How long the former secret signs along.", min=0)
    ] = 24,
    force: Annotated[  # noqa: FBT002 - typer makes it --force
        bool, typer.Option("--force", help="Even while the former secret still signs: drop it.")
    ] = False,
    data_dir: DataDir = DATA_DIR,
) -> None:
    """Put a new secret in force, and print it."""
    master = master_of(settings_for(data_dir))

    async def work(db: AsyncSession, _: KeyHasher) -> bytes | None:
        await find_account(db, account)
        grace = timedelta(hours=grace_hours)
        if not await rotate_secret(db, account, grace=grace, actor=actor(), is_forced=force):
            return None
        return (await secrets_of(db, account, master))[0]

    secret_bytes = run(data_dir, work)
    if secret_bytes is None:
        Console(stderr=True).print(
            "[red]✗[/] the former secret still signs along, and would be dropped: --force does it"
        )
        raise typer.Exit(1)
    screen.out(written(secret_bytes))


@app.command()
def alerts(
    account: AccountId,
    url: Annotated[str | None, typer.Argument(help="Left out: no alerts any more.")] = None,
    data_dir: DataDir = DATA_DIR,
) -> None:
    """Tell a URL when 50, 80 and 100 % of a period's credits are used."""
    try:
        if url is not None:
            Reach(settings_for(data_dir)).check(url)
    except UrlNotAllowedError as exc:
        Console(stderr=True).print("[red]✗[/] this URL is not allowed")
        raise typer.Exit(1) from exc

    async def work(db: AsyncSession, _: KeyHasher) -> None:
        await find_account(db, account)
        await set_alert_url(db, account, url, actor=actor())

    run(data_dir, work)
    screen.print("Alerts will be sent there." if url else "No alerts will be sent.")


@app.command("list")
def list_(
    account: AccountId,
    state: Annotated[State | None, typer.Option(help="Only these.")] = None,
    data_dir: DataDir = DATA_DIR,
) -> None:
    """List an account's last 50 deliveries."""

    async def work(db: AsyncSession, _: KeyHasher) -> list[WebhookDelivery]:
        await find_account(db, account)
        return await deliveries.deliveries_of(db, account, state=state)

    table = Table("delivery", "what", "state", "attempts", "written", "job", box=None)
    for delivery in run(data_dir, work):
        table.add_row(
            str(delivery.id),
            delivery.kind,
            delivery.state,
            str(delivery.attempt),
            f"{delivery.created_at:%m-%d %H:%M:%S}",
            str(delivery.job_id or ""),
        )
    show_table(screen, table)


@app.command()
def attempts(delivery: DeliveryId, data_dir: DataDir = DATA_DIR) -> None:
    """List every attempt at a delivery."""

    async def work(db: AsyncSession, _: KeyHasher) -> list[WebhookAttempt]:
        return await deliveries.attempts_at(db, delivery)

    table = Table("attempt", "at", "outcome", "status", "ms", box=None)
    for attempt in run(data_dir, work):
        table.add_row(
            str(attempt.number),
            f"{attempt.at:%m-%d %H:%M:%S}",
            attempt.outcome or "not known",
            str(attempt.status or ""),
            "" if attempt.ms is None else f"{attempt.ms:,}",
        )
    show_table(screen, table)


@app.command()
def replay(delivery: DeliveryId, data_dir: DataDir = DATA_DIR) -> None:
    """Tell an event again, under its own id, for another day."""

    async def work(db: AsyncSession, _: KeyHasher) -> bool:
        replayed = await deliveries.replay(db, delivery)
        if replayed is not None:
            await audit.record(
                db,
                actor=actor(),
                action="webhook.replay",
                object_name=f"webhook_delivery {delivery}",
                account_id=replayed.account_id,
            )
        return replayed is not None

    if not run(data_dir, work):
        Console(stderr=True).print("[red]✗[/] no such delivery, or it is still being tried")
        raise typer.Exit(1)
    screen.print("A worker tells it within a second.")
