"""The use case where nobody waits: accepted with its hold, made later, fenced by the attempt."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine

from billing import ledger
from billing.errors import TooManyAtOnceError
from core.errors import ImageTooLargeError, UnsupportedFormatError
from gateway.errors import (
    JobNotFoundError,
    OverloadedError,
    ResultExpiredError,
)
from gateway.source import Source
from gateway.tables import CANCELED, FAILED, PROCESSING, QUEUED, SUCCEEDED
from gateway.waiting import Waiting
from tests.gateway.workshop import Workshop, fresh_key, make_storage_fail, until

PRICE = 25
FREE_CREDITS = 250


async def test_a_submitted_job_waits_with_its_hold_and_is_charged_when_done(
    workshop: Workshop, astronaut: bytes
) -> None:
    caller = await workshop.caller()

    submitted = await workshop.cutouts.submit(workshop.request(caller, astronaut, dialect="revid"))

    waiting = await workshop.cutouts.find(submitted.job_id)
    assert (waiting.state, waiting.progress) == (QUEUED, 0)
    assert (submitted.balance.held, submitted.held_credits) == (PRICE, PRICE)
    await workshop.work_off()
    job = await workshop.cutouts.find(submitted.job_id)
    assert (job.state, job.model_ran) == (SUCCEEDED, "cutout-lite")
    assert await workshop.cutouts.storage.exists(str(job.result_key))
    assert await workshop.captures_of(job.id) == 1
    assert (await workshop.balance(caller)).held == 0


async def test_the_customers_own_background_comes_along(
    workshop: Workshop, astronaut: bytes, photo: bytes
) -> None:
    caller = await workshop.caller()
    background = Source(photo)
    at_once = await workshop.cutouts.run(workshop.request(caller, astronaut, background=background))

    submitted = await workshop.cutouts.submit(
        workshop.request(caller, astronaut, dialect="revid", background=background)
    )
    await workshop.work_off()

    job = await workshop.cutouts.find(submitted.job_id)
    storage = workshop.cutouts.storage
    assert await storage.get(str(job.result_key)) == await storage.get(at_once.result_key)


async def test_a_background_that_cannot_be_used_is_refused_before_anything_is_held(
    workshop: Workshop, astronaut: bytes
) -> None:
    caller = await workshop.caller()
    for work, dialect in ((workshop.cutouts.run, "codia"), (workshop.cutouts.submit, "revid")):
        request = workshop.request(
            caller, astronaut, dialect=dialect, background=Source(b"GIF89a" + bytes(64))
        )
        with pytest.raises(UnsupportedFormatError, match="bg_image"):
            await work(request)
    assert await workshop.jobs_of(caller) == []


async def test_a_background_counts_for_the_queue(
    open_workshop: Callable[..., Awaitable[Workshop]], astronaut: bytes, photo: bytes
) -> None:
    workshop = await open_workshop(queue_bytes_max=len(astronaut) + len(photo))
    caller = await workshop.caller()
    request = workshop.request(caller, astronaut, background=Source(photo))
    async with workshop.cutouts.admission.place(1, 1, "standard"):
        with pytest.raises(OverloadedError):
            await workshop.cutouts.run(request)


async def test_a_picture_of_the_wrong_kind_becomes_a_failed_job_with_facts(
    workshop: Workshop,
) -> None:
    caller = await workshop.caller()

    (job_id,) = await workshop.queued(caller, picture=b"GIF89a" + bytes(64))
    await workshop.work_off()

    job = await workshop.cutouts.find(job_id)
    assert (job.state, job.error_code) == (FAILED, "unsupported_format")
    assert (job.error_kind, job.error_facts) == ("UnsupportedFormatError", {"format_name": "gif"})
    assert (await workshop.balance(caller)).available == FREE_CREDITS


async def test_too_many_pixels_are_refused_before_a_job(
    open_workshop: Callable[..., Awaitable[Workshop]], astronaut: bytes
) -> None:
    workshop = await open_workshop(image_pixels_max=1000)
    caller = await workshop.caller()

    with pytest.raises(ImageTooLargeError):
        await workshop.queued(caller, picture=astronaut)

    assert await workshop.jobs_of(caller) == []


async def test_a_submission_that_is_refused_leaves_no_upload(
    workshop: Workshop, astronaut: bytes
) -> None:
    caller = await workshop.caller(concurrency_max=1)
    (accepted,) = await workshop.queued(caller, picture=astronaut)

    with pytest.raises(TooManyAtOnceError):
        await workshop.queued(caller, picture=astronaut)

    folders = list(storage_folder(workshop).joinpath("sources").glob("*/source"))
    assert [folder.parent.name for folder in folders] == [str(accepted)]


async def test_storage_that_comes_back_makes_the_job_after_all(
    workshop: Workshop, astronaut: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    caller = await workshop.caller()
    (job_id,) = await workshop.queued(caller, picture=astronaut)
    with monkeypatch.context() as patch:
        make_storage_fail(workshop, patch)
        await workshop.work_off()

    handed_on = await workshop.cutouts.find(job_id)
    assert (handed_on.state, handed_on.attempt) == (QUEUED, 2)
    assert await workshop.claim() is None, "there is a pause before the next attempt"
    await until(workshop.work_off)
    assert (await workshop.cutouts.find(job_id)).state == SUCCEEDED
    assert await workshop.captures_of(job_id) == 1


async def test_a_worker_that_is_stopped_hands_its_job_back(
    workshop: Workshop, big_picture: bytes
) -> None:
    caller = await workshop.caller()
    (job_id,) = await workshop.queued(caller, picture=big_picture)
    claimed = await workshop.claim()
    assert claimed is not None
    working = asyncio.create_task(workshop.cutouts.work(job_id, claimed.attempt))
    await until(lambda: has_reached_a_stage(workshop, job_id))

    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working

    handed_on = await workshop.cutouts.find(job_id)
    assert (handed_on.state, handed_on.attempt, handed_on.progress) == (QUEUED, 2, 0)
    assert await workshop.work_off() == 1
    assert (await workshop.balance(caller)).available == FREE_CREDITS - PRICE


async def test_progress_rises_with_the_stages(workshop: Workshop, big_picture: bytes) -> None:
    caller = await workshop.caller()
    (job_id,) = await workshop.queued(caller, picture=big_picture)
    working = asyncio.create_task(workshop.work_off())

    seen: list[tuple[str | None, int]] = []
    while not working.done():
        job = await workshop.cutouts.find(job_id)
        seen.append((job.stage, job.progress))
        await asyncio.sleep(0.01)
    await working

    progress = [percent for _, percent in seen]
    assert progress == sorted(progress)
    assert {stage for stage, _ in seen} > {None, "segment"}


async def test_who_waits_is_told_as_soon_as_the_job_has_ended(
    workshop: Workshop, astronaut: bytes
) -> None:
    caller = await workshop.caller()
    (job_id,) = await workshop.queued(caller, picture=astronaut)

    patient = asyncio.create_task(workshop.cutouts.wait(job_id, None, wait_s=20))
    in_a_hurry = await workshop.cutouts.wait(job_id, None, wait_s=0.01)
    await workshop.work_off()

    assert in_a_hurry.state == QUEUED
    assert (await asyncio.wait_for(patient, 5)).state == SUCCEEDED


async def test_many_who_wait_cost_one_look_at_the_database_at_a_time(
    workshop: Workshop, astronaut: bytes, engine: AsyncEngine
) -> None:
    caller = await workshop.caller()
    (job_id,) = await workshop.queued(caller, picture=astronaut)
    asked: list[str] = []

    def note(*said: Any) -> None:
        asked.append(said[2])

    event.listen(engine.sync_engine, "before_cursor_execute", note)
    await asyncio.gather(
        *(workshop.cutouts.wait(job_id, None, wait_s=1.5) for _ in range(60)),
    )
    event.remove(engine.sync_engine, "before_cursor_execute", note)

    looks = [said for said in asked if "FROM job" in said]
    assert len(looks) <= 2 * 60 + 7, "one as each comes, one as he goes, one for all each 250 ms"
    await workshop.work_off()


async def test_who_comes_when_too_many_wait_is_answered_at_once(
    workshop: Workshop, astronaut: bytes
) -> None:
    caller = await workshop.caller()
    (job_id,) = await workshop.queued(caller, picture=astronaut)
    cutouts = replace(workshop.cutouts, waiting=Waiting(waiting_max=1))
    first = asyncio.create_task(cutouts.wait(job_id, None, wait_s=20))
    await asyncio.sleep(0.2)

    assert (await asyncio.wait_for(cutouts.wait(job_id, None, wait_s=20), 10)).state == QUEUED
    assert not first.done()

    await workshop.work_off()
    assert (await first).state == SUCCEEDED
    await cutouts.close()


async def test_a_job_that_would_only_wait_to_fail_is_refused_at_once(
    workshop: Workshop, astronaut: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.backlog.LOOK_S", 0)
    standard = await workshop.caller(queue_class="standard")
    priority = await workshop.caller(queue_class="priority")
    request = workshop.request(standard, astronaut, dialect="revid", idempotency_key=fresh_key())
    first = await workshop.cutouts.submit(request)
    await workshop.queued(standard, picture=astronaut)
    # Two wait for two slots and nobody works: a third's turn is after 650 s, its hold ends at 600.
    workshop.cutouts.admission.service_s = 650

    with pytest.raises(OverloadedError) as refusal:
        await workshop.queued(standard, picture=astronaut)

    assert refusal.value.retry_after_s == 50
    assert len(await workshop.jobs_of(standard)) == 2
    assert (await workshop.cutouts.submit(request)).job_id == first.job_id
    await workshop.queued(priority, picture=astronaut)
    await workshop.clear_queue()


async def test_a_submission_whose_caller_left_before_its_answer_frees_its_key(
    workshop: Workshop, astronaut: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    caller = await workshop.caller()
    request = workshop.request(caller, astronaut, dialect="revid", idempotency_key=fresh_key())
    place_hold, is_placed = ledger.place_hold, asyncio.Event()

    async def place_and_tell(*args: Any, **kwargs: Any) -> Any:
        placed = await place_hold(*args, **kwargs)
        is_placed.set()
        await asyncio.sleep(0.05)
        return placed

    with monkeypatch.context() as patch:
        patch.setattr(ledger, "place_hold", place_and_tell)
        submitting = asyncio.create_task(workshop.cutouts.submit(request))
        await is_placed.wait()
        submitting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await submitting

    (withdrawn,) = await workshop.jobs_of(caller)
    again = await workshop.cutouts.submit(request)

    assert withdrawn.state == CANCELED
    assert not again.is_replayed
    assert (await workshop.cutouts.find(again.job_id)).state == QUEUED
    assert (await workshop.balance(caller)).held == PRICE
    await workshop.clear_queue()


async def test_a_queued_job_is_cancelled_and_its_hold_released(
    workshop: Workshop, astronaut: bytes
) -> None:
    caller = await workshop.caller()
    (job_id,) = await workshop.queued(caller, picture=astronaut)

    job = await workshop.cutouts.cancel(job_id, caller.key.account_id)
    again = await workshop.cutouts.cancel(job_id, caller.key.account_id)

    assert job.state == again.state == CANCELED
    assert await workshop.work_off() == 0
    assert (await workshop.balance(caller)).available == FREE_CREDITS
    assert await workshop.foots(caller)


async def test_a_job_that_was_begun_is_not_cancelled(workshop: Workshop, astronaut: bytes) -> None:
    caller = await workshop.caller()
    (job_id,) = await workshop.queued(caller, picture=astronaut)
    claimed = await workshop.claim()
    assert claimed is not None

    job = await workshop.cutouts.cancel(job_id, caller.key.account_id)

    assert job.state == PROCESSING
    await workshop.cutouts.work(job_id, claimed.attempt)
    assert (await workshop.cutouts.find(job_id)).state == SUCCEEDED


async def test_a_job_is_found_by_its_owner_only(workshop: Workshop, astronaut: bytes) -> None:
    owner, stranger = await workshop.caller(), await workshop.caller()
    (job_id,) = await workshop.queued(owner, picture=astronaut)

    assert (await workshop.cutouts.find(job_id, owner.key.account_id)).id == job_id
    for account_id, asked in [(stranger.key.account_id, job_id), (None, uuid4())]:
        with pytest.raises(JobNotFoundError):
            await workshop.cutouts.find(asked, account_id)
    with pytest.raises(JobNotFoundError):
        await workshop.cutouts.cancel(job_id, stranger.key.account_id)
    await workshop.work_off()


# The fence -----------------------------------------------------------------------------------


async def test_a_worker_that_lost_its_lease_charges_nothing(
    open_workshop: Callable[..., Awaitable[Workshop]], astronaut: bytes
) -> None:
    # Shorter than the run's Postgres has been up: leases of an earlier start are not judged.
    workshop = await open_workshop(lease=0.2, heartbeat=0.1)
    caller = await workshop.caller()
    (job_id,) = await workshop.queued(caller, picture=astronaut)
    zombie = await workshop.claim()
    assert zombie is not None
    await workshop.let_lease_run_out(job_id)
    await workshop.sweeper.sweep()
    successor = await workshop.claim()
    while successor is not None and successor.id != job_id:  # other tests' lost jobs, swept too
        successor = await workshop.claim()
    assert successor is not None
    assert (zombie.attempt, successor.attempt) == (1, 2)

    # It wakes up with what it knew, and goes on as if nothing had happened.
    await workshop.cutouts._attempts.work(zombie)

    assert (await workshop.cutouts.find(job_id)).state == PROCESSING
    assert await workshop.captures_of(job_id) == 0
    with pytest.raises(ResultExpiredError):
        await workshop.cutouts.storage.get(f"results/{job_id}/1.png")
    await workshop.cutouts.work(job_id, successor.attempt)
    assert (await workshop.cutouts.find(job_id)).result_key == f"results/{job_id}/2.png"
    assert await workshop.captures_of(job_id) == 1
    assert (await workshop.balance(caller)).available == FREE_CREDITS - PRICE


async def test_a_ring_for_an_old_attempt_does_nothing(workshop: Workshop, astronaut: bytes) -> None:
    caller = await workshop.caller()
    (job_id,) = await workshop.queued(caller, picture=astronaut)

    await workshop.cutouts.work(job_id, 1)

    assert (await workshop.cutouts.find(job_id)).state == QUEUED, "it was not claimed"
    await workshop.work_off()
    await workshop.cutouts.work(job_id, 1)
    assert await workshop.captures_of(job_id) == 1


def storage_folder(workshop: Workshop) -> Any:
    return workshop.cutouts.storage._folder


async def has_reached_a_stage(workshop: Workshop, job_id: UUID) -> bool:
    return (await workshop.cutouts.find(job_id)).stage is not None
