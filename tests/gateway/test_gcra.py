"""The rule against tokens in a bucket, counted in fractions: GCRA in other words."""

import math
from collections.abc import AsyncIterator, Iterator
from fractions import Fraction
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from gateway.errors import LimitState
from gateway.gcra import TAKE, LocalLimits, Rate
from gateway.limits import rate_limit_headers
from tests.gateway.valkeys import Valkey

SECOND = 1_000_000


@pytest.fixture(scope="module")
def valkey() -> Iterator[Valkey]:
    valkey = Valkey()
    yield valkey
    valkey.kill()


@pytest.fixture
async def redis(valkey: Valkey) -> AsyncIterator[Redis]:
    client = Redis(port=valkey.port)
    yield client
    await client.aclose()


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
    script = TAKE.replace("redis.call('TIME')", "{ARGV[4], ARGV[5]}")
    script = script.replace("math.ceil(backlog / 1000)", "600000")
    assert script.count("ARGV") == 5
    take = redis.register_script(script)
    key, now = uuid4().hex, 1_795_000_000 * SECOND
    bucket = Bucket(rate, now)
    for pause in pauses_us:
        now += pause
        clock = divmod(now, SECOND)
        is_taken, backlog_us = await take([key], [rate.interval_us, rate.capacity_us, 0, *clock])
        assert (bool(is_taken), rate.state(backlog_us)) == bucket.take(now)


@given(st.integers(1, 10_000_000), st.integers(1, 1000))
def test_a_rate_is_never_rounded_in_the_callers_favour(calls: int, burst: int) -> None:
    rate = Rate.per_minute(calls, burst)
    assert Fraction(60 * SECOND, rate.interval_us) <= calls
    share = rate.share(3)
    assert share.burst <= max(1, burst // 3)
    assert share.interval_us == 3 * rate.interval_us


def test_the_local_memory_is_bounded_and_forgets_the_longest_unused() -> None:
    local = LocalLimits(lambda: 0, keys_max=3)
    rate = Rate.per_minute(1, 1)
    for key in "abcd":
        assert local.take(key, rate).is_taken
    assert len(local) == 3
    assert not local.take("d", rate).is_taken
    assert local.take("a", rate).is_taken


@given(rates, st.data())
def test_the_fields_never_point_later_than_retry_after(rate: Rate, data: st.DataObject) -> None:
    state = rate.state(data.draw(st.integers(0, rate.capacity_us)))
    fields = rate_limit_headers(state)
    assert 0 <= state.remaining <= state.limit
    if not state.remaining:
        assert fields["RateLimit"] == f'"default";r=0;t={state.retry_after_s}'
        assert 1 <= state.retry_after_s <= state.window_s
