"""Workers freeze in the middle of a job, are overtaken, and wake up: nobody pays twice.

    python -m bench.proofs.zombies [--rounds 6] [--seed 1]

Eight workers with the leases of production (15 s, a heartbeat each 5 s). In each round four are
frozen at work (SIGSTOP) and the other four take over, once the leases are lost. When those are done
the frozen ones go on (SIGCONT), each in the middle of what it was doing; they must find that the
job is not theirs any more. In the next round they are the ones who take over.
"""

import argparse
import asyncio
import random
import signal
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy import func, select

from bench.proofs.storm import Victim, print_table
from bench.proofs.storm_ground import (
    Customer,
    Ground,
    laid,
    open_customers,
    opened,
    picture,
    request_for,
)
from bench.proofs.storm_verdict import judge
from gateway.cutouts import Cutouts
from gateway.tables import PROCESSING, SUCCEEDED

FROZEN: Final = 4
PICTURE_PX: Final = 2000
"""A picture that takes a worker a second or more, so that it is met at it."""
START_S_MAX: Final = 180.0
WORK_S_MAX: Final = 120.0
LOOK_S: Final = 0.02
WAKE_S: Final = 8.0
"""Longer than a heartbeat: by then whoever woke up knows that he is late."""
TAKEOVER_S_MAX: Final = 20.0
LOST: Final = b'"lease.lost"'


@dataclass(slots=True)
class Night:
    """Rounds of freezing and waking; `takeovers_s` has one figure for each job taken over."""

    cutouts: Cutouts
    customer: Customer
    chance: random.Random
    picture: bytes = field(default_factory=lambda: picture(PICTURE_PX))
    jobs: list[UUID] = field(default_factory=list)
    takeovers_s: list[float] = field(default_factory=list)
    finished_in_time: int = 0

    async def one_round(self, doomed: list[Victim], heirs: list[Victim]) -> None:
        send_all(heirs, signal.SIGSTOP)  # so that the jobs are the doomed ones'
        request = request_for(self.customer, self.picture)
        jobs = [(await self.cutouts.submit(request)).job_id for _ in doomed]
        await until(lambda: self._are_at_work(jobs), seconds=WORK_S_MAX)
        await asyncio.sleep(self.chance.uniform(0, 1))
        send_all(doomed, signal.SIGSTOP)
        frozen_at = await self._now()
        send_all(heirs, signal.SIGCONT)
        for job_id in jobs:
            job = await self.cutouts.wait(job_id, None, wait_s=WORK_S_MAX)
            assert job.state == SUCCEEDED, (job.state, job.error_code)
            assert job.started_at is not None
            if job.attempt == 1:
                self.finished_in_time += 1
            else:
                self.takeovers_s.append((job.started_at - frozen_at).total_seconds())
        send_all(doomed, signal.SIGCONT)
        await asyncio.sleep(WAKE_S)
        self.jobs += jobs

    async def _are_at_work(self, job_ids: list[UUID]) -> bool:
        jobs = [await self.cutouts.find(job_id) for job_id in job_ids]
        return all(job.has_ended or (job.state == PROCESSING and job.stage) for job in jobs)

    async def _now(self) -> datetime:
        async with self.cutouts.sessions.begin() as db:
            now: datetime = (await db.scalars(select(func.clock_timestamp()))).one()
        return now


async def prove(ground: Ground, workers: list[Victim], *, rounds: int, seed: int) -> bool:
    """Live through so many rounds, then look at the books; True where all is as it must be."""
    async with opened(ground.settings) as cutouts:
        (customer,) = await open_customers(cutouts.sessions, 1)
        chance = random.Random(seed)  # noqa: S311 - no secret
        night = Night(cutouts, customer, chance)
        await until(lambda: all_ready(workers), seconds=START_S_MAX)
        for number in range(rounds):
            doomed = workers[:FROZEN] if number % 2 else workers[FROZEN:]
            heirs = [worker for worker in workers if worker not in doomed]
            await night.one_round(doomed, heirs)
        verdict = await judge(cutouts.sessions, cutouts.storage, night.jobs)
    took_s = night.takeovers_s
    print(
        f"zombies: {rounds} rounds, {len(took_s)} jobs taken over after"
        f" {min(took_s):.1f} to {max(took_s):.1f} s, median {statistics.median(took_s):.1f} s"
        f" (lease 15 s); {night.finished_in_time} were done before the frost"
    )
    late = sum(worker.log().count(LOST) for worker in workers)
    print(f"zombies: {late} of those who woke up said that their lease was lost")
    print_table(verdict.seen)
    print_table({f"VIOLATIONS: {what}": count for what, count in verdict.violations.items()})
    print(f"zombies: broken invariants: {'; '.join(verdict.invariants) or 'none'}")
    return verdict.is_clean and max(took_s) <= TAKEOVER_S_MAX


def send_all(workers: list[Victim], how: signal.Signals) -> None:
    for worker in workers:
        worker.send(how)


async def all_ready(workers: list[Victim]) -> bool:
    return all(worker.is_ready() for worker in workers)


async def until(happens: Callable[[], Awaitable[bool]], *, seconds: float) -> None:
    """Ask again and again until it is so."""
    async with asyncio.timeout(seconds):
        while not await happens():  # noqa: ASYNC110 - it happens in other processes
            await asyncio.sleep(LOOK_S)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))  # noqa: S311 - no secret
    asked = parser.parse_args()
    print(f"zombies: {asked.rounds} rounds of {FROZEN}, seed {asked.seed}", flush=True)
    started = time.monotonic()
    with laid() as ground:
        workers = [
            Victim(
                f"worker-{n}",
                ["gateway.worker"],
                folder=ground.folder,
                environment=ground.environment,
                ready=b"worker.ready",
            )
            for n in range(2 * FROZEN)
        ]
        for worker in workers:
            worker.start()
        try:
            is_good = asyncio.run(prove(ground, workers, rounds=asked.rounds, seed=asked.seed))
        finally:
            for worker in workers:
                worker.kill()
    print(f"zombies: {(time.monotonic() - started) / 60:.1f} minutes")
    if not is_good:
        sys.exit("zombies: FAILED, see the violations and the takeovers")


if __name__ == "__main__":
    main()
