"""The sweeper: what crashed or came too late is ended free, what is over is cleared away."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from gateway.errors import ResultExpiredError, StorageUnavailableError
from gateway.sweep import Sweeper, sweep_forever
from gateway.tables import FAILED, PROCESSING, QUEUED, SUCCEEDED
from tests.gateway.workshop import OpenWorkshop, Workshop, fresh_key, until

FREE_CREDITS = 250
PRICE = 25
DAY_S = 86_400


@pytest.fixture
async def workshop(open_workshop: Callable[..., Awaitable[Workshop]]) -> Workshop:
    """Have leases that are shorter than the run's Postgres has been up."""
    return await open_workshop(lease=0.2, heartbeat=0.1)


def folder_of(workshop: Workshop) -> Path:
    return workshop.cutouts.storage._folder


async def test_a_lost_attempt_goes_to_the_next_one(workshop: Workshop, astronaut: bytes) -> None:
    caller = await workshop.caller()
    (job_id,) = await workshop.queued(caller, picture=astronaut)
    await workshop.claim()
    await workshop.let_lease_run_out(job_id)

    await workshop.sweeper.sweep()

    job = await workshop.cutouts.find(job_id)
    assert (job.state, job.attempt, job.lease_until) == (QUEUED, 2, None)
    assert (await workshop.balance(caller)).held == PRICE
    await workshop.work_off()
    assert await workshop.captures_of(job_id) == 1


async def test_a_live_lease_is_left_alone(workshop: Workshop, astronaut: bytes) -> None:
    caller = await workshop.caller()
    (job_id,) = await workshop.queued(caller, picture=astronaut)
    claimed = await workshop.claim()
    assert claimed is not None

    await workshop.sweeper.sweep()

    assert (await workshop.cutouts.find(job_id)).fence == claimed.fence
    await workshop.cutouts.work(*claimed.fence)


async def test_leases_are_not_judged_while_heartbeats_may_have_been_lost(
    workshop: Workshop, astronaut: bytes
) -> None:
    caller = await workshop.caller()
    (job_id,) = await workshop.queued(caller, picture=astronaut)
    claimed = await workshop.claim()
    assert claimed is not None
    await workshop.let_lease_run_out(job_id)

    await workshop.sweeper.sweep(are_leases_true=False)

    assert (await workshop.cutouts.find(job_id)).state == PROCESSING
    await workshop.cutouts.work(*claimed.fence)


async def test_a_picture_that_kills_its_worker_is_given_up_free(
    workshop: Workshop, astronaut: bytes
) -> None:
    caller = await workshop.caller()
    (job_id,) = await workshop.queued(caller, picture=astronaut)

    for attempt in range(1, workshop.settings.job_attempts_max + 1):
        claimed = await workshop.claim()
        assert claimed is not None
        assert claimed.attempt == attempt
        await workshop.let_lease_run_out(job_id)
        await workshop.sweeper.sweep()

    job = await workshop.cutouts.find(job_id)
    assert (job.state, job.error_code) == (FAILED, "internal_error")
    assert (await workshop.balance(caller)).available == FREE_CREDITS
    assert await workshop.foots(caller)


async def test_a_job_past_its_deadline_is_failed_whether_begun_or_not(
    workshop: Workshop, astronaut: bytes
) -> None:
    caller = await workshop.caller()
    begun, waiting = await workshop.queued(caller, count=2, picture=astronaut)
    claimed = await workshop.claim()
    assert claimed is not None
    for job_id in (begun, waiting):
        await workshop.let_deadline_pass(job_id)

    await workshop.sweeper.sweep()
    await workshop.cutouts._attempts.work(claimed)  # its worker knows nothing of it

    for job_id in (begun, waiting):
        job = await workshop.cutouts.find(job_id)
        assert (job.state, job.error_code) == (FAILED, "deadline_exceeded")
        assert await workshop.hold_state(job_id) == "released"
    assert (await workshop.balance(caller)).available == FREE_CREDITS


async def test_many_sweepers_at_once_release_once(workshop: Workshop, astronaut: bytes) -> None:
    caller = await workshop.caller()
    job_ids = await workshop.queued(caller, count=4, picture=astronaut)
    for job_id in job_ids:
        await workshop.let_deadline_pass(job_id)

    await asyncio.gather(*(workshop.sweeper.sweep() for _ in range(6)))

    balance = await workshop.balance(caller)
    assert (balance.available, balance.held) == (FREE_CREDITS, 0)
    assert await workshop.foots(caller)


async def test_a_crashed_request_frees_its_idempotency_key(
    workshop: Workshop, astronaut: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    caller = await workshop.caller()
    request = workshop.request(caller, astronaut, idempotency_key=fresh_key())
    with monkeypatch.context() as patch:
        # The process is gone between T1 and T2: nothing after T1 happens.
        patch.setattr(type(workshop.cutouts._attempts), "answer", vanish)
        with pytest.raises(VanishedError):
            await workshop.cutouts.run(request)
    (crashed,) = await workshop.jobs_of(caller)
    await workshop.let_lease_run_out(crashed.id)

    await workshop.sweeper.sweep()
    done = await workshop.cutouts.run(request)

    assert (await workshop.cutouts.find(crashed.id)).state == FAILED
    assert not done.is_replayed
    assert (await workshop.balance(caller)).available == FREE_CREDITS - PRICE


async def test_the_source_of_an_ended_job_is_deleted(
    open_workshop: OpenWorkshop, astronaut: bytes
) -> None:
    workshop = await open_workshop(failed_source_ttl=timedelta(0), keep_sources=False)
    caller = await workshop.caller()
    good, bad = [
        (await workshop.queued(caller, picture=picture))[0]
        for picture in (astronaut, b"GIF89a" + bytes(64))
    ]
    await workshop.work_off()

    await workshop.sweeper.sweep()

    for job_id in (good, bad):
        job = await workshop.cutouts.find(job_id)
        assert job.is_tidy
        assert not await workshop.cutouts.storage.exists(str(job.source_key))
    done = await workshop.cutouts.find(good)
    assert await workshop.cutouts.storage.exists(str(done.result_key))


async def test_the_result_of_an_attempt_that_came_to_nothing_is_deleted(
    workshop: Workshop, astronaut: bytes
) -> None:
    caller = await workshop.caller()
    (job_id,) = await workshop.queued(caller, picture=astronaut)
    await workshop.claim()
    # Stored, and then the worker died.
    await workshop.cutouts.storage.put(f"results/{job_id}/1.png", b"of the dead")
    await workshop.let_lease_run_out(job_id)
    await workshop.sweeper.sweep()
    await workshop.work_off()

    await workshop.sweeper.sweep()

    assert not await workshop.cutouts.storage.exists(f"results/{job_id}/1.png")
    assert await workshop.cutouts.storage.exists(f"results/{job_id}/2.png")


async def test_a_result_is_kept_until_it_expires_and_then_purged(
    workshop: Workshop, astronaut: bytes
) -> None:
    caller = await workshop.caller()
    done = await workshop.cutouts.run(workshop.request(caller, astronaut))

    await workshop.sweeper.sweep()
    assert await workshop.cutouts.storage.exists(done.result_key)
    await workshop.let_result_expire(done.job_id)
    await workshop.sweeper.sweep()

    with pytest.raises(ResultExpiredError):
        await workshop.cutouts.storage.get(done.result_key)
    job = await workshop.cutouts.find(done.job_id)
    assert job.state == SUCCEEDED
    assert job.purged_at is not None
    assert job.charged_credits == PRICE


async def test_the_upload_of_a_failed_job_is_kept_for_a_while(workshop: Workshop) -> None:
    caller = await workshop.caller()
    (job_id,) = await workshop.queued(caller, picture=b"GIF89a" + bytes(64))
    await workshop.work_off()

    await workshop.sweeper.sweep()

    job = await workshop.cutouts.find(job_id)
    assert job.state == FAILED
    assert await workshop.cutouts.storage.exists(str(job.source_key))


async def test_uploads_that_no_job_came_of_are_purged_in_time(
    open_workshop: OpenWorkshop, astronaut: bytes
) -> None:
    workshop = await open_workshop(failed_source_ttl=timedelta(0))
    caller = await workshop.caller()
    (job_id,) = await workshop.queued(caller, picture=astronaut)
    await workshop.cutouts.storage.put("sources/orphan/source", b"nobody's")
    long_ago = time.time() - 400 * DAY_S
    os.utime(folder_of(workshop) / "sources/orphan/source", (long_ago, long_ago))

    assert await workshop.sweeper.purge_orphans() == 1

    assert not await workshop.cutouts.storage.exists("sources/orphan/source")
    assert await workshop.cutouts.storage.exists(f"sources/{job_id}/source")
    await workshop.work_off()


async def test_results_that_no_job_came_of_are_purged_after_the_longest_plan(
    workshop: Workshop, astronaut: bytes
) -> None:
    caller = await workshop.caller()
    done = await workshop.cutouts.run(workshop.request(caller, astronaut))
    folder = folder_of(workshop) / "results"
    for name, age_days in (("of-the-dead", 400), ("of-yesterday", 1)):
        await workshop.cutouts.storage.put(f"results/{name}/1.png", b"x")
        (folder / name / "1.png#1").write_bytes(b"half")
        for path in (folder / name).iterdir():
            os.utime(path, (time.time() - age_days * DAY_S,) * 2)

    assert await workshop.sweeper.purge_orphans() == 1

    left = {path.parent.name for path in folder.rglob("*.png*")}
    assert left == {"of-yesterday", str(done.job_id)}


async def test_what_cannot_be_deleted_holds_nothing_else_up(
    open_workshop: OpenWorkshop, astronaut: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    workshop = await open_workshop(failed_source_ttl=timedelta(0))
    caller = await workshop.caller()
    stuck, other = await workshop.queued(caller, count=2, picture=b"GIF89a" + bytes(64))
    await workshop.work_off()
    done = await workshop.cutouts.run(workshop.request(caller, astronaut))
    await workshop.let_result_expire(done.job_id)
    refuse_to_delete(f"sources/{stuck}/source", workshop, monkeypatch)

    assert await workshop.sweeper.sweep(), "Postgres was there"

    assert not (await workshop.cutouts.find(stuck)).is_tidy
    assert (await workshop.cutouts.find(other)).is_tidy
    assert (await workshop.cutouts.find(done.job_id)).purged_at is not None


async def test_a_batch_that_cannot_be_deleted_is_passed_by(
    open_workshop: OpenWorkshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    workshop = await open_workshop(failed_source_ttl=timedelta(0))
    caller = await workshop.caller()
    await workshop.sweeper.sweep()
    stuck, other = await workshop.queued(caller, count=2, picture=b"GIF89a" + bytes(64))
    await workshop.work_off()
    refuse_to_delete(f"sources/{stuck}/source", workshop, monkeypatch)
    monkeypatch.setattr("gateway.sweep.BATCH_MAX", 1)
    sweeper = workshop.sweeper

    async def has_tidied_the_other() -> bool:
        await sweeper.sweep()
        return (await workshop.cutouts.find(other)).is_tidy

    await until(has_tidied_the_other)
    monkeypatch.undo()
    await until(lambda: is_tidied(workshop, sweeper, stuck))


async def test_a_store_that_fails_does_not_keep_lost_jobs_from_being_taken_back(
    workshop: Workshop, astronaut: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    caller = await workshop.caller()
    await workshop.queued(caller, picture=b"GIF89a" + bytes(64))
    await workshop.work_off()

    async def fail(key: str) -> None:
        raise RuntimeError(key)

    monkeypatch.setattr(workshop.cutouts.storage, "delete", fail)
    sweeper = replace(
        workshop.sweeper,
        settings=workshop.settings.model_copy(update={"sweep_interval": timedelta(seconds=0.02)}),
    )
    sweeping = asyncio.create_task(sweep_forever(sweeper))
    try:
        await asyncio.sleep(0.3)  # it has failed by now
        (job_id,) = await workshop.queued(caller, picture=astronaut)
        await workshop.claim()  # and its worker dies: the lease of 0.2 s is not prolonged
        await until(lambda: is_in_attempt(workshop, job_id, 2))
    finally:
        sweeping.cancel()
        await asyncio.gather(sweeping, return_exceptions=True)
    await workshop.clear_queue()


def refuse_to_delete(key: str, workshop: Workshop, patch: pytest.MonkeyPatch) -> None:
    """Let one object not be deleted. Patched, since for root no folder is closed."""
    storage = workshop.cutouts.storage
    delete = storage.delete

    async def refuse_one(asked: str) -> None:
        if asked == key:
            raise StorageUnavailableError(asked)
        await delete(asked)

    patch.setattr(storage, "delete", refuse_one)


async def is_in_attempt(workshop: Workshop, job_id: UUID, attempt: int) -> bool:
    return (await workshop.cutouts.find(job_id)).attempt == attempt


async def is_tidied(workshop: Workshop, sweeper: Sweeper, job_id: UUID) -> bool:
    await sweeper.sweep()
    return (await workshop.cutouts.find(job_id)).is_tidy


class VanishedError(Exception):
    """Stands for the end of a process."""


async def vanish(*_: Any) -> None:
    raise VanishedError
