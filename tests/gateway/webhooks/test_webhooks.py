"""Webhooks: written by the transaction that makes them true, told once it has committed."""

import contextlib
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import httpx
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sqlalchemy import func, text, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from billing.credits import grant_credits
from core.errors import NoForegroundError
from gateway import jobs, settle
from gateway.errors import LeaseLostError
from gateway.links import Links
from gateway.settle import Failure
from gateway.tables import (
    CANCELED,
    DELIVERED,
    PROCESSING,
    QUEUED,
    SUCCEEDED,
    Fence,
    Job,
)
from gateway.webhooks.deliveries import (
    deliveries_of,
)
from gateway.webhooks.endpoints import secrets_of, set_alert_url
from gateway.webhooks.signing import master_of, written
from tests.gateway.webhooks.receiver import open_receiver
from tests.gateway.webhooks.tellings import (
    OpenWorkshop,
    deliverer,
    ended_free,
    only_delivery,
    open_for,
    succeeded_job,
)
from tests.gateway.workshop import Workshop


async def test_a_cutout_is_told_signed_and_can_be_downloaded_by_what_is_told(
    open_workshop: OpenWorkshop, astronaut: bytes
) -> None:
    async with open_receiver() as receiver:
        workshop = await open_for(open_workshop, receiver)
        account_id = await succeeded_job(workshop, astronaut, receiver.url)
        assert await deliverer(workshop).deliver_due() == 1

    (heard,) = receiver.heard
    delivery = await only_delivery(workshop, account_id)
    assert delivery.job_id is not None
    async with workshop.sessions.begin() as db:
        secrets = await secrets_of(db, account_id, master_of(workshop.settings))
    assert heard.is_signed_with(written(secrets[0]))
    assert heard.path == "/hook?token=mine"
    assert heard.id == f"msg_{delivery.id.hex}"
    assert abs(int(heard.headers["webhook-timestamp"]) - datetime.now(UTC).timestamp()) < 10
    document = heard.document
    assert (document["type"], document["data"]["state"]) == ("cutout.succeeded", SUCCEEDED)
    assert document["data"]["job_id"] == str(delivery.job_id)
    assert document["data"]["charged_credits"] == 25
    link = httpx.URL(document["data"]["image_url"])
    assert link.path == f"/r/{delivery.job_id}.png"
    links = Links(workshop.settings.public_url, "link-secret-of-the-tests-and-nobody-else")
    links.verify(delivery.job_id, "png", link.params["expires"], link.params["signature"])
    assert delivery.state == DELIVERED
    assert await deliverer(workshop).deliver_due() == 0


async def test_a_failed_job_is_told_with_its_code(open_workshop: OpenWorkshop) -> None:
    async with open_receiver() as receiver:
        workshop = await open_for(open_workshop, receiver)
        caller = await workshop.caller()
        request = workshop.request(caller, b"GIF89a", dialect="revid", webhook_url=receiver.url)
        await workshop.cutouts.submit(request)
        await workshop.work_off()
        await deliverer(workshop).deliver_due()

    document = receiver.heard[0].document
    assert document["type"] == "cutout.failed"
    assert document["data"]["error"]["code"] == "unsupported_format"
    assert document["data"]["charged_credits"] == 0
    assert "image_url" not in document["data"]


async def test_a_canceled_job_is_told(open_workshop: OpenWorkshop) -> None:
    async with open_receiver() as receiver:
        workshop = await open_for(open_workshop, receiver)
        await ended_free(workshop, receiver.url)
        await deliverer(workshop).deliver_due()
    assert receiver.heard[0].document["type"] == "cutout.canceled"


async def test_nothing_is_told_of_what_was_rolled_back(workshop: Workshop) -> None:
    caller = await workshop.caller()
    request = workshop.request(caller, b"x", dialect="revid", webhook_url="https://example.com/")
    job_id = (await workshop.cutouts.submit(request)).job_id

    async with workshop.sessions() as db:
        job = await jobs.find(db, job_id)
        assert await settle.cancel(db, job.fence, states=(QUEUED,))
        await db.flush()
        await db.rollback()

    async with workshop.sessions.begin() as db:
        assert await deliveries_of(db, caller.key.account_id) == []
        job = await jobs.find(db, job_id)
        assert await settle.fail(db, job.fence, Failure.of(NoForegroundError(0.1)))
        assert not await settle.cancel(db, job.fence, states=(QUEUED, CANCELED))
    assert (await only_delivery(workshop, caller.key.account_id)).kind == "cutout.failed"


@given(steps=st.lists(st.sampled_from(["claim", "succeed", "fail", "cancel", "retry"]), max_size=9))
@hypothesis_settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
async def test_however_a_job_goes_it_is_told_once_if_it_has_ended(
    workshop: Workshop, steps: list[str]
) -> None:
    caller = await workshop.caller()
    request = workshop.request(caller, b"x", dialect="revid", webhook_url="https://example.com/")
    job_id = (await workshop.cutouts.submit(request)).job_id
    late = (await workshop.cutouts.find(job_id)).fence
    for step in steps:
        job = await workshop.cutouts.find(job_id)
        for fence in {late, job.fence}:
            with contextlib.suppress(LeaseLostError):
                async with workshop.sessions.begin() as db:
                    await take(step, db, job, fence)
        late = job.fence

    job = await workshop.cutouts.find(job_id)
    async with workshop.sessions.begin() as db:
        told = [delivery.kind for delivery in await deliveries_of(db, job.account_id)]
        await settle.cancel(db, job.fence, states=(QUEUED, PROCESSING))
    assert told == ([f"cutout.{job.state}"] if job.has_ended else [])


async def take(step: str, db: AsyncSession, job: Job, fence: Fence) -> None:
    """Take one step of a job's life, whoever is late for it included."""
    match step:
        case "claim":
            await db.execute(
                update(Job)
                .where(Job.id == fence.job_id, Job.state == QUEUED)
                .values(state=PROCESSING, lease_until=func.now() + timedelta(minutes=1))
            )
        case "succeed":
            await settle.succeed(db, fence, {"result_key": "nowhere", "extension": "png"})
        case "fail":
            await settle.fail(db, fence, Failure("overloaded"))
        case "cancel":
            await settle.cancel(db, fence, states=(QUEUED,))
        case "retry" if job.state == PROCESSING and job.fence == fence:
            await settle.retry_or_fail(db, job, Failure("overloaded"), attempts_max=3)


async def test_without_a_url_nothing_is_written(workshop: Workshop, astronaut: bytes) -> None:
    caller = await workshop.caller()
    await workshop.cutouts.run(workshop.request(caller, astronaut))
    async with workshop.sessions.begin() as db:
        assert await deliveries_of(db, caller.key.account_id) == []


async def test_each_threshold_of_a_period_is_told_once(
    open_workshop: OpenWorkshop, astronaut: bytes
) -> None:
    async with open_receiver() as receiver:
        workshop = await open_for(open_workshop, receiver)
        caller = await workshop.caller()  # the free plan: 250 credits, ten cutouts
        account_id = caller.key.account_id
        async with workshop.sessions.begin() as db:
            await set_alert_url(db, account_id, receiver.url, actor="test")
        percents: list[int] = []
        for _ in range(10):
            await workshop.cutouts.run(workshop.request(caller, astronaut))
            await deliverer(workshop).deliver_due()
            percents.append(receiver.heard[-1].document["data"]["percent"] if receiver.heard else 0)
        assert percents == [0, 0, 0, 0, 50, 50, 50, 80, 80, 100]
        async with workshop.sessions.begin() as db:
            await grant_credits(
                db, account_id, amount=100, source="topup", ref=str(uuid4()), actor="t", reason="t"
            )
        await workshop.cutouts.run(workshop.request(caller, astronaut))
        await deliverer(workshop).deliver_due()

    assert len(receiver.heard) == len(set(receiver.ids)) == 3
    last = receiver.heard[-1].document
    assert last["type"] == "credits.threshold_crossed"
    assert (last["data"]["consumed"], last["data"]["available"]) == (250, 0)
    assert last["data"]["account_id"] == str(account_id)


@pytest.mark.parametrize(
    "column", ["url = 'https://example.com/'", "facts = '{}'", "job_id = NULL"]
)
async def test_the_application_cannot_rewrite_what_is_told(workshop: Workshop, column: str) -> None:
    with pytest.raises(DBAPIError, match="permission denied"):
        async with workshop.sessions.begin() as db:
            await db.execute(text(f"UPDATE webhook_delivery SET {column}"))  # noqa: S608
