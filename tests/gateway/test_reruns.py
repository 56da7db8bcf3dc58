"""A failed job is run again once: from the kept upload, under a hold of its own."""

import asyncio
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select, update

from billing.errors import AccountSuspendedError, InsufficientCreditsError, InvalidOperationError
from billing.ledger import adjust
from billing.staff_tables import AuditEvent
from billing.tables import Account
from gateway.reruns import Reruns
from gateway.tables import FAILED, QUEUED, SUCCEEDED, Job
from tests.gateway.workshop import OpenWorkshop, Workshop

BROKEN = b"GIF89a" + bytes(64)
PRICE = 25


@pytest.fixture
def reruns(workshop: Workshop) -> Reruns:
    cutouts = workshop.cutouts
    return Reruns(workshop.sessions, cutouts.storage, cutouts.bell, workshop.settings)


async def failed_job(workshop: Workshop, *, picture: bytes = BROKEN) -> UUID:
    """Leave a failed job of a new account."""
    caller = await workshop.caller()
    (job_id,) = await workshop.queued(caller, picture=BROKEN)
    await workshop.work_off()
    if picture is not BROKEN:  # what made it fail has been put right
        await workshop.cutouts.storage.put(f"sources/{job_id}/source", picture)
    return job_id


async def account_of(workshop: Workshop, job_id: UUID) -> UUID:
    return (await workshop.cutouts.find(job_id)).account_id


async def test_a_failed_job_is_run_again_and_charged_as_a_job_of_its_own(
    workshop: Workshop, reruns: Reruns, astronaut: bytes
) -> None:
    job_id = await failed_job(workshop, picture=astronaut)

    again = await reruns.run(job_id, act_id=uuid4(), actor="staff:test", reason="our fault")
    queued = await workshop.cutouts.find(again)
    await workshop.work_off()

    assert queued.state == QUEUED
    done = await workshop.cutouts.find(again)
    assert (done.state, done.charged_credits) == (SUCCEEDED, PRICE)
    assert (await workshop.cutouts.find(job_id)).state == FAILED
    assert await workshop.captures_of(job_id) == 0
    assert await workshop.captures_of(again) == 1


async def test_the_act_is_in_the_audit_trail(workshop: Workshop, reruns: Reruns) -> None:
    job_id = await failed_job(workshop)

    again = await reruns.run(job_id, act_id=uuid4(), actor="staff:test", reason="our fault")

    account_id = await account_of(workshop, job_id)
    async with workshop.sessions() as db:
        mine = select(AuditEvent).where(
            AuditEvent.account_id == account_id, AuditEvent.action == "job.rerun"
        )
        event = (await db.scalars(mine)).one()
    assert (event.object, event.reason) == (f"job {job_id}", "our fault")
    assert event.after == {"job": str(again), "held": PRICE}


async def test_a_form_that_is_sent_many_times_runs_it_once(
    workshop: Workshop, reruns: Reruns
) -> None:
    job_id, act_id = await failed_job(workshop), uuid4()

    ids = [
        await reruns.run(job_id, act_id=act_id, actor="staff:test", reason="twice")
        for _ in range(2)
    ]
    ids += await asyncio.gather(
        *(reruns.run(job_id, act_id=act_id, actor="staff:test", reason="twice") for _ in range(3))
    )

    assert set(ids) == {act_id}
    account_id = await account_of(workshop, job_id)
    async with workshop.sessions() as db:
        mine = (await db.scalars(select(Job.id).where(Job.account_id == account_id))).all()
    assert set(mine) == {job_id, act_id}


async def test_two_people_cannot_both_run_it_again(workshop: Workshop, reruns: Reruns) -> None:
    job_id = await failed_job(workshop)
    await reruns.run(job_id, act_id=uuid4(), actor="staff:one", reason="")

    with pytest.raises(InvalidOperationError, match="was run again"):
        await reruns.run(job_id, act_id=uuid4(), actor="staff:two", reason="")


async def test_one_that_has_failed_again_may_be_run_once_more(
    workshop: Workshop, reruns: Reruns
) -> None:
    job_id = await failed_job(workshop)
    first = await reruns.run(job_id, act_id=uuid4(), actor="staff:test", reason="")
    await workshop.work_off()

    second = await reruns.run(job_id, act_id=uuid4(), actor="staff:test", reason="")

    assert first != second


async def test_what_has_succeeded_at_last_is_not_made_and_charged_again(
    workshop: Workshop, reruns: Reruns, astronaut: bytes
) -> None:
    job_id = await failed_job(workshop)
    first = await reruns.run(job_id, act_id=uuid4(), actor="staff:test", reason="")
    await workshop.work_off()
    for broken in (job_id, first):  # what made them fail has been put right
        await workshop.cutouts.storage.put(f"sources/{broken}/source", astronaut)
    await reruns.run(first, act_id=uuid4(), actor="staff:test", reason="")

    with pytest.raises(InvalidOperationError, match="was run again"):
        await reruns.run(job_id, act_id=uuid4(), actor="staff:test", reason="")


async def test_a_second_try_is_not_run_again_while_the_first_job_is(
    workshop: Workshop, reruns: Reruns
) -> None:
    job_id = await failed_job(workshop)
    failed = await reruns.run(job_id, act_id=uuid4(), actor="staff:test", reason="")
    await workshop.work_off()
    await reruns.run(job_id, act_id=uuid4(), actor="staff:test", reason="")

    for one in (failed, job_id):
        with pytest.raises(InvalidOperationError, match="was run again"):
            await reruns.run(one, act_id=uuid4(), actor="staff:test", reason="")


async def test_two_who_run_a_job_and_its_second_try_again_at_once_make_one_job(
    workshop: Workshop, reruns: Reruns
) -> None:
    job_id = await failed_job(workshop)
    first = await reruns.run(job_id, act_id=uuid4(), actor="staff:test", reason="")
    await workshop.work_off()

    tries = [
        reruns.run(one, act_id=uuid4(), actor="staff:test", reason="") for one in (job_id, first)
    ]
    done = await asyncio.gather(*tries, return_exceptions=True)

    assert {type(one) for one in done} == {UUID, InvalidOperationError}


async def test_without_its_upload_it_is_refused(workshop: Workshop, reruns: Reruns) -> None:
    job_id = await failed_job(workshop)
    await workshop.cutouts.storage.delete(f"sources/{job_id}/source")

    with pytest.raises(InvalidOperationError, match="upload is gone"):
        await reruns.run(job_id, act_id=uuid4(), actor="staff:test", reason="")


async def test_after_the_sweeper_has_cleared_it_away_it_is_refused(
    open_workshop: OpenWorkshop,
) -> None:
    workshop = await open_workshop(failed_source_ttl=timedelta(0))
    reruns = Reruns(
        workshop.sessions, workshop.cutouts.storage, workshop.cutouts.bell, workshop.settings
    )
    job_id = await failed_job(workshop)
    await workshop.sweeper.sweep()

    with pytest.raises(InvalidOperationError, match="upload was not kept"):
        await reruns.run(job_id, act_id=uuid4(), actor="staff:test", reason="")


async def test_a_job_that_succeeded_is_not_run_again(
    workshop: Workshop, reruns: Reruns, astronaut: bytes
) -> None:
    caller = await workshop.caller()
    (job_id,) = await workshop.queued(caller, picture=astronaut)
    await workshop.work_off()

    with pytest.raises(InvalidOperationError, match="succeeded"):
        await reruns.find(job_id)


@pytest.mark.parametrize("trouble", ["suspended", "poor"])
async def test_where_no_hold_can_be_placed_nothing_is_left_behind(
    workshop: Workshop, reruns: Reruns, trouble: str
) -> None:
    job_id, act_id = await failed_job(workshop), uuid4()
    account_id = await account_of(workshop, job_id)
    async with workshop.sessions.begin() as db:
        if trouble == "suspended":
            values = {"status": "suspended"}
            await db.execute(update(Account).where(Account.id == account_id).values(**values))
        else:
            await adjust(db, account_id, amount=-250, ref="all", actor="test", reason="all of it")

    with pytest.raises((AccountSuspendedError, InsufficientCreditsError)):
        await reruns.run(job_id, act_id=act_id, actor="staff:test", reason="")

    assert not await workshop.cutouts.storage.exists(f"sources/{act_id}/source")
    async with workshop.sessions() as db:
        assert await db.get(Job, act_id) is None
