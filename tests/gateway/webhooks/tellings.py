"""What the tests of webhooks do and ask: open a workshop for a receiver, end jobs, read rows."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import text

from gateway.tables import (
    WebhookDelivery,
)
from gateway.webhooks.deliverer import Deliverer
from gateway.webhooks.deliveries import (
    attempts_at,
    deliveries_of,
)
from tests.gateway.webhooks.receiver import Receiver
from tests.gateway.workshop import Workshop

OpenWorkshop = Callable[..., Awaitable[Workshop]]
NO_PAUSE = timedelta(microseconds=1)
A_DAY = timedelta(days=1)
BROKEN = "500 Internal Server Error"


async def open_for(open_workshop: OpenWorkshop, receiver: Receiver, **more: Any) -> Workshop:
    """Open a workshop that may reach this receiver, and forget what others have left to tell."""
    settings = {"fetch_allowed_hosts": [receiver.place], "webhook_retry_pause": NO_PAUSE} | more
    workshop = await open_workshop(**settings)
    async with workshop.sessions.begin() as db:
        await db.execute(
            text(
                "UPDATE webhook_delivery SET state = 'failed', finished_at = now()"
                " WHERE state = 'pending'"
            )
        )
    return workshop


def deliverer(workshop: Workshop) -> Deliverer:
    return Deliverer(workshop.sessions, workshop.settings)


async def only_delivery(workshop: Workshop, account_id: UUID) -> WebhookDelivery:
    async with workshop.sessions.begin() as db:
        (delivery,) = await deliveries_of(db, account_id)
        return delivery


async def outcomes_of(workshop: Workshop, delivery: WebhookDelivery) -> list[str | None]:
    async with workshop.sessions.begin() as db:
        return [attempt.outcome for attempt in await attempts_at(db, delivery.id)]


async def succeeded_job(workshop: Workshop, picture: bytes, url: str) -> UUID:
    """Make a cutout whose end is to be told; tell whose it is."""
    caller = await workshop.caller()
    await workshop.cutouts.run(workshop.request(caller, picture, webhook_url=url))
    return caller.key.account_id


async def ended_free(workshop: Workshop, url: str, *, count: int = 1) -> UUID:
    """Cancel jobs that waited: the cheapest end of a job. Tell whose they are."""
    caller = await workshop.caller()
    request = workshop.request(caller, b"x", dialect="revid", webhook_url=url)
    for _ in range(count):
        job_id = (await workshop.cutouts.submit(request)).job_id
        await workshop.cutouts.cancel(job_id, caller.key.account_id)
    return caller.key.account_id
