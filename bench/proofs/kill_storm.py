"""Thousands of jobs under a storm of kills; each is charged once or not at all, and none is lost.

    python -m bench.proofs.kill_storm [--jobs 5000] [--kills 300] [--seed 1] [--minutes-max 40]

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
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import asyncpg
import httpx

from bench.proofs import naive
from bench.proofs.storm import Storm, Victim, Watch
from bench.proofs.storm_clients import CALL_S_MAX, MODEL, Clients, open_customers, picture
from bench.proofs.storm_verdict import Verdict, judge
from billing.db import make_engine, make_sessions
from billing.invariants import TITLES
from billing.keys import KeyHasher
from gateway.admission import Admission
from gateway.cutouts import Cutouts
from gateway.embedded.services import Embedded, free_port
from gateway.inference import Inference
from gateway.outbox import Bell
from gateway.settings import Settings
from gateway.storage import Storage
from migrations.run import upgrade

WORKERS: Final = 8
GATEWAYS: Final = 2
PEPPERS: Final = {1: "pepper-of-the-storm-" + "x" * 32}
LINK_SECRET: Final = "link-secret-of-the-storm-" + "x" * 32
COUNT: Final = """
SELECT count(*) FILTER (WHERE finished_at IS NULL),
       count(*) FILTER (WHERE finished_at IS NOT NULL)
FROM job
"""


def wanted(kills: int) -> dict[str, int]:
    """How many of each disaster go with so many killed workers."""
    return {
        "worker": kills,
        "gateway": max(1, kills // 15),
        "postgres": max(1, kills // 15),
        "flush": max(1, kills // 10),
    }


@contextmanager
def servers() -> Iterator[tuple[Embedded, Path]]:
    with tempfile.TemporaryDirectory(prefix="cutout-storm-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        with Embedded(folder) as services:
            upgrade(services.database_owner_url)
            yield services, folder


def environment_of(services: Embedded, folder: Path) -> dict[str, str]:
    return {
        "CUTOUT_DATABASE_URL": services.database_url,
        "CUTOUT_REDIS_URL": services.redis_url,
        "CUTOUT_STORAGE_URL": f"file://{folder}/storage",
        "CUTOUT_KEY_PEPPERS": f'{{"1": "{PEPPERS[1]}"}}',
        "CUTOUT_LINK_SECRET": LINK_SECRET,
        "CUTOUT_DEFAULT_MODEL": MODEL,
        "CUTOUT_PRELOAD_MODELS": f'["{MODEL}"]',
        "CUTOUT_INFERENCE_SLOTS": "1",
        "CUTOUT_LEASE": "PT4S",
        "CUTOUT_HEARTBEAT": "PT1S",
        "CUTOUT_GATEWAY_COUNT": str(GATEWAYS),
        "PGSSLMODE": "disable",
    }


def gateway_at(port: int, folder: Path, environment: dict[str, str]) -> Victim:
    return Victim(
        f"gateway-{port}",
        ["gateway.cli", "gateway"],
        folder=folder,
        environment=environment | {"CUTOUT_BIND_PORT": str(port)},
        ready=b"startup complete",
    )


def settings_of(services: Embedded, folder: Path) -> Settings:
    ours: dict[str, Any] = {
        "database_url": services.database_url,
        "redis_url": services.redis_url,
        "storage_url": f"file://{folder}/storage",
        "key_peppers": PEPPERS,
        "link_secret": LINK_SECRET,
    }
    return Settings(**ours)


async def call(settings: Settings, urls: list[str], watch: Watch, jobs: int, seed: int) -> Clients:
    """Make all the calls, and tell what was told."""
    engine = make_engine(str(settings.database_url))
    sessions = make_sessions(engine)
    cutouts = Cutouts(
        sessions,
        Storage.from_url(settings.storage_url),
        Inference(settings),
        Admission(settings),
        Bell(str(settings.redis_url)),
        settings,
    )
    customers = await open_customers(sessions, KeyHasher(PEPPERS))
    async with httpx.AsyncClient(timeout=CALL_S_MAX) as http:
        chance = random.Random(seed)  # noqa: S311 - no secret
        clients = Clients(cutouts, http, urls, customers, watch, jobs, chance)
        await clients.run()
    await cutouts.bell.close()
    await engine.dispose()
    return clients


async def look_at_the_books(settings: Settings, clients: Clients) -> Verdict:
    engine = make_engine(str(settings.database_url), server_settings={"statement_timeout": "0"})
    try:
        told = set(clients.jobs.values())
        return await judge(make_sessions(engine), clients.cutouts.storage, told)
    finally:
        await engine.dispose()


def storm_over_the_gateway(asked: argparse.Namespace) -> bool:
    """Send the storm over the real thing; True where nothing was violated."""
    with servers() as (services, folder), ThreadPoolExecutor(1) as pool:
        settings, environment = settings_of(services, folder), environment_of(services, folder)
        how: Any = {"folder": folder, "environment": environment}
        workers = [
            Victim(f"worker-{n}", ["gateway.worker"], ready=b"worker.ready", **how)
            for n in range(WORKERS)
        ]
        ports = [free_port() for _ in range(GATEWAYS)]
        gateways = [gateway_at(port, folder, environment) for port in ports]
        with Watch(services.database_url, COUNT) as watch:
            storm = storm_of(asked, services, watch, workers, gateways)
            urls = [f"http://127.0.0.1:{port}" for port in ports]
            calling = call(settings, urls, watch, asked.jobs, asked.seed)
            calls = pool.submit(asyncio.run, calling)
            started = time.monotonic()
            try:
                storm.rage(lambda: is_going_on(calls), seconds_max=60 * asked.minutes_max)
                clients = calls.result()
                verdict = asyncio.run(look_at_the_books(settings, clients))
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
    with servers() as (services, folder):
        (folder / "picture.jpg").write_bytes(picture())
        asyncio.run(fill(services.database_owner_url, asked.jobs))
        how: Any = {"folder": folder, "ready": naive.READY}
        how["environment"] = {"NAIVE_DATABASE_URL": services.database_owner_url}
        module = ["bench.proofs.naive", str(folder / "picture.jpg")]
        workers = [Victim(f"naive-{n}", module, **how) for n in range(WORKERS)]
        with Watch(services.database_owner_url, naive.COUNT) as watch:
            storm = storm_of(asked, services, watch, workers, [])
            started = time.monotonic()
            try:
                storm.rage(lambda: False, seconds_max=60 * asked.minutes_max)
            finally:
                storm.end()
        print_storm("over the naive control", storm, time.monotonic() - started)
        seen = asyncio.run(charges(services.database_owner_url))
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


def print_table(rows: Mapping[str, int]) -> None:
    for what, count in rows.items():
        print(f"  {count:>8,}  {what}")
    sys.stdout.flush()


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
