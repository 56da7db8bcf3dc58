"""Limits on a real Valkey: exact, shared, and neither open nor shut when it is away."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
from redis.asyncio import Redis

import gateway.gcra
import gateway.limits
from gateway.errors import LimitState, RateLimitedError
from gateway.gcra import Rate
from gateway.limits import Limits, bucket_for, rate_limit_headers
from tests.gateway.bare import settings_with
from tests.gateway.valkeys import Valkey, free_port

SECOND = 1_000_000


@pytest.fixture(scope="module")
def shared_valkey() -> Iterator[Valkey]:
    valkey = Valkey()
    yield valkey
    valkey.kill()


@pytest.fixture
def valkey() -> Iterator[Valkey]:
    valkey = Valkey()
    yield valkey
    valkey.kill()


@pytest.fixture
async def redis(shared_valkey: Valkey) -> AsyncIterator[Redis]:
    client = Redis(port=shared_valkey.port)
    yield client
    await client.aclose()


@pytest.fixture
async def mortal_redis(valkey: Valkey) -> AsyncIterator[Redis]:
    client = Redis(port=valkey.port)
    yield client
    await client.aclose()


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Limits]:
    """Make limits that wait for Redis longer than ours do: a busy test machine is no outage."""
    monkeypatch.setattr(gateway.limits, "REDIS_DEADLINE_S", 10)
    monkeypatch.setattr(gateway.gcra, "BATCH_DEADLINE_S", 10)
    return lambda redis, **overrides: Limits(redis, settings_with(**overrides))


@pytest.fixture
def limits(redis: Redis, patient: Callable[..., Limits]) -> Limits:
    return patient(redis)


@pytest.fixture
def mortal(mortal_redis: Redis, patient: Callable[..., Limits]) -> Limits:
    return patient(mortal_redis)


def fresh_key() -> str:
    return uuid4().hex


async def taken_of(limits: Limits, calls: int, key: str, *, rate: int, burst: int) -> int:
    """Count how many of `calls` at once are let through."""
    outcomes = await asyncio.gather(
        *(limits.take(key, rate_per_minute=rate, burst=burst) for _ in range(calls)),
        return_exceptions=True,
    )
    assert all(isinstance(outcome, LimitState | RateLimitedError) for outcome in outcomes)
    return sum(isinstance(outcome, LimitState) for outcome in outcomes)


# One server, many callers.

TAKER = """
import asyncio, sys
import gateway.gcra, gateway.limits
from redis.asyncio import Redis
from gateway.errors import RateLimitedError
from gateway.limits import Limits
from gateway.settings import Settings

gateway.limits.REDIS_DEADLINE_S = gateway.gcra.BATCH_DEADLINE_S = 10

async def main():
    redis = Redis(port=int(sys.argv[1]))
    settings = Settings(
        database_url="postgresql://nobody@127.0.0.1/nothing",
        key_peppers={1: "pepper-of-the-tests-and-nobody-else"},
        link_secret="link-secret-of-the-tests-and-nobody-else",
    )
    limits = Limits(redis, settings)
    taken = 0
    for _ in range(60):
        try:
            await limits.take(sys.argv[2], rate_per_minute=1, burst=40)
        except RateLimitedError:
            continue
        taken += 1
    print(taken)
    await redis.aclose()

asyncio.run(main())
"""


async def test_a_burst_is_let_through_and_counted_down(limits: Limits) -> None:
    key = fresh_key()
    states = [await limits.take(key, rate_per_minute=60, burst=3) for _ in range(3)]
    assert [state.remaining for state in states] == [2, 1, 0]
    assert [state.reset_s for state in states] == [1, 2, 3]
    assert {(state.limit, state.window_s) for state in states} == {(3, 3)}
    with pytest.raises(RateLimitedError) as caught:
        await limits.take(key, rate_per_minute=60, burst=3)
    assert caught.value.retry_after_s == 1
    assert caught.value.state is not None
    assert caught.value.state.remaining == 0


async def test_waiting_as_told_is_enough_and_less_is_not(limits: Limits) -> None:
    key = fresh_key()
    started_at = time.monotonic()
    await limits.take(key, rate_per_minute=60, burst=1)
    with pytest.raises(RateLimitedError) as caught:
        await limits.take(key, rate_per_minute=60, burst=1)
    await asyncio.sleep(0.4)
    with pytest.raises(RateLimitedError):
        await limits.take(key, rate_per_minute=60, burst=1)
    await asyncio.sleep(started_at + caught.value.retry_after_s + 0.02 - time.monotonic())
    await limits.take(key, rate_per_minute=60, burst=1)


async def test_a_look_counts_nothing(limits: Limits) -> None:
    key = fresh_key()
    fresh = await limits.look(key, rate_per_minute=60, burst=5)
    taken = await limits.take(key, rate_per_minute=60, burst=5)
    seen = [await limits.look(key, rate_per_minute=60, burst=5) for _ in range(9)][-1]
    assert (fresh.remaining, taken.remaining, seen.remaining) == (5, 4, 4)


async def test_a_refused_call_costs_nothing(limits: Limits) -> None:
    key = fresh_key()
    assert await taken_of(limits, 50, key, rate=600, burst=1) == 1
    await asyncio.sleep(0.15)
    await limits.take(key, rate_per_minute=600, burst=1)


async def test_a_thousand_calls_at_once_get_exactly_the_burst(limits: Limits) -> None:
    assert await taken_of(limits, 1000, fresh_key(), rate=1, burst=37) == 37


async def test_hundreds_of_calls_at_once_take_one_connection(limits: Limits, redis: Redis) -> None:
    before = (await redis.info("stats"))["total_connections_received"]
    assert await taken_of(limits, 500, fresh_key(), rate=1, burst=400) == 400
    assert (await redis.info("stats"))["total_connections_received"] <= before + 1


async def test_keys_do_not_touch_each_other(limits: Limits) -> None:
    first, second = fresh_key(), fresh_key()
    assert await taken_of(limits, 10, first, rate=1, burst=5) == 5
    assert await taken_of(limits, 10, second, rate=1, burst=5) == 5


async def test_litestar_4700_two_processes_share_one_limit(shared_valkey: Valkey) -> None:
    key = fresh_key()
    command = [sys.executable, "-c", TAKER, str(shared_valkey.port), key]
    processes = [
        await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE) for _ in range(2)
    ]
    outputs = [(await process.communicate())[0] for process in processes]
    assert sum(int(output) for output in outputs) == 40


async def test_a_key_that_rests_is_forgotten(limits: Limits, redis: Redis) -> None:
    key = fresh_key()
    await limits.take(key, rate_per_minute=6000, burst=5)
    assert 0 < await redis.pttl(f"limit:key:{key}") <= 10
    await asyncio.sleep(0.05)
    assert not await redis.exists(f"limit:key:{key}")


async def test_a_clock_that_was_set_back_locks_nobody_out(limits: Limits, redis: Redis) -> None:
    key = fresh_key()
    in_a_year = (int(time.time()) + 365 * 86400) * SECOND
    await redis.set(f"limit:key:{key}", in_a_year)
    with pytest.raises(RateLimitedError) as caught:
        await limits.take(key, rate_per_minute=60, burst=2)
    assert caught.value.retry_after_s == 1


async def test_a_plan_that_grew_counts_at_once(limits: Limits) -> None:
    key = fresh_key()
    assert await taken_of(limits, 10, key, rate=60, burst=2) == 2
    assert await taken_of(limits, 10, key, rate=60, burst=5) == 3


# Redis in trouble.


async def test_a_redis_that_forgets_its_scripts_is_told_again(limits: Limits, redis: Redis) -> None:
    key = fresh_key()
    await limits.take(key, rate_per_minute=1, burst=2)
    await redis.script_flush()
    await limits.take(key, rate_per_minute=1, burst=2)
    assert not limits.is_degraded


async def test_a_dead_redis_leaves_the_limit_standing(mortal: Limits, valkey: Valkey) -> None:
    used_up, other = fresh_key(), fresh_key()
    assert await taken_of(mortal, 10, used_up, rate=1, burst=5) == 5
    valkey.kill()
    assert await taken_of(mortal, 10, used_up, rate=1, burst=5) == 0  # no fresh burst
    assert mortal.is_degraded
    assert await taken_of(mortal, 10, other, rate=1, burst=5) == 5  # open, and limited


async def test_each_of_four_gateways_gives_its_quarter_when_redis_is_dead(
    mortal_redis: Redis, valkey: Valkey, patient: Callable[..., Limits]
) -> None:
    limits = patient(mortal_redis, gateway_count=4)
    key = fresh_key()
    assert await taken_of(limits, 10, key, rate=1, burst=8) == 8
    valkey.kill()
    assert await taken_of(limits, 10, key, rate=1, burst=8) == 0
    assert await taken_of(limits, 10, fresh_key(), rate=1, burst=8) == 2


async def test_a_redis_that_comes_back_is_used_again_within_two_seconds(
    mortal: Limits, valkey: Valkey
) -> None:
    valkey.kill()
    await mortal.take(fresh_key(), rate_per_minute=60, burst=5)
    assert mortal.is_degraded
    valkey.start()
    assert await seconds_until_restored(mortal) < 2


async def seconds_until_restored(limits: Limits) -> float:
    """Keep calling, as customers do, until Redis counts again."""
    started_at = time.monotonic()
    async with asyncio.timeout(10):
        while limits.is_degraded:
            await limits.take(fresh_key(), rate_per_minute=60, burst=5)
            await asyncio.sleep(0.02)
    return time.monotonic() - started_at


async def test_a_frozen_redis_delays_a_few_calls_by_a_moment_and_the_next_not_at_all(
    mortal_redis: Redis, valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    mortal, key = Limits(mortal_redis, settings_with()), fresh_key()
    await mortal.take(key, rate_per_minute=1, burst=5)
    os.kill(valkey.process.pid, signal.SIGSTOP)
    try:
        ask, asked = mortal._shared.ask, []

        def ask_and_note(*args: Any, **kwargs: Any) -> Any:
            asked.append(args)
            return ask(*args, **kwargs)

        monkeypatch.setattr(mortal._shared, "ask", ask_and_note)
        for _ in range(30):
            await taken_of(mortal, 1, key, rate=1, burst=5)
        # Ten wait their 50 ms, then it is known, and only now and then does one try again.
        assert 1 <= len(asked) < 15
        assert mortal.is_degraded
        assert await taken_of(mortal, 10, key, rate=1, burst=5) == 0
    finally:
        os.kill(valkey.process.pid, signal.SIGCONT)
    assert await seconds_until_restored(mortal) < 5


async def test_a_redis_that_was_never_there_is_done_without() -> None:
    redis = Redis(port=free_port())
    assert await taken_of(Limits(redis, settings_with()), 10, fresh_key(), rate=1, burst=5) == 5
    await redis.aclose()


# Callers without a key.


async def test_an_address_without_a_key_has_a_limit_of_its_own(redis: Redis) -> None:
    limits = Limits(redis, settings_with(ip_rate_per_minute=3))
    for _ in range(3):
        await limits.take_address("198.51.100.7")
    with pytest.raises(RateLimitedError):
        await limits.take_address("198.51.100.7")
    await limits.take_address("198.51.100.8")


@pytest.mark.parametrize(
    ("address", "bucket"),
    [
        ("198.51.100.7", "198.51.100.7"),
        ("::ffff:198.51.100.7", "198.51.100.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("", "unknown"),
        ("unix", "unknown"),
    ],
)
def test_an_address_is_counted_by_what_its_client_cannot_change(address: str, bucket: str) -> None:
    assert bucket_for(address) == bucket


# What the caller reads.


def test_the_fields_tell_when_more_may_come() -> None:
    rate = Rate.per_minute(60, 5)
    assert rate_limit_headers(rate.state(2 * SECOND)) == {
        "RateLimit-Policy": '"default";q=5;w=5',
        "RateLimit": '"default";r=3;t=2',
    }
