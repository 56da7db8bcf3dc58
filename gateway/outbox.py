"""The bell: arq's queues in Redis tell idle workers that Postgres has a job for them.

A ring carries `[job id, attempt]` as JSON and is only a hint. One that is lost costs at most the
second until a worker looks for itself; one too many finds nothing to claim.
"""

import asyncio
import json
import time
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

import structlog
from arq.connections import ArqRedis
from redis.asyncio import ConnectionPool
from redis.exceptions import RedisError
from sqlalchemy import delete, func, select

from billing.db import SessionFactory
from gateway.tables import Outbox

QUEUE_NAMES: Final = {"priority": "cutout:priority", "standard": "cutout:standard"}
RING: Final = "ring"
ANSWER_S: Final = 0.25
"""How long Redis may take for one answer."""
RING_DEADLINE_S: Final = 1.0
"""How long a ring may take in all; it is four answers."""
SILENCE_S: Final = 1.0
"""After a failed ring nobody waits for Redis again for this long."""
UNRUNG_AFTER: Final = timedelta(seconds=1)
RINGS_PER_RELAY_MAX: Final = 200

log = structlog.get_logger()


def serialize(ring: dict[str, Any]) -> bytes:
    """Instead of arq's pickle, which runs code for whoever can write to Redis."""
    return json.dumps(ring).encode()


def connect(redis_url: str, *, timeout_s: float) -> ArqRedis:
    """Open a client that gives up on Redis after `timeout_s`; connections are made when needed."""
    pool: Any = ConnectionPool.from_url(
        redis_url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s
    )
    return ArqRedis(pool, job_serializer=serialize, job_deserializer=json.loads)


class Bell:
    """Rings for queued attempts; that Redis is away is never the caller's problem."""

    def __init__(self, redis_url: str) -> None:
        self._redis = connect(redis_url, timeout_s=ANSWER_S)
        self._silent_until = 0.0

    async def ring(self, job_id: UUID, attempt: int, queue_class: str) -> bool:
        """Ring once; False where Redis could not be reached."""
        if time.monotonic() < self._silent_until:
            return False
        try:
            async with asyncio.timeout(RING_DEADLINE_S):
                await self._redis.enqueue_job(
                    RING,
                    str(job_id),
                    attempt,
                    _job_id=f"{job_id}:{attempt}",
                    _queue_name=QUEUE_NAMES[queue_class],
                )
        except (RedisError, OSError) as exc:
            self._silent_until = time.monotonic() + SILENCE_S
            log.warning("bell.failed", job_id=str(job_id), reason=type(exc).__name__)
            return False
        return True

    async def close(self) -> None:
        await self._redis.aclose(close_connection_pool=True)


async def relay(sessions: SessionFactory, bell: Bell) -> int:
    """Ring for the attempts that nobody has rung for or claimed yet; tell for how many."""
    async with sessions.begin() as db:
        unrung = (
            await db.scalars(
                select(Outbox)
                .where(Outbox.created_at < func.now() - UNRUNG_AFTER)
                .order_by(Outbox.id)
                .limit(RINGS_PER_RELAY_MAX)
            )
        ).all()
    rung = [row.id for row in unrung if await bell.ring(row.job_id, row.attempt, row.queue_class)]
    if rung:
        async with sessions.begin() as db:
            await db.execute(delete(Outbox).where(Outbox.id.in_(rung)))
    return len(rung)
