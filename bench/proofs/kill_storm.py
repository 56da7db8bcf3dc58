"""Thousands of jobs under a storm of kills; each is charged once or not at all, and none is lost.

    python -m bench.proofs.kill_storm [--jobs 5000] [--kills 300] [--seed 1] [--minutes-max 40] \
        [--only gateway|control]

Eight workers (`python -m gateway.worker`) are killed by lot (SIGKILL) and started again, a gateway
too; Postgres crashes (`immediate`) and recovers, Valkey is emptied (FLUSHALL). A minute after the
last kill the books are compared with what each caller was told. Then the same storm goes over a
worker that deducts first and marks the job done afterwards: it has to charge twice, or the storm
is no storm. Leases are 4 s instead of 15, so that there is more taking over; bench.proofs.zombies
measures the real ones.
"""

import argparse
import asyncio
import random
import statistics
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import asyncpg
import httpx

from bench.proofs import naive
from bench.proofs.storm import Storm, Victim, Watch, print_table
from bench.proofs.storm_clients import ACCOUNTS, CALL_S_MAX, PICTURE_PX, Clients
from bench.proofs.storm_ground import COUNT, Ground, laid, open_customers, opened, picture
from bench.proofs.storm_verdict import Verdict, judge
from billing.db import make_engine, make_sessions
from billing.invariants import TITLES
from gateway.embedded.services import Embedded, free_port

WORKERS: Final = 8
GATEWAYS: Final = 2
HURRY: Final = {"CUTOUT_LEASE": "PT4S", "CUTOUT_HEARTBEAT": "PT1S"}


def wanted(kills: int) -> dict[str, int]:
    """How many of each disaster go with so many killed workers."""
    return {
        "worker": kills,
        "gateway": max(1, kills // 15),
        "postgres": max(1, kills // 15),
        "flush": max(1, kills // 10),
    }


def gateway_at(port: int, folder: Path, environment: dict[str, str]) -> Victim:
    return Victim(
        f"gateway-{port}",
        ["gateway.cli", "gateway"],
        folder=folder,
        environment=environment | {"CUTOUT_BIND_PORT": str(port)},
        ready=b"startup complete",
    )


async def call(ground: Ground, urls: list[str], watch: Watch, asked: argparse.Namespace) -> Clients:
    """Make all the calls, and tell what was told."""
    chance = random.Random(asked.seed)  # noqa: S311 - no secret
    async with opened(ground.settings) as cutouts, httpx.AsyncClient(timeout=CALL_S_MAX) as http:
        customers = await open_customers(cutouts.sessions, ACCOUNTS)
        clients = Clients(cutouts, http, urls, customers, watch, asked.jobs, chance)
        await clients.run()
    return clients


async def look_at_the_books(database_url: str, clients: Clients) -> Verdict:
    engine = make_engine(database_url, server_settings={"statement_timeout": "0"})
    try:
        told = set(clients.jobs.values())
        return await judge(make_sessions(engine), clients.cutouts.storage, told)
    finally:
        await engine.dispose()


def storm_over_the_gateway(asked: argparse.Namespace) -> bool:
    """Send the storm over the real thing; True where nothing was violated."""
    with laid() as ground, ThreadPoolExecutor(1) as pool:
        environment = ground.environment | HURRY | {"CUTOUT_GATEWAY_COUNT": str(GATEWAYS)}
        how: Any = {"folder": ground.folder, "environment": environment}
        workers = [
            Victim(f"worker-{n}", ["gateway.worker"], ready=b"worker.ready", **how)
            for n in range(WORKERS)
        ]
        ports = [free_port() for _ in range(GATEWAYS)]
        gateways = [gateway_at(port, ground.folder, environment) for port in ports]
        with Watch(ground.services.database_url, COUNT) as watch:
            storm = storm_of(asked, ground.services, watch, workers, gateways)
            urls = [f"http://127.0.0.1:{port}" for port in ports]
            calls = pool.submit(asyncio.run, call(ground, urls, watch, asked))
            started = time.monotonic()
            try:
                storm.rage(lambda: is_going_on(calls), seconds_max=60 * asked.minutes_max)
                clients = calls.result()
                verdict = asyncio.run(look_at_the_books(ground.services.database_url, clients))
            finally:
                storm.end()
        print_storm("over the gateway", storm, time.monotonic() - started)
        print_table(clients.ways | {f"asked again: {k}": n for k, n in clients.asked_again.items()})
        print_table(verdict.seen)
        print_table({f"VIOLATIONS: {what}": count for what, count in verdict.violations.items()})
        broken = "; ".join(verdict.invariants) or "none"
        print(f"kill storm: broken invariants of {len(TITLES)} asked: {broken}", flush=True)
        return verdict.is_clean


def storm_over_the_control(asked: argparse.Namespace) -> bool:
    """Send it over the naive worker; True where it was seen to charge twice."""
    with laid() as ground:
        path, database_url = ground.folder / "picture.jpg", ground.services.database_owner_url
        path.write_bytes(picture(PICTURE_PX))
        asyncio.run(fill(database_url, asked.jobs))
        how: Any = {"folder": ground.folder, "ready": naive.READY}
        how["environment"] = {"NAIVE_DATABASE_URL": database_url}
        module = ["bench.proofs.naive", str(path)]
        workers = [Victim(f"naive-{n}", module, **how) for n in range(WORKERS)]
        with Watch(database_url, naive.COUNT) as watch:
            storm = storm_of(asked, ground.services, watch, workers, [])
            started = time.monotonic()
            try:
                storm.rage(lambda: False, seconds_max=60 * asked.minutes_max)
            finally:
                storm.end()
        print_storm("over the naive control", storm, time.monotonic() - started)
        seen = asyncio.run(charges(database_url))
        print_table(seen)
        return seen["double charges"] > 0


async def fill(database_url: str, jobs: int) -> None:
    connection = await asyncpg.connect(database_url)
    await connection.execute(naive.TABLES)
    await connection.execute(naive.FILL, jobs)
    await connection.close()


async def charges(database_url: str) -> dict[str, int]:
    connection = await asyncpg.connect(database_url)
    row = await connection.fetchrow(naive.CHARGES)
    await connection.close()
    return dict(row)


def storm_of(
    asked: argparse.Namespace,
    services: Embedded,
    watch: Watch,
    workers: list[Victim],
    gateways: list[Victim],
) -> Storm:
    chance = random.Random(asked.seed)  # noqa: S311 - no secret
    many = wanted(asked.kills) if gateways else wanted(asked.kills) | {"gateway": 0}
    return Storm(services, watch, workers, gateways, asked.jobs, many, chance)


def is_going_on(calls: "Future[Clients]") -> bool:
    if calls.done():
        calls.result()  # raises what went wrong with them
        return False
    return True


def print_storm(where: str, storm: Storm, seconds: float) -> None:
    starts = statistics.median(storm.starts_s)
    print(
        f"kill storm {where}: {seconds / 60:.1f} minutes, a worker's start {starts:.1f} s (median)"
    )
    print_table(storm.happened)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=5000)
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))  # noqa: S311 - no secret
    parser.add_argument("--minutes-max", type=float, default=40, help="for each of the two")
    parser.add_argument("--only", choices=("gateway", "control"))
    asked = parser.parse_args()
    print(f"kill storm: {asked.jobs} jobs, {asked.kills} kills, seed {asked.seed}", flush=True)
    is_clean = asked.only == "control" or storm_over_the_gateway(asked)
    has_bitten = asked.only == "gateway" or storm_over_the_control(asked)
    if not is_clean:
        sys.exit("kill storm: FAILED, see the violations")
    if not has_bitten:
        sys.exit("kill storm: no double charge in the control: the storm was too weak to judge by")
    print("kill storm: as it must be")


if __name__ == "__main__":
    main()
