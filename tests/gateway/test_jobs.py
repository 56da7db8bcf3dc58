"""Job rows: whose turn it is, who may change them, what the database itself forbids."""

import asyncio
from collections import Counter
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway import jobs
from gateway.tables import CANCELED, FAILED, PROCESSING, QUEUED, SUCCEEDED, Fence, Job, Outbox
from tests.gateway.workshop import Workshop

LEASE = timedelta(seconds=15)
RESULT = {
    "result_key": "results/x/1.png",
    "extension": "png",
    "media_type": "image/png",
    "result_bytes": 3,
}


async def test_a_job_is_claimed_by_one_worker_only(workshop: Workshop) -> None:
    caller = await workshop.caller()
    job_ids = await workshop.queued(caller, count=4)

    claimed = await asyncio.gather(*(workshop.claim() for _ in range(8)))

    taken = [job.id for job in claimed if job is not None]
    assert sorted(taken) == sorted(job_ids)


async def test_one_accounts_jobs_are_taken_in_their_order(workshop: Workshop) -> None:
    caller = await workshop.caller()
    job_ids = await workshop.queued(caller, count=4)

    taken = [await workshop.claim() for _ in job_ids]

    assert [job.id for job in taken if job] == job_ids


async def test_a_claimed_job_is_under_a_lease_and_its_bell_is_gone(workshop: Workshop) -> None:
    caller = await workshop.caller()
    (job_id,) = await workshop.queued(caller)

    job = await workshop.claim()

    assert job is not None
    assert (job.state, job.attempt) == (PROCESSING, 1)
    assert job.lease_until is not None
    assert job.started_at is not None
    assert timedelta(seconds=14) < job.lease_until - job.started_at <= LEASE
    async with workshop.sessions.begin() as db:
        assert await db.get(Outbox, 1) is None
        assert not (await db.execute(text("SELECT 1 FROM outbox"))).all()
    assert (await workshop.cutouts.find(job_id)).fence == job.fence


async def test_accounts_take_turns_however_much_one_of_them_has_queued(
    workshop: Workshop,
) -> None:
    busy, *others = [await workshop.caller(plan="starter") for _ in range(4)]
    await workshop.queued(busy, count=12)
    for other in others:
        await workshop.queued(other, count=2)

    first_eight = [await workshop.claim() for _ in range(8)]

    turns = Counter(job.account_id for job in first_eight if job)
    assert set(turns.values()) == {2}


async def test_the_turn_goes_round_even_if_jobs_end_between_claims(workshop: Workshop) -> None:
    callers = [await workshop.caller(plan="starter") for _ in range(3)]
    for caller in callers:
        await workshop.queued(caller, count=3)

    served = []
    for _ in range(9):
        job = await workshop.claim()
        assert job is not None
        served.append(job.account_id)
        async with workshop.sessions.begin() as db:
            assert await jobs.fail(db, job.fence, code="internal_error", kind=None, facts={})

    for begin in range(0, 9, 3):
        assert len(set(served[begin : begin + 3])) == 3


async def test_priority_goes_first_and_standard_keeps_its_tenth(workshop: Workshop) -> None:
    enterprise = await workshop.caller(plan="growth", queue_class="priority")
    standard = await workshop.caller(plan="growth")
    await workshop.queued(standard, count=3)
    await workshop.queued(enterprise, count=18)

    taken = [await workshop.claim(is_standard_first=n % 10 == 0) for n in range(1, 21)]

    classes = [job.queue_class for job in taken if job]
    assert classes[:9] == ["priority"] * 9
    assert (classes[9], classes[19]) == ("standard", "standard")
    assert classes.count("standard") == 2


async def test_a_job_is_not_taken_before_its_pause_is_over(workshop: Workshop) -> None:
    caller = await workshop.caller()
    await workshop.queued(caller)
    job = await workshop.claim()
    assert job is not None
    async with workshop.sessions.begin() as db:
        assert await jobs.requeue(db, job.fence, pause=timedelta(seconds=30))

    assert await workshop.claim() is None


async def test_a_requeued_job_has_a_new_attempt_and_a_new_bell(workshop: Workshop) -> None:
    caller = await workshop.caller()
    await workshop.queued(caller)
    job = await workshop.claim()
    assert job is not None

    async with workshop.sessions.begin() as db:
        assert await jobs.requeue(db, job.fence)

    async with workshop.sessions.begin() as db:
        bells = (await db.execute(text("SELECT job_id, attempt FROM outbox"))).all()
    assert bells == [(job.id, 2)]


@pytest.mark.parametrize("attempt", [1, 3])
async def test_only_the_present_attempt_passes_the_fence(workshop: Workshop, attempt: int) -> None:
    caller = await workshop.caller()
    await workshop.queued(caller)
    job = await workshop.claim()
    assert job is not None
    async with workshop.sessions.begin() as db:
        await jobs.requeue(db, job.fence)
    second = await workshop.claim()
    assert second is not None
    other = Fence(job.id, attempt)

    async with workshop.sessions.begin() as db:
        assert not await jobs.heartbeat(db, other, lease=LEASE, stage="encode", progress=85)
        assert await jobs.succeed(db, other, RESULT) is None
        assert await jobs.fail(db, other, code="x", kind=None, facts={}) is None
        assert await jobs.cancel(db, other, states=(QUEUED, PROCESSING)) is None
        assert await jobs.requeue(db, other) is None

    assert (await workshop.cutouts.find(job.id)).fence == second.fence
    async with workshop.sessions.begin() as db:
        assert await jobs.heartbeat(db, second.fence, lease=LEASE, stage="encode", progress=85)
        assert await jobs.succeed(db, second.fence, RESULT)


async def test_a_job_ends_once(workshop: Workshop) -> None:
    caller = await workshop.caller()
    await workshop.queued(caller)
    job = await workshop.claim()
    assert job is not None
    async with workshop.sessions.begin() as db:
        assert await jobs.fail(db, job.fence, code="deadline_exceeded", kind=None, facts={})

    async with workshop.sessions.begin() as db:
        assert await jobs.succeed(db, job.fence, RESULT) is None
        assert await jobs.cancel(db, job.fence, states=(QUEUED, PROCESSING)) is None

    assert (await workshop.cutouts.find(job.id)).state == FAILED


@pytest.mark.parametrize(
    "wrong",
    [
        {"state": "lost"},
        {"state": SUCCEEDED},
        {"state": FAILED},
        {"state": CANCELED},
        {"state": PROCESSING},
        {"charged_credits": 25},
        {"queue_class": "vip"},
        {"attempt": 0},
        {"progress": 101},
        {"result_key": "results/x/1.png"},
    ],
)
async def test_the_database_refuses_a_job_that_contradicts_itself(
    workshop: Workshop, wrong: dict[str, Any]
) -> None:
    caller = await workshop.caller()
    (job_id,) = await workshop.queued(caller)

    with pytest.raises(IntegrityError):
        async with workshop.sessions.begin() as db:
            await db.execute(update(Job).where(Job.id == job_id).values(**wrong))


async def test_the_claim_reads_no_more_the_more_jobs_wait(
    workshop: Workshop, owner_engine: AsyncEngine
) -> None:
    caller = await workshop.caller()
    (job_id,) = await workshop.queued(caller)
    hop = text(
        "EXPLAIN (ANALYZE, FORMAT JSON) SELECT account_id FROM job WHERE state = 'queued'"
        " AND queue_class = 'standard' AND account_id > :after ORDER BY account_id LIMIT 1"
    )
    async with owner_engine.connect() as db:
        # 5,000 copies of the one job, for the length of this transaction.
        columns = [column.name for column in Job.__table__.columns if column.name != "id"]
        names = ", ".join(columns)
        await db.execute(
            text(
                f"INSERT INTO job (id, {names}) SELECT gen_random_uuid(), {names} FROM job,"  # noqa: S608 - our own column names
                " generate_series(1, 5000) WHERE id = :id"
            ),
            {"id": job_id},
        )
        await db.execute(text("ANALYZE job"))
        plan = (await db.execute(hop, {"after": UUID(int=0)})).scalar_one()
        await db.rollback()

    (scan,) = [node for node in nodes(plan) if "Index Name" in node]
    assert scan["Index Name"] == "ix_job_queued"
    assert scan["Actual Rows"] == 1


def nodes(plan: Any) -> list[dict[str, Any]]:
    """List every node of a plan that EXPLAIN has given as JSON."""
    found: list[dict[str, Any]] = []
    todo = [plan[0]["Plan"]]
    while todo:
        node = todo.pop()
        found.append(node)
        todo += node.get("Plans", [])
    return found
