"""What a gateway's metrics say of webhooks, whichever worker tells them."""

from datetime import timedelta

from httpx import AsyncClient
from sqlalchemy import func, text, update

from gateway.tables import WebhookDelivery
from tests.gateway.test_health import sample
from tests.gateway.webhooks.receiver import open_receiver
from tests.gateway.webhooks.tellings import (
    BROKEN,
    OpenWorkshop,
    deliverer,
    ended_free,
    only_delivery,
    open_for,
)
from tests.gateway.workshop import Workshop


async def forget_before(workshop: Workshop) -> None:
    """Let what other tests told be long ago."""
    async with workshop.sessions.begin() as db:
        await db.execute(text("DELETE FROM webhook_attempt"))
        await db.execute(text("DELETE FROM webhook_delivery"))


async def test_metrics_say_what_is_owed_since_when_and_how_telling_goes(
    client: AsyncClient, open_workshop: OpenWorkshop
) -> None:
    async with (
        open_receiver(BROKEN, "204 No Content") as receiver,
        open_receiver("410 Gone") as off,
    ):
        workshop = await open_for(
            open_workshop,
            receiver,
            fetch_allowed_hosts=[receiver.place, off.place],
            webhook_retry_pause=timedelta(minutes=1),
        )
        await forget_before(workshop)
        page = (await client.get("/metrics")).text
        assert sample(page, "webhooks_owed") == 0
        assert sample(page, "webhooks_oldest_owed_seconds") == 0
        assert sample(page, 'webhook_attempts{outcome="timeout"}') == 0

        account_id = await ended_free(workshop, receiver.url)
        async with workshop.sessions.begin() as db:
            hour_ago = func.now() - timedelta(hours=1)
            await db.execute(update(WebhookDelivery).values(pending_since=hour_ago))
        await ended_free(workshop, off.url)
        page = (await client.get("/metrics")).text
        assert sample(page, "webhooks_owed") == 2
        assert 3600 <= sample(page, "webhooks_oldest_owed_seconds") < 3700

        await deliverer(workshop).deliver_due()  # one is broken, one wants no more
        page = (await client.get("/metrics")).text
        assert sample(page, "webhooks_owed") == 1
        assert sample(page, 'webhooks_ended{state="failed"}') == 1
        assert sample(page, 'webhooks_ended{state="delivered"}') == 0

        delivery = await only_delivery(workshop, account_id)
        async with workshop.sessions.begin() as db:
            due = update(WebhookDelivery).where(WebhookDelivery.id == delivery.id)
            await db.execute(due.values(next_attempt_at=func.now()))
        await deliverer(workshop).deliver_due()

    page = (await client.get("/metrics")).text
    assert sample(page, "webhooks_owed") == sample(page, "webhooks_oldest_owed_seconds") == 0
    assert sample(page, 'webhooks_ended{state="delivered"}') == 1
    for outcome in ("status", "gone", "delivered"):
        assert sample(page, f'webhook_attempts{{outcome="{outcome}"}}') == 1
    assert str(account_id) not in page
    assert receiver.place not in page
