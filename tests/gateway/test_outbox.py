"""The bell: rung after the commit, rung again if need be, and never anybody's problem."""

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import uuid4

import pytest
from redis.asyncio import Redis
from sqlalchemy import text

from gateway.outbox import QUEUE_NAMES, Bell, connect, relay
from tests.gateway.workshop import Workshop

NOWHERE = "redis://127.0.0.1:1/0"
OLD = timedelta(seconds=5)


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    redis = Redis.from_url(redis_url)
    for queue in QUEUE_NAMES.values():
        await redis.delete(queue)
    yield redis
    await redis.aclose()


async def rung(redis: Redis, queue_class: str = "standard") -> list[str]:
    return [name.decode() for name in await redis.zrange(QUEUE_NAMES[queue_class], 0, -1)]


async def age_the_outbox(workshop: Workshop) -> None:
    async with workshop.sessions.begin() as db:
        await db.execute(text("UPDATE outbox SET created_at = now() - interval '5 seconds'"))


async def count_outbox(workshop: Workshop) -> int:
    async with workshop.sessions.begin() as db:
        return int((await db.execute(text("SELECT count(*) FROM outbox"))).scalar_one())


async def test_a_submission_rings_for_its_first_attempt(workshop: Workshop, redis: Redis) -> None:
    standard = await workshop.caller()
    enterprise = await workshop.caller(env="enterprise")

    (slow,) = await workshop.queued(standard)
    (fast,) = await workshop.queued(enterprise)

    assert await rung(redis, "standard") == [f"{slow}:1"]
    assert await rung(redis, "priority") == [f"{fast}:1"]


async def test_a_ring_carries_the_job_and_attempt_as_json(workshop: Workshop, redis: Redis) -> None:
    (job_id,) = await workshop.queued(await workshop.caller())

    body = json.loads(await redis.get(f"arq:job:{job_id}:1"))

    assert (body["f"], body["a"]) == ("ring", [str(job_id), 1])


async def test_a_bell_that_was_not_rung_is_rung_later(workshop: Workshop, redis: Redis) -> None:
    (job_id,) = await workshop.queued(await workshop.caller())
    await redis.flushall()

    assert await relay(workshop.sessions, workshop.cutouts.bell) == 0, "it is not late yet"
    await age_the_outbox(workshop)
    assert await relay(workshop.sessions, workshop.cutouts.bell) == 1

    assert await rung(redis) == [f"{job_id}:1"]
    assert await count_outbox(workshop) == 0


async def test_a_claimed_job_is_not_rung_for(workshop: Workshop, redis: Redis) -> None:
    await workshop.queued(await workshop.caller())
    await redis.flushall()
    await age_the_outbox(workshop)
    await workshop.claim()

    assert await relay(workshop.sessions, workshop.cutouts.bell) == 0
    assert await rung(redis) == []


async def test_without_redis_the_bell_stays_in_the_outbox(workshop: Workshop) -> None:
    await workshop.queued(await workshop.caller())
    await age_the_outbox(workshop)
    deaf = Bell(NOWHERE)

    assert not await deaf.ring(uuid4(), 1, "standard")
    assert await relay(workshop.sessions, deaf) == 0

    assert await count_outbox(workshop) == 1
    await deaf.close()


async def test_ringing_twice_for_one_attempt_is_one_ring(redis: Redis, redis_url: str) -> None:
    bell, job_id = Bell(redis_url), uuid4()

    assert await bell.ring(job_id, 1, "standard")
    assert await bell.ring(job_id, 1, "standard")
    assert await bell.ring(job_id, 2, "standard")

    assert await rung(redis) == [f"{job_id}:1", f"{job_id}:2"]
    await bell.close()


async def test_what_is_in_redis_is_never_unpickled(redis_url: str) -> None:
    redis = connect(redis_url, timeout_s=1)

    assert redis.job_deserializer is json.loads
    await redis.aclose(close_connection_pool=True)
