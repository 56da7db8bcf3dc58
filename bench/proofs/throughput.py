"""How many cutouts a second the ledger can sell: hold and capture, each a durable commit.

    python -m bench.proofs.throughput [--seconds 8] [--only direct]

Clients are processes of this machine, so the database has what they leave of its cores. The ways
to sell, from the barest to a gateway's own, are those of throughput_ways. Pairs are counted by the
clients and, apart from them, in the database's own tables. Takes some two minutes.
"""

import argparse
import asyncio
import multiprocessing
import statistics
from dataclasses import dataclass
from typing import Final
from uuid import uuid4

import uvloop
from sqlalchemy import insert, text

from bench.proofs.ground import breaches, connected, database, open_funded
from bench.proofs.throughput_ways import Buyer, sell
from billing.db import SessionFactory
from billing.tables import ApiKey

PROCESSES: Final = 2
WARM_UP_S: Final = 2.0
CREDITS: Final = 10**9
ACCOUNTS_CHECKED: Final = 20

COUNT_PAIRS: Final = "SELECT count(*) FROM ledger_txn WHERE op = 'capture'"
COUNT_ROWS: Final = "SELECT count(*) FROM invariant_run WHERE count = 1"


@dataclass(frozen=True)
class Load:
    """What to measure: which way, on how many accounts, by how many clients at once."""

    way: str
    accounts: int
    clients: int


LOADS: Final = (
    Load("direct", 1, 8),
    Load("ledger", 1, 8),
    Load("direct", 1000, 8),
    Load("ledger", 1000, 8),
    Load("cutout", 1000, 8),
    Load("cutout", 1000, 2),
    Load("direct", 10, 8),
    Load("direct", 1000, 16),
    Load("floor", 1000, 8),
)


def client(way: str, url: str, buyers: list[Buyer], clients: int, seconds: float) -> list[float]:
    return uvloop.run(sell(way, url, buyers, clients, seconds))


async def open_buyers(sessions: SessionFactory, count: int) -> list[Buyer]:
    """Open accounts that can pay, each with a key: its row alone, since nobody calls by it."""
    buyers = [Buyer(await open_funded(sessions, CREDITS), uuid4()) for _ in range(count)]
    shared = {"env": "live", "key_hash": b"", "pepper_version": 1, "last4": "", "scopes": []}
    rows = [
        shared | {"id": buyer.api_key_id, "account_id": buyer.account_id, "key_id": str(buyer[1])}
        for buyer in buyers
    ]
    async with sessions.begin() as db:
        await db.execute(insert(ApiKey), rows)
    return buyers


async def sold_count(sessions: SessionFactory, way: str) -> int:
    async with sessions.begin() as db:
        count = await db.scalar(text(COUNT_ROWS if way == "floor" else COUNT_PAIRS))
    return int(count or 0)


def measure(
    runner: asyncio.Runner,
    sessions: SessionFactory,
    load: Load,
    work: tuple[str, list[Buyer], float],
) -> None:
    url, buyers, seconds = work
    asked = (load.way, url, buyers[: load.accounts], load.clients // PROCESSES)
    spawning = multiprocessing.get_context("spawn")
    all_here = spawning.Barrier(PROCESSES)  # else who is ready first has the machine to itself
    with spawning.Pool(PROCESSES, initializer=all_here.wait) as pool:
        # Not counted: imports, the first touch of each account's pages.
        pool.starmap(client, [(*asked, WARM_UP_S)] * PROCESSES)
        before = runner.run(sold_count(sessions, load.way))
        took = pool.starmap(client, [(*asked, seconds)] * PROCESSES)
    sold = runner.run(sold_count(sessions, load.way)) - before
    took_ms = sorted(ms for each in took for ms in each)
    assert sold == len(took_ms), (sold, len(took_ms))
    print(
        f"throughput: {load.way}, {load.accounts} accounts, {load.clients} clients:"
        f" {sold / seconds:.0f} pairs/s ({sold} counted in the database);"
        f" hold p50 {statistics.median(took_ms):.1f} ms,"
        f" p99 {took_ms[len(took_ms) * 99 // 100]:.1f} ms",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--only", default="", help="loads of this way")
    asked = parser.parse_args()
    chosen = [load for load in LOADS if asked.only in load.way]
    with database() as url, asyncio.Runner() as runner, connected(url, runner) as sessions:
        accounts = max(load.accounts for load in chosen)
        buyers = runner.run(open_buyers(sessions, accounts))
        for load in chosen:
            measure(runner, sessions, load, (url, buyers, asked.seconds))
        for buyer in buyers[:ACCOUNTS_CHECKED]:
            assert runner.run(breaches(sessions, buyer.account_id)) == []


if __name__ == "__main__":
    main()
