"""Rate limits, shared by all gateways through Redis.

While Redis is away each gateway limits by itself, at its share of the rate: never unlimited, never
closed. The local state follows what Redis last said, so that an outage is no fresh burst.
"""

import asyncio
import time
from functools import partial
from ipaddress import IPv6Address, ip_address
from typing import Final

import structlog
from redis.asyncio import Redis

from gateway.errors import LimitState, RateLimitedError
from gateway.gcra import LocalLimits, Rate, SharedLimits, Verdict
from gateway.settings import Settings

REDIS_DEADLINE_S: Final = 0.05
"""What a call waits for Redis before the local limit answers it."""
REDIS_PAUSE_S: Final = 1.0
"""How long Redis is left alone after a failure; then one call tries it."""

log = structlog.get_logger()


class Limits:
    """Takes one call from a limit, or refuses it and says when to come back."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._shared = SharedLimits(redis, self._pause)
        self._local = LocalLimits(lambda: time.monotonic_ns() // 1000)
        self._gateway_count = settings.gateway_count
        self._address_rate = Rate.per_minute(
            settings.ip_rate_per_minute, settings.ip_rate_per_minute
        )
        self._paused_until = 0.0

    async def take(self, key: str, *, rate_per_minute: int, burst: int) -> LimitState:
        """Count one call of `key`.

        Raises:
            RateLimitedError: it is one too many; nothing was counted.
        """
        return await self._take(f"key:{key}", Rate.per_minute(rate_per_minute, burst))

    async def look(self, key: str, *, rate_per_minute: int, burst: int) -> LimitState:
        """Tell where the limit of `key` stands; nothing is counted."""
        rate = Rate.per_minute(rate_per_minute, burst)
        state, _ = await self._ask(f"key:{key}", rate, is_look=True)
        return state

    async def take_address(self, address: str) -> LimitState:
        """Count one call that came without a valid key.

        Raises:
            RateLimitedError: this address sent too many of them.
        """
        return await self._take(f"address:{bucket_for(address)}", self._address_rate)

    @property
    def is_degraded(self) -> bool:
        """Redis is away: each gateway counts alone."""
        return self._paused_until > 0

    async def _take(self, key: str, rate: Rate) -> LimitState:
        state, is_taken = await self._ask(key, rate)
        if not is_taken:
            raise RateLimitedError(max(1, state.retry_after_s), state)
        return state

    async def _ask(self, key: str, rate: Rate, *, is_look: bool = False) -> tuple[LimitState, bool]:
        verdict = await self._ask_redis(key, rate, is_look=is_look)
        if verdict is None:
            rate = rate.share(self._gateway_count)
            verdict = self._local.take(key, rate, is_look=is_look)
        return rate.state(verdict.backlog_us), verdict.is_taken

    async def _ask_redis(self, key: str, rate: Rate, *, is_look: bool) -> Verdict | None:
        """Give Redis's verdict, or None where it is away or late."""
        now = time.monotonic()
        if now < self._paused_until:
            return None
        if self._paused_until:  # one call tries Redis, the others do not wait for it
            self._paused_until = now + REDIS_PAUSE_S
        answer = self._shared.ask(key, rate, is_look=is_look)
        answer.add_done_callback(partial(self._learn, key))
        await asyncio.wait([answer], timeout=REDIS_DEADLINE_S)
        return answer.result() if answer.done() and not answer.cancelled() else None

    def _learn(self, key: str, answer: asyncio.Future[Verdict]) -> None:
        """Follow what Redis says, be it too late for the one who asked."""
        if not answer.cancelled():
            self._resume()
            self._local.follow(key, answer.result().backlog_us)

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
