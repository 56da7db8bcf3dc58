"""GCRA, the rule behind every rate limit, kept in Redis by one atomic script or in memory.

A key's whole state is its backlog: how long, in microseconds, until all of its burst is back. Whole
microseconds stay exact in Lua's doubles.
"""

import asyncio
import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from gateway.errors import LimitState

LOCAL_KEYS_MAX: Final = 50_000
BATCH_MAX: Final = 256
BATCH_DEADLINE_S: Final = 0.5
MICROSECONDS: Final = 1_000_000

# Redis's clock is the only one, so that gateways need not agree on the time. A backlog beyond the
# burst can only come from a clock that was set back.
TAKE: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local interval = tonumber(ARGV[1])
local capacity = tonumber(ARGV[2])
local is_look = ARGV[3] == '1'
local full_at = tonumber(redis.call('GET', KEYS[1]) or now)
local backlog = math.min(math.max(full_at - now, 0), capacity)
if is_look or backlog + interval > capacity then
  return {0, backlog}
end
backlog = backlog + interval
redis.call('SET', KEYS[1], string.format('%.0f', now + backlog),
  'PX', math.ceil(backlog / 1000))
return {1, backlog}
"""


@dataclass(frozen=True, slots=True)
class Rate:
    """`burst` calls at once, and one more every `interval_us`."""

    interval_us: int
    burst: int

    @classmethod
    def per_minute(cls, calls: int, burst: int) -> "Rate":
        return cls(math.ceil(60 * MICROSECONDS / calls), burst)

    @property
    def capacity_us(self) -> int:
        return self.interval_us * self.burst

    def share(self, gateway_count: int) -> "Rate":
        """One gateway's part, when each must count alone."""
        burst = max(1, self.burst // gateway_count)
        return Rate(self.interval_us * gateway_count, burst)

    def state(self, backlog_us: int) -> LimitState:
        remaining = max(0, (self.capacity_us - backlog_us) // self.interval_us)
        wait_us = 0 if remaining else backlog_us + self.interval_us - self.capacity_us
        return LimitState(
            limit=self.burst,
            remaining=remaining,
            reset_s=_seconds(backlog_us),
            retry_after_s=_seconds(wait_us),
            window_s=_seconds(self.capacity_us),
        )


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one call."""

    is_taken: bool
    backlog_us: int


def _seconds(span_us: int) -> int:
    """Round up: a caller that waits as told is not refused again."""
    return -(-span_us // MICROSECONDS)


class LocalLimits:
    """The rule in this process's memory, for a bounded number of keys."""

    def __init__(self, now_us: Callable[[], int], keys_max: int = LOCAL_KEYS_MAX) -> None:
        self._now_us = now_us
        self._keys_max = keys_max
        self._full_at: OrderedDict[str, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._full_at)

    def take(self, key: str, rate: Rate, *, is_look: bool = False) -> Verdict:
        now = self._now_us()
        backlog = min(max(self._full_at.get(key, now) - now, 0), rate.capacity_us)
        if is_look or backlog + rate.interval_us > rate.capacity_us:
            return Verdict(is_taken=False, backlog_us=backlog)
        self.follow(key, backlog + rate.interval_us)
        return Verdict(is_taken=True, backlog_us=backlog + rate.interval_us)

    def follow(self, key: str, backlog_us: int) -> None:
        """Believe what Redis says, for the time when it no longer does."""
        self._full_at[key] = self._now_us() + backlog_us
        self._full_at.move_to_end(key)
        if len(self._full_at) > self._keys_max:
            self._full_at.popitem(last=False)


Asked = tuple[str, Rate, bool, asyncio.Future[Verdict]]


class SharedLimits:
    """The rule in Redis. What is asked in one moment travels together, over one connection."""

    def __init__(self, redis: Redis, on_failure: Callable[[Exception], None]) -> None:
        """Ask `redis`; `on_failure` hears of each batch that got no answer."""
        self._redis = redis
        self._on_failure = on_failure
        self._asked: list[Asked] = []
        self._sender: asyncio.Task[None] | None = None

    def ask(self, key: str, rate: Rate, *, is_look: bool = False) -> asyncio.Future[Verdict]:
        """Ask for one call, or only look; the answer is cancelled where none will come."""
        answer: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()
        self._asked.append((key, rate, is_look, answer))
        if self._sender is None or self._sender.done():
            self._sender = asyncio.create_task(self._send_all())
        return answer

    async def _send_all(self) -> None:
        while self._asked:
            batch, self._asked = self._asked[:BATCH_MAX], self._asked[BATCH_MAX:]
            try:
                verdicts = await self._send(batch)
            except (RedisError, OSError, TimeoutError) as exc:
                self._on_failure(exc)
                for *_, answer in [*batch, *self._asked]:
                    answer.cancel()
                self._asked = []
                return
            for (*_, answer), verdict in zip(batch, verdicts, strict=True):
                if not answer.done():
                    answer.set_result(verdict)

    async def _send(self, batch: Sequence[Asked]) -> list[Verdict]:
        async with (
            asyncio.timeout(BATCH_DEADLINE_S),
            self._redis.pipeline(transaction=False) as pipeline,
        ):
            for key, rate, is_look, _ in batch:
                numbers = (str(rate.interval_us), str(rate.capacity_us), str(int(is_look)))
                pipeline.eval(TAKE, 1, f"limit:{key}", *numbers)
            rows = await pipeline.execute()
        return [Verdict(bool(is_taken), int(backlog_us)) for is_taken, backlog_us in rows]
