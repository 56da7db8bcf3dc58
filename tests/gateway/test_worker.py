"""The worker: woken by arq, not dependent on it; stops without losing or charging anything."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from uuid import UUID

import pytest
from redis.asyncio import Redis

from gateway import worker as module
from gateway.cutouts import Cutouts
from gateway.tables import PROCESSING, QUEUED, SUCCEEDED
from gateway.worker import Worker
from tests.gateway.workshop import Workshop

NOWHERE = "redis://127.0.0.1:1/0"
OpenWorkshop = Callable[..., Awaitable[Workshop]]


@asynccontextmanager
async def at_work(workshop: Workshop) -> AsyncIterator[Worker]:
    """Run a worker in this process, and stop it as SIGTERM does."""
    worker = Worker(workshop.settings, workshop.cutouts)
    running = asyncio.create_task(worker.run())
    try:
        yield worker
    finally:
        worker.stop()
        await asyncio.wait_for(running, 60)


async def test_a_submission_wakes_a_worker_that_is_not_looking(
    workshop: Workshop, astronaut: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "POLL_S", 600.0)  # from here on, only the bell can wake it
    caller = await workshop.caller()
    async with at_work(workshop):
        await asyncio.sleep(0.5)  # it has looked once, and found nothing

        for _ in range(3):
            (job_id,) = await workshop.queued(caller, picture=astronaut)
            job = await workshop.cutouts.wait(job_id, None, wait_s=20)
            assert job.state == SUCCEEDED


async def test_without_redis_a_worker_looks_for_itself(
    open_workshop: OpenWorkshop, astronaut: bytes
) -> None:
    workshop = await open_workshop(redis_url=NOWHERE)
    caller = await workshop.caller()

    async with at_work(workshop):
        job_ids = await workshop.queued(caller, count=3, picture=astronaut)
        jobs = [await workshop.cutouts.wait(job_id, None, wait_s=20) for job_id in job_ids]

    assert {job.state for job in jobs} == {SUCCEEDED}


async def test_a_bell_that_was_lost_is_rung_again_by_the_relay(
    workshop: Workshop, redis_url: str, astronaut: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "POLL_S", 600.0)
    caller = await workshop.caller()
    redis = Redis.from_url(redis_url)
    async with at_work(workshop):
        await asyncio.sleep(0.5)
        with monkeypatch.context() as patch:
            patch.setattr(type(workshop.cutouts.bell), "ring", unheard)
            (job_id,) = await workshop.queued(caller, picture=astronaut)
        await redis.flushall()

        job = await workshop.cutouts.wait(job_id, None, wait_s=20)
    await redis.aclose()

    assert job.state == SUCCEEDED


async def test_a_worker_does_as_much_at_once_as_it_has_slots(
    open_workshop: OpenWorkshop, big_picture: bytes
) -> None:
    workshop = await open_workshop(inference_slots=2)
    caller = await workshop.caller(plan="starter")
    async with at_work(workshop):
        await workshop.queued(caller, count=5, picture=big_picture)
        at_once, ended = 0, 0
        while ended < 5:
            states = Counter([job.state for job in await workshop.jobs_of(caller)])
            at_once, ended = max(at_once, states[PROCESSING]), states[SUCCEEDED]
            await asyncio.sleep(0.02)

    assert at_once == 2


async def test_a_worker_that_is_stopped_finishes_what_it_has_and_begins_nothing(
    open_workshop: OpenWorkshop, big_picture: bytes
) -> None:
    workshop = await open_workshop(inference_slots=1)
    caller = await workshop.caller()
    async with at_work(workshop) as worker:
        first, second = await workshop.queued(caller, count=2, picture=big_picture)
        await until_begun(workshop, 1)
        worker.stop()

    assert (await workshop.cutouts.find(first)).state == SUCCEEDED
    assert (await workshop.cutouts.find(second)).state == QUEUED
    await workshop.work_off()


async def test_what_is_not_finished_within_the_grace_is_handed_back_free(
    open_workshop: OpenWorkshop, big_picture: bytes
) -> None:
    workshop = await open_workshop(inference_slots=1, shutdown_grace=0.05)
    caller = await workshop.caller()
    async with at_work(workshop) as worker:
        (job_id,) = await workshop.queued(caller, picture=big_picture)
        await until_begun(workshop, 1)
        worker.stop()

    job = await workshop.cutouts.find(job_id)
    assert (job.state, job.attempt) == (QUEUED, 2)
    assert await workshop.captures_of(job_id) == 0
    await workshop.work_off()
    assert await workshop.captures_of(job_id) == 1


async def test_the_standard_queue_is_not_starved(
    open_workshop: OpenWorkshop, astronaut: bytes
) -> None:
    workshop = await open_workshop(inference_slots=1)
    enterprise = await workshop.caller(plan="growth", queue_class="priority")
    standard = await workshop.caller()
    await workshop.queued(enterprise, count=12, picture=astronaut)
    (patient,) = await workshop.queued(standard, picture=astronaut)

    async with at_work(workshop):
        for job in (*await workshop.jobs_of(enterprise), *await workshop.jobs_of(standard)):
            assert (await workshop.cutouts.wait(job.id, None, wait_s=60)).state == SUCCEEDED

    (job,) = await workshop.jobs_of(standard)
    began = [each.started_at for each in await workshop.jobs_of(enterprise) if each.started_at]
    assert job.id == patient
    assert job.started_at, "it has begun"
    assert job.started_at < max(began), "it had its turn before the priority queue was empty"


async def test_a_runner_outlives_what_nobody_foresaw(
    open_workshop: OpenWorkshop, astronaut: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    workshop = await open_workshop(inference_slots=1, lease=1, heartbeat=0.5)
    caller = await workshop.caller()
    work, calls = Cutouts.work, []

    async def fail_once(cutouts: Cutouts, job_id: UUID, attempt: int) -> None:
        calls.append(attempt)
        if len(calls) == 1:
            raise RuntimeError("nobody foresaw this")
        await work(cutouts, job_id, attempt)

    monkeypatch.setattr(Cutouts, "work", fail_once)
    async with at_work(workshop):
        (job_id,) = await workshop.queued(caller, picture=astronaut)
        job = await workshop.cutouts.wait(job_id, None, wait_s=20)

    assert job.state == SUCCEEDED
    assert calls == [1, 2], "the lease ran out, and the next attempt went well"


async def unheard(*_: object) -> bool:
    return False


async def until_begun(workshop: Workshop, count: int) -> None:
    async with asyncio.timeout(20):
        while workshop.cutouts.admission.running_count < count:  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0.01)
