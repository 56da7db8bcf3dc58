"""Telling an event again because somebody wants it: an act, with its line in the audit trail."""

from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from billing import audit
from billing.errors import InvalidOperationError
from gateway.tables import WebhookDelivery
from gateway.webhooks import deliveries


async def replay_delivery(
    db: AsyncSession, delivery_id: UUID, *, actor: str, reason: str = ""
) -> WebhookDelivery:
    """Tell an event again, under its own id, for another day.

    Raises:
        InvalidOperationError: there is no such delivery, or it is still being tried.
    """
    before = await db.get(WebhookDelivery, delivery_id, populate_existing=True)
    state = before.state if before else None
    replayed = await deliveries.replay(db, delivery_id)
    if replayed is None:
        raise InvalidOperationError("there is no such delivery, or it is still being tried")
    await audit.record(
        db,
        actor=actor,
        action="webhook.replay",
        object_name=f"webhook_delivery {delivery_id}",
        account_id=replayed.account_id,
        reason=reason,
        before={"state": state},
        after={"state": replayed.state},
    )
    return replayed
