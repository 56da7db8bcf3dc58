"""Jobs in numbers, counted again by hand; and figures that are reckoned once for all who look."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from gateway import figures
from gateway.dashboard.remembered import OLD_S, YOUNG_S, Remembered
from gateway.tables import FAILED, SUCCEEDED
from tests.gateway.workshop import Workshop

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


async def test_calls_are_counted_by_how_they_ended(workshop: Workshop, astronaut: bytes) -> None:
    since, until = datetime.now(UTC) - HOUR, datetime.now(UTC) + HOUR
    async with workshop.sessions() as db:
        before = await figures.calls_over_time(db, since=since, until=until, step="hour")
    caller = await workshop.caller()
    await workshop.queued(caller, picture=astronaut)
    await workshop.queued(caller, picture=b"no picture")
    (canceled,) = await workshop.queued(caller)
    await workshop.cutouts.cancel(canceled, caller.key.account_id)
    await workshop.work_off()

    async with workshop.sessions() as db:
        after = await figures.calls_over_time(db, since=since, until=until, step="hour")
        by_day = await figures.calls_over_time(db, since=since, until=until)
        spent = await figures.latency(db, since=since, until=until)
    for state in ("succeeded", "failed", "canceled"):
        grown = sum(getattr(step, state) for step in after) - sum(
            getattr(step, state) for step in before
        )
        assert grown == 1, state
        assert sum(getattr(step, state) for step in by_day) == sum(
            getattr(step, state) for step in after
        )
    assert all(step.at.minute == 0 for step in after)
    assert spent.jobs == sum(step.succeeded for step in after)
    assert spent.p50_ms is not None
    assert spent.p95_ms is not None
    assert 0 < spent.p50_ms <= spent.p95_ms


async def test_the_latency_is_that_of_the_jobs_themselves(
    workshop: Workshop, astronaut: bytes
) -> None:
    caller = await workshop.caller()
    since = datetime.now(UTC)
    for _ in range(3):
        await workshop.queued(caller, picture=astronaut)
    await workshop.work_off()
    jobs = [job for job in await workshop.jobs_of(caller) if job.state == SUCCEEDED]
    took_ms = sorted(
        (job.finished_at - job.created_at).total_seconds() * 1000
        for job in jobs
        if job.finished_at is not None
    )

    async with workshop.sessions() as db:
        spent = await figures.latency(db, since=since, until=datetime.now(UTC) + HOUR)

    assert (spent.jobs, len(took_ms)) == (3, 3)
    assert (spent.p50_ms, spent.p95_ms) == (round(took_ms[1]), round(took_ms[2]))


async def test_where_nothing_ended_there_is_no_latency(workshop: Workshop) -> None:
    long_ago = datetime(2001, 1, 1, tzinfo=UTC)
    async with workshop.sessions() as db:
        spent = await figures.latency(db, since=long_ago, until=long_ago + DAY)
        assert await figures.calls_over_time(db, since=long_ago, until=long_ago + DAY) == []
    assert (spent.jobs, spent.p50_ms, spent.waited_p95_ms) == (0, None, None)


async def test_only_hours_and_days_are_counted_by(workshop: Workshop) -> None:
    now = datetime.now(UTC)
    async with workshop.sessions() as db:
        with pytest.raises(ValueError, match="minute"):
            await figures.calls_over_time(db, since=now, until=now, step="minute")


async def test_the_queue_is_as_old_as_its_oldest_job(workshop: Workshop) -> None:
    async with workshop.sessions() as db:
        assert (await figures.queue(db)).oldest_s is None
    caller = await workshop.caller()
    first, _ = await workshop.queued(caller, count=2)

    async with workshop.sessions() as db:
        queue = await figures.queue(db)
    job = await workshop.cutouts.find(first)
    assert queue.waiting == 2
    assert queue.oldest_at == job.created_at
    assert queue.oldest_s is not None
    assert queue.oldest_s >= 0
    await workshop.work_off()
    assert {job.state for job in await workshop.jobs_of(caller)} == {FAILED}


class Clock:
    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


async def test_figures_are_reckoned_once_for_all_who_look_at_once() -> None:
    remembered, count = Remembered(Clock()), 0

    async def reckon() -> int:
        nonlocal count
        count += 1
        await asyncio.sleep(0.01)
        return count

    found = await asyncio.gather(*(remembered.get("f", reckon) for _ in range(9)))
    assert {one.value for one in found} == {1}
    assert (await remembered.get("g", reckon)).value == 2


async def test_old_figures_are_given_while_new_ones_are_reckoned_and_too_old_ones_never() -> None:
    clock = Clock()
    remembered, count = Remembered(clock), 0

    async def reckon() -> int:
        nonlocal count
        count += 1
        return count

    await remembered.get("f", reckon)
    clock.now_s += YOUNG_S - 1
    assert (await remembered.get("f", reckon)).value == 1
    clock.now_s += 2
    assert (await remembered.get("f", reckon)).value == 1
    await asyncio.sleep(0.01)
    assert (await remembered.get("f", reckon)).value == 2
    clock.now_s += OLD_S
    assert (await remembered.get("f", reckon)).value == 3


async def test_figures_that_could_not_be_reckoned_are_asked_for_anew() -> None:
    remembered, is_broken = Remembered(Clock()), True

    async def reckon() -> str:
        if is_broken:
            raise RuntimeError("no database")
        return "there"

    with pytest.raises(RuntimeError):
        await remembered.get("f", reckon)
    is_broken = False
    assert (await remembered.get("f", reckon)).value == "there"
