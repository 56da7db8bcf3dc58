"""Which gateways and workers there are: each says every few seconds that it lives, in Redis.

A hint like everything in Redis: who looks while Redis is away learns that, and nothing is lost.
One that ends well takes its card back; one that was killed is silent, which an hour can be seen.
"""

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from typing import Any, Final, cast
from uuid import uuid4

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

CARDS: Final = "presence"
BEAT_S: Final = 5.0
SILENT_AFTER: Final = timedelta(seconds=20)
FORGOTTEN_AFTER: Final = timedelta(hours=1)
REDIS_DEADLINE_S: Final = 1.0
FAILURES: Final = (RedisError, OSError, TimeoutError)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Card:
    """What a process says of itself. Times are its own clock's."""

    kind: str
    """gateway or worker."""
    host: str
    pid: int
    version: str
    started_at: datetime
    seen_at: datetime
    slots: int
    models: dict[str, str]
    """The loaded models, and where onnxruntime really runs each."""

    @property
    def is_silent(self) -> bool:
        return datetime.now(UTC) - self.seen_at > SILENT_AFTER


@asynccontextmanager
async def announced(
    redis_url: str, kind: str, *, slots: int, models: Callable[[], dict[str, str]]
) -> AsyncIterator[None]:
    """Let the others know of this process for as long as the block lasts."""
    redis = Redis.from_url(
        redis_url, socket_timeout=REDIS_DEADLINE_S, socket_connect_timeout=REDIS_DEADLINE_S
    )
    name, started_at = str(uuid4()), datetime.now(UTC)

    def card() -> Card:
        return Card(
            kind=kind,
            host=socket.gethostname(),
            pid=os.getpid(),
            version=version("cutout-gateway"),
            started_at=started_at,
            seen_at=datetime.now(UTC),
            slots=slots,
            models=models(),
        )

    beating = asyncio.create_task(_beat(redis, name, card))
    try:
        yield
    finally:
        while not beating.done():  # redis-py may lose a cancellation, see worker.py
            beating.cancel()
            await asyncio.wait([beating], timeout=REDIS_DEADLINE_S)
        with suppress(*FAILURES):
            async with asyncio.timeout(REDIS_DEADLINE_S):
                await cast("Any", redis.hdel(CARDS, name))
        await redis.aclose()


async def _beat(redis: Redis, name: str, card: Callable[[], Card]) -> None:
    is_away = False
    while True:
        try:
            written = json.dumps(asdict(card()), default=datetime.isoformat)
            await cast("Any", redis.hset(CARDS, name, written))
            is_away = False
        except FAILURES as exc:
            if not is_away:
                log.warning("presence.unheard", reason=type(exc).__name__)
            is_away = True
        await asyncio.sleep(BEAT_S)


async def present(redis: Redis) -> list[Card] | None:
    """List the processes, gateways first; None where Redis is away. Forgets those long silent."""
    try:
        async with asyncio.timeout(REDIS_DEADLINE_S):
            written: dict[bytes, bytes] = await cast("Any", redis.hgetall(CARDS))
            read = {name: _read(text) for name, text in written.items()}
            cards = {name: card for name, card in read.items() if card is not None}
            now = datetime.now(UTC)
            gone = [name for name, card in cards.items() if now - card.seen_at > FORGOTTEN_AFTER]
            if gone:
                await cast("Any", redis.hdel(CARDS, *map(bytes.decode, gone)))
    except FAILURES:
        return None
    here = [card for name, card in cards.items() if name not in gone]
    return sorted(here, key=lambda card: (card.kind, card.host, card.started_at))


def _read(text: bytes) -> Card | None:
    """Read a card; None where another version of this software writes other ones."""
    try:
        facts = json.loads(text)
        for name in ("started_at", "seen_at"):
            facts[name] = datetime.fromisoformat(facts[name])
        return Card(**facts)
    except (KeyError, TypeError, ValueError):
        return None
