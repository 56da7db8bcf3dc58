"""Idempotency keys: one request each, for as long as they are kept."""

import asyncio
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from gateway import idempotency
from gateway.errors import IdempotencyMismatchError
from gateway.idempotency import RequestKey
from tests.gateway.workshop import Workshop, fresh_key

DAY = timedelta(days=1)
OVER = timedelta(seconds=-1)


async def claim(
    workshop: Workshop, key: RequestKey, job_id: UUID, *, ttl: timedelta = DAY
) -> UUID | None:
    async with workshop.sessions.begin() as db:
        return await idempotency.claim(db, key, job_id, ttl=ttl)


@pytest.fixture
async def key(workshop: Workshop) -> RequestKey:
    caller = await workshop.caller()
    return RequestKey(caller.key.account_id, "live", fresh_key(), "codia:one-body")


async def test_the_first_claim_wins_and_later_ones_learn_whose_it_is(
    workshop: Workshop, key: RequestKey
) -> None:
    first = uuid4()

    assert await claim(workshop, key, first) is None
    assert await claim(workshop, key, uuid4()) == first


async def test_of_many_claims_at_once_one_wins(workshop: Workshop, key: RequestKey) -> None:
    job_ids = [uuid4() for _ in range(8)]

    answers = await asyncio.gather(*(claim(workshop, key, job_id) for job_id in job_ids))

    (winner,) = [job_id for job_id, answer in zip(job_ids, answers, strict=True) if answer is None]
    assert {answer for answer in answers if answer} == {winner}


async def test_a_claim_that_is_repeated_after_its_commit_is_the_same_claim(
    workshop: Workshop, key: RequestKey
) -> None:
    job_id = uuid4()

    assert await claim(workshop, key, job_id) is None
    assert await claim(workshop, key, job_id) is None


async def test_a_claim_that_is_rolled_back_was_never_there(
    workshop: Workshop, key: RequestKey
) -> None:
    async with workshop.sessions() as db:
        await idempotency.claim(db, key, uuid4(), ttl=DAY)
        await db.rollback()

    assert await claim(workshop, key, uuid4()) is None


async def test_another_body_under_the_same_key_is_refused(
    workshop: Workshop, key: RequestKey
) -> None:
    await claim(workshop, key, uuid4())

    with pytest.raises(IdempotencyMismatchError):
        await claim(workshop, key._replace(fingerprint="codia:another-body"), uuid4())


async def test_an_expired_key_may_stand_for_something_else(
    workshop: Workshop, key: RequestKey
) -> None:
    await claim(workshop, key, uuid4(), ttl=OVER)
    other = key._replace(fingerprint="revid:another-body")
    second = uuid4()

    assert await claim(workshop, other, second) is None
    assert await claim(workshop, other, uuid4()) == second


async def test_what_has_expired_is_purged_and_nothing_else(
    workshop: Workshop, key: RequestKey
) -> None:
    kept, job_id = key._replace(key=fresh_key()), uuid4()
    await claim(workshop, key, uuid4(), ttl=OVER)
    await claim(workshop, kept, job_id)

    async with workshop.sessions.begin() as db:
        await idempotency.purge(db, records_max=1000)
    async with workshop.sessions.begin() as db:
        assert await idempotency.find(db, kept) == job_id
        assert await idempotency.purge(db, records_max=1000) == 0


async def test_each_environment_has_its_own_keys(workshop: Workshop, key: RequestKey) -> None:
    tried, paid = uuid4(), uuid4()

    assert await claim(workshop, key._replace(env="test"), tried, ttl=OVER) is None
    assert await claim(workshop, key, paid) is None
    assert await claim(workshop, key._replace(env="test"), tried) is None
    assert await claim(workshop, key, uuid4()) == paid


async def test_a_forgotten_key_is_free(workshop: Workshop, key: RequestKey) -> None:
    job_id = uuid4()
    await claim(workshop, key, job_id)

    async with workshop.sessions.begin() as db:
        await idempotency.forget(db, job_id)

    assert await claim(workshop, key, uuid4()) is None
