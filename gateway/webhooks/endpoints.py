"""What an account has set for its webhooks: which secret is in force, where alerts go."""

from datetime import timedelta
from urllib.parse import urlsplit
from uuid import UUID

from sqlalchemy import ColumnElement, false, func, or_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from billing import audit
from gateway.tables import WebhookEndpoint
from gateway.webhooks.signing import derive_secret


async def secrets_of(db: AsyncSession, account_id: UUID, master: bytes) -> list[bytes]:
    """Give the account's secret, and the one before it while receivers may still know only that."""
    former_is_good = func.coalesce(WebhookEndpoint.former_secret_until > func.now(), false())
    endpoint = await db.execute(
        select(WebhookEndpoint.secret_version, former_is_good.label("former_is_good")).where(
            WebhookEndpoint.account_id == account_id
        )
    )
    found = endpoint.one_or_none()
    if found is None:
        return [derive_secret(master, account_id, 1)]
    versions = [found.secret_version]
    if found.former_is_good:
        versions.append(found.secret_version - 1)
    return [derive_secret(master, account_id, version) for version in versions]


async def rotate_secret(
    db: AsyncSession, account_id: UUID, *, grace: timedelta, actor: str, is_forced: bool = False
) -> bool:
    """Put a new secret in force; for `grace` deliveries are signed with the former one too.

    While an earlier rotation still has its grace, False, and nothing is changed: receivers that
    know only the former secret would be cut off. `is_forced` cuts them off.
    """
    until = func.now() + grace
    values = {"secret_version": 2, "former_secret_until": until}
    changed = {
        "secret_version": WebhookEndpoint.secret_version + 1,
        "former_secret_until": until,
    }
    former = WebhookEndpoint.former_secret_until
    where = None if is_forced else or_(former.is_(None), former <= func.now())
    if not await _set(db, account_id, values, changed, where):
        return False
    facts: dict[str, object] = {"grace_s": grace.total_seconds(), "is_forced": is_forced}
    await _audit(db, account_id, "webhook.rotate_secret", actor, facts)
    return True


async def set_alert_url(
    db: AsyncSession, account_id: UUID, alert_url: str | None, *, actor: str
) -> None:
    """Send alerts of the account's credits to `alert_url`, or to nobody.

    The audit trail keeps only where that is: many a URL holds a secret, and the trail is for ever.
    """
    await _set(db, account_id, {"alert_url": alert_url}, {"alert_url": alert_url})
    host = urlsplit(alert_url).hostname if alert_url else None
    await _audit(db, account_id, "webhook.set_alert_url", actor, {"alert_host": host})


async def _set(
    db: AsyncSession,
    account_id: UUID,
    values: dict[str, object],
    changed: dict[str, object],
    where: ColumnElement[bool] | None = None,
) -> bool:
    """Write the account's row, or change it where it is so; tell whether that was done."""
    written = await db.scalar(
        insert(WebhookEndpoint)
        .values(account_id=account_id, **values)
        .on_conflict_do_update(
            index_elements=[WebhookEndpoint.account_id], set_=changed, where=where
        )
        .returning(WebhookEndpoint.account_id)
    )
    return written is not None


async def _audit(
    db: AsyncSession, account_id: UUID, action: str, actor: str, after: dict[str, object]
) -> None:
    await audit.record(
        db,
        actor=actor,
        action=action,
        object_name=f"account {account_id}",
        account_id=account_id,
        after=after,
    )
