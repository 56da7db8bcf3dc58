"""The judge of the kill storm names each fault: a storm that finds nothing has looked."""

from collections.abc import AsyncIterator, Iterator
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from bench.proofs.storm_ground import (
    Ground,
    laid,
    open_customers,
    opened,
    picture,
    request_for,
)
from bench.proofs.storm_verdict import Verdict, judge
from gateway import jobs
from gateway.cutouts import Cutouts


@pytest.fixture(scope="module")
def ground() -> Iterator[Ground]:
    """Servers of their own: the judge asks about everything there is."""
    with laid(is_durable=False) as ground:
        yield ground


@pytest.fixture
async def cutouts(ground: Ground) -> AsyncIterator[Cutouts]:
    async with opened(ground.settings) as cutouts:
        yield cutouts
        cutouts.inference.close()


@pytest.fixture
async def told(cutouts: Cutouts) -> set[UUID]:
    """Two jobs more, all of them done, and what their callers were told."""
    (customer,) = await open_customers(cutouts.sessions, 1)
    for _ in range(2):
        await cutouts.submit(request_for(customer, picture(128)))
    while True:
        async with cutouts.sessions.begin() as db:
            job = await jobs.claim(db, lease=cutouts.settings.lease)
        if job is None:
            break
        await cutouts.work(job.id, job.attempt)
    async with cutouts.sessions.begin() as db:
        return set(await db.scalars(text("SELECT id FROM job")))


async def faults(cutouts: Cutouts, told: set[UUID]) -> dict[str, int]:
    verdict: Verdict = await judge(cutouts.sessions, cutouts.storage, told)
    assert verdict.is_clean == (not any(verdict.violations.values()) and not verdict.invariants)
    return {what: count for what, count in verdict.violations.items() if count}


async def test_where_all_went_well_there_is_no_fault(cutouts: Cutouts, told: set[UUID]) -> None:
    assert await faults(cutouts, told) == {}


async def test_a_charge_that_answers_no_request_is_a_double_charge(
    cutouts: Cutouts, told: set[UUID]
) -> None:
    told.pop()
    assert await faults(cutouts, told) == {"double charges": 1}


async def test_a_job_that_is_not_there_is_lost(cutouts: Cutouts, told: set[UUID]) -> None:
    assert await faults(cutouts, told | {uuid4()}) == {"jobs lost": 1}


async def test_a_result_that_is_not_there_is_missing(cutouts: Cutouts, told: set[UUID]) -> None:
    job = await cutouts.find(max(told))
    result = await cutouts.storage.get(str(job.result_key))
    await cutouts.storage.delete(str(job.result_key))
    assert await faults(cutouts, told) == {"results missing": 1}
    await cutouts.storage.put(str(job.result_key), result)


async def test_a_job_that_waits_for_ever_keeps_its_hold(cutouts: Cutouts, told: set[UUID]) -> None:
    (customer,) = await open_customers(cutouts.sessions, 1)
    submitted = await cutouts.submit(request_for(customer, picture(32)))

    assert await faults(cutouts, told | {submitted.job_id}) == {
        "jobs lost": 1,
        "jobs that have not ended": 1,
        "holds left open": 1,
        "credits left held": 25,
    }
