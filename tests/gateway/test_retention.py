"""What is old is forgotten, in batches, and nothing that the books name is among it."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from pydantic import ValidationError
from sqlalchemy import func, select, text, update
from sqlalchemy.exc import DBAPIError

from billing.invariants import check_account
from billing.ledger import refund
from billing.statements import statement
from billing.usage import usage
from gateway import retention
from gateway.tables import PENDING, Job, WebhookAttempt, WebhookDelivery
from gateway.webhooks.deliveries import deliveries_of
from tests.gateway.bare import settings_with
from tests.gateway.webhooks.receiver import open_receiver
from tests.gateway.webhooks.tellings import OpenWorkshop, deliverer, ended_free, open_for
from tests.gateway.workshop import Workshop

HOOK = "https://hooks.example.com/cutout?token=mine"
OLD = timedelta(days=31)


async def ended_long_ago(workshop: Workshop, job_id: UUID, **more: Any) -> None:
    """Let a month pass for a job, and its result expire in it."""
    ended = {"finished_at": func.now() - OLD, "result_expires_at": func.now() - OLD}
    async with workshop.sessions.begin() as db:
        await db.execute(update(Job).where(Job.id == job_id).values(**(ended | more)))


async def abridge(workshop: Workshop, rows_max: int = 200) -> int:
    async with workshop.sessions.begin() as db:
        kept = workshop.settings.job_retention
        return await retention.abridge_jobs(db, kept=kept, rows_max=rows_max)


async def test_an_old_job_says_what_it_was_and_no_more_how_it_was_made(
    workshop: Workshop, astronaut: bytes
) -> None:
    caller = await workshop.caller()
    account_id = caller.key.account_id
    request = workshop.request(caller, astronaut, webhook_url=HOOK)
    job_id = (await workshop.cutouts.run(request)).job_id
    before = await workshop.cutouts.find(job_id)
    await ended_long_ago(workshop, job_id)
    async with workshop.sessions.begin() as db:
        now = datetime.now(UTC)
        used = await usage(db, account_id, since=now - OLD, until=now)

    await workshop.sweeper.sweep()  # the result goes first ...
    await workshop.sweeper.sweep()  # ... then what made it

    after = await workshop.cutouts.find(job_id)
    assert (after.options, after.stages_ms, after.webhook_url) == ({}, {}, None)
    assert after.is_brief
    for name in ("state", "account_id", "api_key_id", "model_ran", "dialect", "charged_credits"):
        assert getattr(after, name) == getattr(before, name)
    for name in ("width_px", "result_bytes", "confidence", "created_at", "request_id"):
        assert getattr(after, name) == getattr(before, name)
    async with workshop.sessions.begin() as db:
        assert await usage(db, account_id, since=now - OLD, until=now) == used
        (*_, line) = await statement(db, account_id)
        assert line.job_id == job_id
        await refund(db, job_id, actor="support", reason="it was bad after all")
        assert await check_account(db, account_id) == []


async def test_what_is_younger_or_still_in_storage_keeps_everything(
    workshop: Workshop, astronaut: bytes
) -> None:
    caller = await workshop.caller(plan="growth")
    runs = [await workshop.cutouts.run(workshop.request(caller, astronaut)) for _ in range(3)]
    young, with_result, with_source = (done.job_id for done in runs)
    await ended_long_ago(workshop, young, finished_at=func.now() - timedelta(days=29))
    await ended_long_ago(workshop, with_result, purged_at=None)
    await ended_long_ago(workshop, with_source, purged_at=func.now(), is_tidy=False)
    (queued,) = await workshop.queued(caller)

    while await abridge(workshop):
        pass

    jobs = [await workshop.cutouts.find(id_) for id_ in (young, with_result, with_source, queued)]
    assert not any(job.is_brief for job in jobs)
    assert all(job.options for job in jobs)


async def test_a_batch_is_no_larger_than_told_and_the_oldest_go_first(workshop: Workshop) -> None:
    while await abridge(workshop):
        pass  # what other tests have left
    caller = await workshop.caller(plan="growth")
    job_ids = await workshop.queued(caller, count=5)
    for n, job_id in enumerate(job_ids):
        await workshop.cutouts.cancel(job_id, caller.key.account_id)
        ended_at = func.now() - OLD - timedelta(hours=n)
        await ended_long_ago(workshop, job_id, finished_at=ended_at, is_tidy=True)

    assert await abridge(workshop, rows_max=2) == 2
    brief = [(await workshop.cutouts.find(job_id)).is_brief for job_id in job_ids]
    assert brief == [False, False, False, True, True]
    assert [await abridge(workshop, rows_max=2) for _ in range(3)] == [2, 1, 0]


async def test_old_deliveries_go_with_their_attempts_and_none_that_is_owed(
    open_workshop: OpenWorkshop,
) -> None:
    async with open_receiver() as receiver:
        workshop = await open_for(open_workshop, receiver)
        await workshop.sweeper.sweep()
        account_id = await ended_free(workshop, receiver.url, count=3)
        await deliverer(workshop).deliver_due()
    await ended_free(workshop, HOOK)
    async with workshop.sessions.begin() as db:
        told = [delivery.id for delivery in await deliveries_of(db, account_id)]
        await db.execute(
            update(WebhookDelivery)
            .where(WebhookDelivery.id.in_(told[:2]))
            .values(finished_at=func.now() - OLD, pending_since=func.now() - OLD)
        )
        await db.execute(
            update(WebhookDelivery)
            .where(WebhookDelivery.state == PENDING)
            .values(pending_since=func.now() - OLD)
        )

    await workshop.sweeper.sweep()

    async with workshop.sessions.begin() as db:
        assert [delivery.id for delivery in await deliveries_of(db, account_id)] == told[2:]
        tried = select(func.count()).where(WebhookAttempt.delivery_id.in_(told))
        assert await db.scalar(tried) == 1
        owed = select(func.count()).where(WebhookDelivery.state == PENDING)
        assert await db.scalar(owed) == 1


async def test_the_application_cannot_delete_a_job(workshop: Workshop) -> None:
    with pytest.raises(DBAPIError, match="permission denied"):
        async with workshop.sessions.begin() as db:
            await db.execute(text("DELETE FROM job"))


@pytest.mark.parametrize("needed", ["idempotency_ttl", "failed_source_ttl"])
def test_a_job_keeps_its_options_while_it_may_be_asked_for_again(needed: str) -> None:
    settings_with(job_retention=timedelta(days=2), **{needed: timedelta(days=2)})
    with pytest.raises(ValidationError, match="job_retention"):
        settings_with(job_retention=timedelta(days=1), **{needed: timedelta(days=2)})
