"""How many cutouts a second the ledger can sell: hold and capture, each a durable commit.

    python -m bench.proofs.throughput [--seconds 8]

Clients are processes of this machine, so the database has what they leave of its cores. `direct`
sends the two statements of billing/ledger.py over asyncpg; `ledger` calls place_hold and capture
through SQLAlchemy, as the gateway does. Pairs are counted by the clients and, apart from them, in
the database's own tables.
"""

import argparse
import asyncio
import multiprocessing
import random
import statistics
import time
from dataclasses import dataclass
from uuid import UUID, uuid4

import asyncpg
import uvloop
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from bench.proofs.ground import breaches, connected, database, open_funded
from billing import ledger
from billing.db import SessionFactory, make_engine, make_sessions, transact

PRICE = 25
PROCESSES = 2
CREDITS = 10**9
PLACE = "SELECT * FROM place_hold($1, $2, 25, NULL, NULL, NULL)"
CAPTURE = "SELECT * FROM capture_hold($1, NULL)"


async def sell_directly(url: str, accounts: list[UUID], until: float) -> list[float]:
    """One connection's pairs; returns how long each hold took, in ms."""
    connection = await asyncpg.connect(url)
    place, capture = await connection.prepare(PLACE), await connection.prepare(CAPTURE)
    took_ms = []
    while (started := time.monotonic()) < until:
        job_id = uuid4()
        held = await place.fetchrow(random.choice(accounts), job_id)  # noqa: S311
        took_ms.append((time.monotonic() - started) * 1000)
        done = await capture.fetchrow(job_id)
        assert held is not None
        assert done is not None
        assert (held["status"], done["status"]) == ("done", "done")
    await connection.close()
    return took_ms


async def sell_by_ledger(
    sessions: SessionFactory, accounts: list[UUID], until: float
) -> list[float]:
    took_ms = []
    while (started := time.monotonic()) < until:
        job_id, account_id = uuid4(), random.choice(accounts)  # noqa: S311

        async def hold(db: AsyncSession, job: UUID = job_id, account: UUID = account_id) -> None:
            await ledger.place_hold(
                db, account_id=account, job_id=job, amount=PRICE, concurrency_max=None
            )

        async def capture(db: AsyncSession, job: UUID = job_id) -> None:
            await ledger.capture(db, job)

        await transact(sessions, hold)
        took_ms.append((time.monotonic() - started) * 1000)
        await transact(sessions, capture)
    return took_ms


async def sell(url: str, way: str, accounts: list[UUID], clients: int, until: float) -> list[float]:
    if way == "direct":
        works = [sell_directly(url, accounts, until) for _ in range(clients)]
        return [ms for took in await asyncio.gather(*works) for ms in took]
    engine = make_engine(url, pool_size=clients, pool_pre_ping=False)
    sessions = make_sessions(engine)
    sales = [sell_by_ledger(sessions, accounts, until) for _ in range(clients)]
    took_ms = [ms for took in await asyncio.gather(*sales) for ms in took]
    await engine.dispose()
    return took_ms


def client(url: str, way: str, accounts: list[UUID], clients: int, seconds: float) -> list[float]:
    return uvloop.run(sell(url, way, accounts, clients, time.monotonic() + seconds))


async def captured_count(sessions: SessionFactory) -> int:
    async with sessions.begin() as db:
        count = await db.scalar(text("SELECT count(*) FROM ledger_txn WHERE op = 'capture'"))
    return int(count or 0)


@dataclass(frozen=True)
class Load:
    """What to measure: which accounts, how they are called, by how many at once, for how long."""

    way: str
    accounts: list[UUID]
    clients: int
    seconds: float


def measure(runner: asyncio.Runner, sessions: SessionFactory, url: str, load: Load) -> None:
    before = runner.run(captured_count(sessions))
    with multiprocessing.get_context("spawn").Pool(PROCESSES) as pool:
        share = load.clients // PROCESSES
        work = (url, load.way, load.accounts, share, load.seconds)
        took = pool.starmap(client, [work] * PROCESSES)
    sold = runner.run(captured_count(sessions)) - before
    took_ms = sorted(ms for each in took for ms in each)
    assert sold == len(took_ms), (sold, len(took_ms))
    print(
        f"throughput: {load.way}, {len(load.accounts)} accounts, {load.clients} clients:"
        f" {sold / load.seconds:.0f} pairs/s ({sold} counted in the database);"
        f" hold p50 {statistics.median(took_ms):.1f} ms,"
        f" p99 {took_ms[len(took_ms) * 99 // 100]:.1f} ms",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--accounts", type=int, default=1000)
    asked = parser.parse_args()
    with database() as url, asyncio.Runner() as runner, connected(url, runner) as sessions:
        many = [runner.run(open_funded(sessions, CREDITS)) for _ in range(asked.accounts)]
        for accounts, clients in ((many[:1], 8), (many[:10], 8), (many, 8), (many, 16)):
            for way in ("direct", "ledger"):
                measure(runner, sessions, url, Load(way, accounts, clients, asked.seconds))
        for account_id in many[:20]:
            assert runner.run(breaches(sessions, account_id)) == []


if __name__ == "__main__":
    main()
