"""Rate limits: GCRA, one atomic script in Redis shared by all gateways.

While Redis is away each gateway limits by itself, at its share of the rate: never unlimited, never
closed. The local state follows what Redis last said, so that an outage is no fresh burst.
"""

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import Final

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from gateway.errors import LimitState, RateLimitedError
from gateway.settings import Settings

REDIS_DEADLINE_S: Final = 0.05
"""What a call waits for Redis before the local limit answers it."""
REDIS_GIVE_UP_S: Final = 1.0
"""When a command that nobody waits for any more is dropped."""
REDIS_PAUSE_S: Final = 1.0
"""How long Redis is left alone after a failure; then one call tries it."""
LOCAL_KEYS_MAX: Final = 50_000
MICROSECONDS: Final = 1_000_000

# The backlog is how long, in microseconds, until the whole burst is back. Whole microseconds stay
# exact in Lua's doubles. Redis's clock is the only one, so that gateways need not agree.
TAKE: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local interval = tonumber(ARGV[1])
local capacity = tonumber(ARGV[2])
local full_at = tonumber(redis.call('GET', KEYS[1]) or now)
local backlog = math.min(math.max(full_at - now, 0), capacity)
if backlog + interval > capacity then
  return {0, backlog}
end
backlog = backlog + interval
redis.call('SET', KEYS[1], string.format('%.0f', now + backlog),
  'PX', math.ceil(backlog / 1000))
return {1, backlog}
"""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Rate:
    """`burst` calls at once, one more every `interval_us`."""

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


def _seconds(span_us: int) -> int:
    """Round up: a caller that waits as told is not refused again."""
    return -(-span_us // MICROSECONDS)


class LocalLimits:
    """The same rule in this process's memory, which holds a bounded number of keys."""

    def __init__(self, now_us: Callable[[], int], keys_max: int = LOCAL_KEYS_MAX) -> None:
        self._now_us = now_us
        self._keys_max = keys_max
        self._full_at: OrderedDict[str, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._full_at)

    def take(self, key: str, rate: Rate) -> tuple[bool, int]:
        now = self._now_us()
        backlog = min(max(self._full_at.get(key, now) - now, 0), rate.capacity_us)
        if backlog + rate.interval_us > rate.capacity_us:
            return False, backlog
        self.follow(key, backlog + rate.interval_us)
        return True, backlog + rate.interval_us

    def follow(self, key: str, backlog_us: int) -> None:
        """Believe what Redis says, for the time when it no longer does."""
        self._full_at[key] = self._now_us() + backlog_us
        self._full_at.move_to_end(key)
        if len(self._full_at) > self._keys_max:
            self._full_at.popitem(last=False)


def _monotonic_us() -> int:
    return time.monotonic_ns() // 1000


class Limits:
    """Takes one call from a limit, or refuses it and says when to come back."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._script = redis.register_script(TAKE)
        self._local = LocalLimits(_monotonic_us)
        self._gateway_count = settings.gateway_count
        self._address_rate = Rate.per_minute(
            settings.ip_rate_per_minute, settings.ip_rate_per_minute
        )
        self._paused_until = 0.0
        self._late: set[asyncio.Task[tuple[bool, int]]] = set()

    async def take(self, key: str, *, rate_per_minute: int, burst: int) -> LimitState:
        """Count one call of `key`.

        Raises:
            RateLimitedError: it is one too many; nothing was counted.
        """
        return await self._take(f"key:{key}", Rate.per_minute(rate_per_minute, burst))

    async def take_address(self, address: str) -> LimitState:
        """Count one call that came without a valid key.

        Raises:
            RateLimitedError: this address sent too many of them.
        """
        return await self._take(f"address:{bucket_for(address)}", self._address_rate)

    @property
    def is_degraded(self) -> bool:
        """Redis is away: the limits are counted per gateway."""
        return self._paused_until > 0

    async def _take(self, key: str, rate: Rate) -> LimitState:
        is_taken, state = await self._decide(key, rate)
        if not is_taken:
            raise RateLimitedError(max(1, state.retry_after_s), state)
        return state

    async def _decide(self, key: str, rate: Rate) -> tuple[bool, LimitState]:
        if time.monotonic() >= self._paused_until:
            if self._paused_until:  # one call tries Redis, the others do not wait for it
                self._paused_until = time.monotonic() + REDIS_PAUSE_S
            try:
                is_taken, backlog_us = await self._ask_redis(key, rate)
            except (RedisError, OSError, TimeoutError) as exc:
                self._pause(exc)
            else:
                self._resume()
                self._local.follow(key, backlog_us)
                return is_taken, rate.state(backlog_us)
        share = rate.share(self._gateway_count)
        is_taken, backlog_us = self._local.take(key, share)
        return is_taken, share.state(backlog_us)

    async def _ask_redis(self, key: str, rate: Rate) -> tuple[bool, int]:
        """Ask, and wait a moment only.

        A command that is late goes on, so that a connection that takes longer than that to open
        is there for the next call.
        """
        task = asyncio.create_task(self._run_script(key, (rate.interval_us, rate.capacity_us)))
        self._late.add(task)
        task.add_done_callback(self._forget)
        async with asyncio.timeout(REDIS_DEADLINE_S):
            return await asyncio.shield(task)

    async def _run_script(self, key: str, args: Sequence[int]) -> tuple[bool, int]:
        async with asyncio.timeout(REDIS_GIVE_UP_S):
            is_taken, backlog_us = await self._script(keys=[f"limit:{key}"], args=args)
        return bool(is_taken), int(backlog_us)

    def _forget(self, task: asyncio.Task[tuple[bool, int]]) -> None:
        self._late.discard(task)
        if not task.cancelled():
            task.exception()  # told by whoever waited; a late one has nobody to tell

    def _pause(self, exc: Exception) -> None:
        if not self._paused_until:
            log.warning("limits.degraded", error=type(exc).__name__)
        self._paused_until = time.monotonic() + REDIS_PAUSE_S

    def _resume(self) -> None:
        if self._paused_until:
            log.info("limits.restored")
        self._paused_until = 0.0


def bucket_for(address: str) -> str:
    """Give the part of `address` that one client cannot change: of IPv6 its /64."""
    try:
        ip = ip_address(address)
    except ValueError:
        return "unknown"
    if isinstance(ip, IPv6Address):
        if ip.ipv4_mapped:
            return str(ip.ipv4_mapped)
        return str(IPv6Address(int(ip) >> 64 << 64)) + "/64"
    return str(ip)


def rate_limit_headers(state: LimitState) -> dict[str, str]:
    """Render the two fields of draft-ietf-httpapi-ratelimit-headers-10.

    `t` tells when all of `q` may come at once again; with nothing left, when the next call is
    taken, so that it never points later than `Retry-After`.
    """
    wait_s = state.reset_s if state.remaining else state.retry_after_s
    return {
        "RateLimit-Policy": f'"default";q={state.limit};w={state.window_s}',
        "RateLimit": f'"default";r={state.remaining};t={wait_s}',
    }
