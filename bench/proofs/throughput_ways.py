"""Four ways to sell a cutout, each two durable commits, from the barest to all that a gateway does.

`floor` writes a row and changes it: what this client and this server cost with no ledger at all.
`direct` sends the two statements of billing/ledger.py over the driver. `ledger` calls place_hold
and capture, each in a transaction of its own, as every caller does. `cutout` is T1 and T2 whole:
the job's row with its hold, then the job's end with its capture.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from functools import partial
from typing import Final, NamedTuple, Protocol
from urllib.parse import parse_qs, urlsplit
from uuid import UUID, uuid4

import asyncpg
from sqlalchemy import func
from sqlalchemy.ext.asyncio import AsyncSession

from billing import ledger
from billing.db import SessionFactory, make_engine, make_sessions, transact
from gateway import jobs, settle
from gateway.tables import PROCESSING, Fence
from gateway.transactions import persist

PRICE: Final = 25
AT_ONCE_MAX: Final = 1024
PATIENCE: Final = timedelta(seconds=60)
WRITE: Final = (
    "INSERT INTO invariant_run (name, is_ok, count, sample, elapsed_ms)"
    " VALUES ($1, true, 0, '{}', 0) RETURNING id"
)
CHANGE: Final = "UPDATE invariant_run SET count = 1 WHERE id = $1"


class Buyer(NamedTuple):
    account_id: UUID
    api_key_id: UUID


class Till(Protocol):
    """One client's way to sell."""

    async def hold(self, buyer: Buyer, job_id: UUID) -> None: ...
    async def capture(self, job_id: UUID) -> None: ...


class Floor:
    def __init__(self, connection: asyncpg.Connection) -> None:
        self.connection = connection
        self.row_id = 0

    async def hold(self, _: Buyer, job_id: UUID) -> None:
        self.row_id = await self.connection.fetchval(WRITE, str(job_id))

    async def capture(self, _: UUID) -> None:
        await self.connection.execute(CHANGE, self.row_id)


class Direct:
    def __init__(self, connection: asyncpg.Connection) -> None:
        self.connection = connection

    async def hold(self, buyer: Buyer, job_id: UUID) -> None:
        asked = (buyer.account_id, job_id, PRICE, AT_ONCE_MAX, buyer.api_key_id, None)
        outcome = await self.connection.fetchrow(ledger.PLACE_HOLD, *asked)
        assert outcome["status"] == "done"

    async def capture(self, job_id: UUID) -> None:
        outcome = await self.connection.fetchrow(ledger.CAPTURE_HOLD, job_id, None)
        assert outcome["status"] == "done"


class Ledger:
    def __init__(self, sessions: SessionFactory) -> None:
        self.sessions = sessions

    async def hold(self, buyer: Buyer, job_id: UUID) -> None:
        await transact(self.sessions, partial(place, buyer, job_id))

    async def capture(self, job_id: UUID) -> None:
        await transact(self.sessions, partial(ledger.capture, job_id=job_id))


class Cutout:
    def __init__(self, sessions: SessionFactory) -> None:
        self.sessions = sessions

    async def hold(self, buyer: Buyer, job_id: UUID) -> None:
        async def t1(db: AsyncSession) -> None:
            await jobs.create(db, columns_of(buyer, job_id))
            await place(buyer, job_id, db)

        await persist(self.sessions, t1, patience=PATIENCE)

    async def capture(self, job_id: UUID) -> None:
        facts = {"model_ran": "bench", "result_key": f"results/{job_id}/1.png"}
        t2 = partial(settle.succeed, fence=Fence(job_id, 1), facts=facts)
        await persist(self.sessions, t2, patience=PATIENCE)


async def place(buyer: Buyer, job_id: UUID, db: AsyncSession) -> None:
    await ledger.place_hold(
        db,
        account_id=buyer.account_id,
        job_id=job_id,
        amount=PRICE,
        concurrency_max=AT_ONCE_MAX,
        api_key_id=buyer.api_key_id,
    )


def columns_of(buyer: Buyer, job_id: UUID) -> dict[str, object]:
    return {
        "id": job_id,
        "account_id": buyer.account_id,
        "api_key_id": buyer.api_key_id,
        "request_id": "bench",
        "dialect": "bench",
        "env": "live",
        "queue_class": "standard",
        "is_async": False,
        "state": PROCESSING,
        "lease_until": func.now() + timedelta(seconds=15),
        "started_at": func.clock_timestamp(),
        "deadline_at": func.now() + timedelta(minutes=10),
        "model_asked": "bench",
        "options": {},
        "source_bytes": 0,
        "price_credits": PRICE,
        "result_ttl": timedelta(days=1),
    }


@asynccontextmanager
async def on_connections(
    make: Callable[[asyncpg.Connection], Till], url: str, clients: int
) -> AsyncIterator[list[Till]]:
    # asyncpg takes the address that a URL has first; SQLAlchemy, as libpq, the socket's folder.
    parts = urlsplit(url)
    where = {"host": parse_qs(parts.query).get("host", [None])[0], "port": parts.port}
    connections = [await asyncpg.connect(url, **where) for _ in range(clients)]
    yield [make(connection) for connection in connections]
    for connection in connections:
        await connection.close()


@asynccontextmanager
async def on_sessions(
    make: Callable[[SessionFactory], Till], url: str, clients: int
) -> AsyncIterator[list[Till]]:
    engine = make_engine(url, pool_size=clients)
    yield [make(make_sessions(engine)) for _ in range(clients)]
    await engine.dispose()


WAYS: Final[dict[str, Callable[[str, int], AbstractAsyncContextManager[list[Till]]]]] = {
    "floor": partial(on_connections, Floor),
    "direct": partial(on_connections, Direct),
    "ledger": partial(on_sessions, Ledger),
    "cutout": partial(on_sessions, Cutout),
}


async def sell(
    way: str, url: str, buyers: list[Buyer], clients: int, seconds: float
) -> list[float]:
    """Sell for so long, by so many clients at once; tells how long each hold took, in ms."""

    async def work(till: Till) -> list[float]:
        took_ms = []
        while (started := time.monotonic()) < until:
            job_id = uuid4()
            await till.hold(random.choice(buyers), job_id)  # noqa: S311 - no secret
            took_ms.append((time.monotonic() - started) * 1000)
            await till.capture(job_id)
        return took_ms

    async with WAYS[way](url, clients) as tills:
        until = time.monotonic() + seconds
        return [ms for took in await asyncio.gather(*map(work, tills)) for ms in took]
