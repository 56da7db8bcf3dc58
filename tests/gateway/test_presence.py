"""Who runs is known from Redis, as long as there is Redis."""

import json
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from redis.asyncio import Redis

from gateway.presence import CARDS, FORGOTTEN_AFTER, SILENT_AFTER, Card, announced, present
from tests.gateway.workshop import until


async def cards(redis: Redis, host: str = "") -> list[Card]:
    found = await present(redis)
    assert found is not None
    return [card for card in found if not host or card.host == host]


async def leave_card(redis: Redis, host: str, *, silent_for: timedelta) -> None:
    """Leave the card of a process that was killed so long ago."""
    at = (datetime.now(UTC) - silent_for).isoformat()
    card = {
        "kind": "worker",
        "host": host,
        "pid": 1,
        "version": "0",
        "slots": 1,
        "models": {},
        "started_at": at,
        "seen_at": at,
    }
    await redis.hset(CARDS, host, json.dumps(card))  # type: ignore[misc]  # of both kinds of client


async def test_who_begins_is_seen_and_who_ends_is_not(redis_url: str) -> None:
    redis = Redis.from_url(redis_url)
    slots = int(uuid4().int % 10**6)

    async def is_seen() -> bool:
        return any(card.slots == slots for card in await cards(redis))

    async with announced(redis_url, "worker", slots=slots, models=lambda: {"m": "CPU"}):
        await until(is_seen)
        (card,) = [card for card in await cards(redis) if card.slots == slots]
        assert (card.kind, card.models, card.is_silent) == ("worker", {"m": "CPU"}, False)
    assert not await is_seen()
    await redis.aclose()


async def test_who_was_killed_is_silent_and_then_forgotten(redis_url: str) -> None:
    redis = Redis.from_url(redis_url)
    silent, gone = f"silent-{uuid4()}", f"gone-{uuid4()}"
    await leave_card(redis, silent, silent_for=2 * SILENT_AFTER)
    await leave_card(redis, gone, silent_for=2 * FORGOTTEN_AFTER)
    (card,) = await cards(redis, silent)
    assert card.is_silent
    assert await cards(redis, gone) == []
    assert not await redis.hexists(CARDS, gone)
    await redis.hdel(CARDS, silent)
    await redis.aclose()


async def test_without_redis_nobody_is_known_and_nobody_waits() -> None:
    away = "redis://127.0.0.1:1/0"
    async with announced(away, "gateway", slots=1, models=dict):
        redis = Redis.from_url(away)
        assert await present(redis) is None
        await redis.aclose()


async def test_a_card_of_another_version_hides_nobody_else(redis_url: str) -> None:
    redis = Redis.from_url(redis_url)
    host, other = f"here-{uuid4()}", f"other-{uuid4()}"
    await leave_card(redis, host, silent_for=timedelta(0))
    for written in ('{"kind": "robot"}', "no card", "[]"):
        await redis.hset(CARDS, other, written)
        assert len(await cards(redis, host)) == 1
    await redis.hdel(CARDS, host, other)
    await redis.aclose()
