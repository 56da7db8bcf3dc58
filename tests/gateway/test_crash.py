"""Real processes, killed, frozen and cut off in the middle of real work: nobody pays for it twice.

These have servers of their own, which they stop and empty as they like.
"""

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from httpx import AsyncClient, HTTPError
from PIL import Image
from redis.asyncio import Redis

from billing.db import make_engine, make_sessions
from billing.keys import KeyHasher, create_key
from gateway.embedded.services import Embedded, free_port
from gateway.settings import Settings
from gateway.tables import FAILED, PROCESSING, SUCCEEDED, Job
from migrations.run import upgrade
from tests.conftest import encoded_photograph
from tests.gateway.workshop import PEPPERS, Workshop

PRICE = 25
TAKEOVER_S_MAX = 20
START_S_MAX = 90
FAST_LEASE = {"CUTOUT_LEASE": "PT3S", "CUTOUT_HEARTBEAT": "PT1S"}


@dataclass(slots=True)
class Ground:
    """Servers, a workshop that submits to them, and processes that work on them."""

    services: Embedded
    folder: Path
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        return {
            "CUTOUT_DATABASE_URL": self.services.database_url,
            "CUTOUT_REDIS_URL": self.services.redis_url,
            "CUTOUT_STORAGE_URL": f"file://{self.folder}/storage",
            "CUTOUT_KEY_PEPPERS": f'{{"1": "{PEPPERS[1]}"}}',
            "CUTOUT_LINK_SECRET": "link-secret-of-the-tests-and-nobody-else",
            "CUTOUT_MISSING_WEIGHTS": "substitute",
            "CUTOUT_PRELOAD_MODELS": '["cutout-lite"]',
            "CUTOUT_INFERENCE_SLOTS": "1",
        }

    def settings(self) -> Settings:
        """The same as the processes have, but for their leases."""
        ours: dict[str, Any] = {
            "database_url": self.services.database_url,
            "redis_url": self.services.redis_url,
            "storage_url": f"file://{self.folder}/storage",
            "key_peppers": PEPPERS,
            "link_secret": "link-secret-of-the-tests-and-nobody-else",
        }
        return Settings(**ours)

    def worker(self, **environment: str) -> subprocess.Popen[bytes]:
        """Start a worker; it claims nothing before it is ready."""
        return self.start(["gateway.worker"], b"worker.ready", **environment)

    def start(self, module: list[str], ready: bytes, **environment: str) -> subprocess.Popen[bytes]:
        log_path = self.folder / f"process-{len(self.processes)}.log"
        with log_path.open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", *module],
                env=os.environ | self.environment | environment,
                stdout=log,
                stderr=log,
            )
        self.processes.append(process)
        give_up_at = time.monotonic() + START_S_MAX
        while ready not in log_path.read_bytes():
            assert process.poll() is None, log_path.read_text()
            assert time.monotonic() < give_up_at, log_path.read_text()
            time.sleep(0.05)
        return process

    def end_all(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait()
        self.processes.clear()


@pytest.fixture(scope="module")
def servers() -> Iterator[Embedded]:
    """Servers for these tests alone. Durable: what is committed must outlive Postgres."""
    with tempfile.TemporaryDirectory(prefix="cutout-crash-") as folder:
        Path(folder).chmod(0o711)
        with Embedded(Path(folder)) as services:
            upgrade(services.database_owner_url)
            yield services


@pytest.fixture
def ground(servers: Embedded, tmp_path: Path) -> Iterator[Ground]:
    ground = Ground(servers, tmp_path)
    yield ground
    ground.end_all()


@pytest.fixture
async def workshop(ground: Ground) -> AsyncIterator[Workshop]:
    engine = make_engine(ground.services.database_url)
    workshop = Workshop.build(ground.settings(), make_sessions(engine))
    yield workshop
    await workshop.close()
    await engine.dispose()


@pytest.fixture(scope="module")
def picture() -> bytes:
    """A photograph that a worker is busy with long enough to be met at it."""
    buffer = BytesIO()
    with Image.open(BytesIO(encoded_photograph("astronaut"))) as photograph:
        photograph.resize((1600, 1600)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


async def test_a_killed_workers_job_is_finished_by_another_and_charged_once(
    ground: Ground, workshop: Workshop, picture: bytes
) -> None:
    caller = await workshop.caller()
    doomed = ground.worker()
    heir = ground.worker()
    heir.send_signal(signal.SIGSTOP)  # so that the job is the doomed one's
    (job_id,) = await workshop.queued(caller, picture=picture)
    await until(lambda: is_at_work(workshop, job_id))

    doomed.kill()
    killed_at = time.monotonic()
    doomed.wait()
    heir.send_signal(signal.SIGCONT)
    orphaned = await workshop.cutouts.find(job_id)
    job = await workshop.cutouts.wait(job_id, None, wait_s=60)
    took_s = time.monotonic() - killed_at

    assert (orphaned.state, orphaned.attempt) == (PROCESSING, 1), "it was in the middle of it"
    assert (job.state, job.attempt) == (SUCCEEDED, 2)
    assert took_s <= TAKEOVER_S_MAX
    await assert_paid_once(workshop, caller, [job])


async def test_a_frozen_worker_that_wakes_up_charges_nothing(
    ground: Ground, workshop: Workshop, picture: bytes
) -> None:
    caller = await workshop.caller()
    zombie = ground.worker(**FAST_LEASE)
    heir = ground.worker(**FAST_LEASE)
    heir.send_signal(signal.SIGSTOP)
    (job_id,) = await workshop.queued(caller, picture=picture)
    await until(lambda: is_at_work(workshop, job_id))

    zombie.send_signal(signal.SIGSTOP)
    heir.send_signal(signal.SIGCONT)
    job = await workshop.cutouts.wait(job_id, None, wait_s=60)
    zombie.send_signal(signal.SIGCONT)
    heir.send_signal(signal.SIGSTOP)
    (next_id,) = await workshop.queued(caller, picture=picture)
    next_job = await workshop.cutouts.wait(next_id, None, wait_s=60)

    assert (job.state, job.attempt) == (SUCCEEDED, 2)
    assert (next_job.state, next_job.attempt) == (SUCCEEDED, 1), "it is a good worker again"
    await assert_paid_once(workshop, caller, [job, next_job])


async def test_redis_is_emptied_again_and_again_and_every_job_is_done(
    ground: Ground, workshop: Workshop
) -> None:
    caller = await workshop.caller(plan="growth")  # for as many at once
    redis = Redis.from_url(ground.services.redis_url)
    ground.worker(**FAST_LEASE)
    ground.worker(**FAST_LEASE)

    job_ids: list[UUID] = []
    for _ in range(12):
        job_ids += await workshop.queued(caller, count=2, picture=encoded_photograph("coffee"))
        await redis.flushall()
    jobs = await all_ended(workshop, job_ids)
    await redis.aclose()

    assert {job.state for job in jobs} == {SUCCEEDED}
    await assert_paid_once(workshop, caller, jobs)


async def test_without_redis_jobs_are_accepted_and_done(ground: Ground, workshop: Workshop) -> None:
    caller = await workshop.caller()
    ground.worker(**FAST_LEASE)

    os.kill(ground.services.pids["valkey"], signal.SIGKILL)
    without = await workshop.queued(caller, count=4, picture=encoded_photograph("coffee"))
    jobs = await all_ended(workshop, without)
    ground.services.revive()
    with_it = await workshop.queued(caller, count=2, picture=encoded_photograph("coffee"))
    jobs += await all_ended(workshop, with_it)

    assert {job.state for job in jobs} == {SUCCEEDED}
    await assert_paid_once(workshop, caller, jobs)


async def test_postgres_restarts_in_the_middle_and_nothing_is_lost_or_double(
    ground: Ground, workshop: Workshop, picture: bytes
) -> None:
    caller = await workshop.caller(plan="starter")
    ground.worker(**FAST_LEASE)
    ground.worker(**FAST_LEASE)
    job_ids = await workshop.queued(caller, count=6, picture=picture)
    # One that waits for its answer, in this process.
    running = asyncio.create_task(workshop.cutouts.run(workshop.request(caller, picture)))
    await until(lambda: has_sync_job_at_work(workshop, caller))

    for _ in range(3):
        os.kill(ground.services.pids["postgres"], signal.SIGQUIT)  # "immediate"
        await asyncio.sleep(1)
        ground.services.revive()
        await asyncio.sleep(1)
    done = await asyncio.wait_for(running, 60)
    jobs = await all_ended(workshop, job_ids)

    assert done.charged_credits == PRICE
    assert {job.state for job in jobs} == {SUCCEEDED}
    jobs.append(await workshop.cutouts.find(done.job_id))
    await assert_paid_once(workshop, caller, jobs)


async def test_a_killed_gateways_request_is_free(
    ground: Ground, workshop: Workshop, picture: bytes
) -> None:
    caller = await workshop.caller()
    async with workshop.sessions.begin() as db:
        _, plaintext = await create_key(
            db, KeyHasher(PEPPERS), account_id=caller.key.account_id, env="live", actor="test"
        )
    port = free_port()
    ground.worker(**FAST_LEASE)
    gateway = ground.start(
        ["gateway.cli", "gateway"], b"", CUTOUT_BIND_PORT=str(port), **FAST_LEASE
    )
    async with AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
        await until(lambda: is_ready(client), seconds=START_S_MAX)
        calling = asyncio.create_task(
            client.post(
                "/v1/open/remove_bg",
                headers={"Authorization": f"Bearer {plaintext}"},
                files={"image": picture},
            )
        )
        await until(lambda: has_sync_job_at_work(workshop, caller))
        gateway.kill()
        with pytest.raises(HTTPError):
            await calling

    (job,) = await workshop.jobs_of(caller)
    job = await workshop.cutouts.wait(job.id, None, wait_s=TAKEOVER_S_MAX)
    assert (job.state, job.error_code, job.attempt) == (FAILED, "internal_error", 1)
    assert await workshop.hold_state(job.id) == "released"
    assert (await workshop.balance(caller)).held == 0
    assert await workshop.foots(caller)


async def test_a_worker_that_is_told_to_stop_finishes_what_it_has(
    ground: Ground, workshop: Workshop, picture: bytes
) -> None:
    caller = await workshop.caller()
    worker = ground.worker()
    first, second = await workshop.queued(caller, count=2, picture=picture)
    await until(lambda: is_at_work(workshop, first))

    worker.terminate()
    code = await asyncio.to_thread(worker.wait, 40)

    assert code == 0
    assert (await workshop.cutouts.find(first)).state == SUCCEEDED
    left = await workshop.cutouts.find(second)
    assert (left.state, left.attempt) == ("queued", 1), "nothing new was begun"
    assert await workshop.work_off() == 1


async def is_at_work(workshop: Workshop, job_id: UUID) -> bool:
    job = await workshop.cutouts.find(job_id)
    return job.state == PROCESSING and job.stage is not None


async def has_sync_job_at_work(workshop: Workshop, caller: Any) -> bool:
    jobs = await workshop.jobs_of(caller)
    return any(job.state == PROCESSING and not job.is_async for job in jobs)


async def is_ready(client: AsyncClient) -> bool:
    try:
        return (await client.get("/health/ready")).is_success
    except HTTPError:
        return False


async def all_ended(workshop: Workshop, job_ids: list[UUID]) -> list[Job]:
    return [await workshop.cutouts.wait(job_id, None, wait_s=90) for job_id in job_ids]


async def assert_paid_once(workshop: Workshop, caller: Any, jobs: list[Job]) -> None:
    """Each job captured once, its result there, the account's books in order."""
    for job in jobs:
        assert await workshop.captures_of(job.id) == 1
        assert await workshop.cutouts.storage.exists(str(job.result_key))
    balance = await workshop.balance(caller)
    assert (balance.consumed, balance.held) == (PRICE * len(jobs), 0)
    assert await workshop.foots(caller)


async def until(happens: Callable[[], Any], *, seconds: float = 30) -> None:
    """Ask again and again until it is so."""
    async with asyncio.timeout(seconds):
        while not await happens():  # noqa: ASYNC110 - it happens in another process
            await asyncio.sleep(0.01)
