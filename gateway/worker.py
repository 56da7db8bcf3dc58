"""The worker process: claims queued jobs by lease and makes them; relays bells; sweeps.

`python -m gateway.worker`. Postgres is the truth: each runner asks it for the job whose turn it
is, when arq rings and at least every second. So Redis may be away, emptied or late, and nothing but
a second is lost. SIGTERM: no new claims; what is in work is finished within `shutdown_grace` or
handed back. The books are kept by the way.
"""

import asyncio
import contextlib
import json
import logging
import os
import random
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, cast
from uuid import uuid4

import structlog
from arq.worker import Worker as ArqWorker
from arq.worker import func as arq_function

from billing.db import SessionFactory, make_engine, make_sessions
from gateway import jobs
from gateway.admission import Admission
from gateway.bookkeeping import Bookkeeper
from gateway.cutouts import Cutouts
from gateway.inference import Inference
from gateway.log import configure_logging
from gateway.outbox import QUEUE_NAMES, RING, Bell, connect, relay, serialize
from gateway.presence import announced
from gateway.settings import Settings, read_settings
from gateway.storage import Storage
from gateway.sweep import Sweeper, sweep_forever
from gateway.tables import Job
from gateway.transactions import is_away, persist
from gateway.webhooks.deliverer import Deliverer

POLL_S: Final = 1.0
"""How long a free runner waits for the bell before it looks for itself."""
STANDARD_TURN: Final = 10
"""Every so many claims look at the standard queue first: it keeps a tenth of the slots."""
REDIS_TIMEOUT_S: Final = 5.0
REDIS_PAUSE_S: Final = 1.0
REDIS_CLOSE_S: Final = 1.0
ARQ_POLL_S: Final = 0.05
HEALTH_INTERVAL_S: Final = 5

log = structlog.get_logger()


class Worker:
    """As many runners as there are inference slots, and what keeps them in work."""

    def __init__(self, settings: Settings, cutouts: Cutouts) -> None:
        self._settings = settings
        self._cutouts = cutouts
        self._rings: asyncio.Queue[None] = asyncio.Queue(1)
        self._stopping = asyncio.Event()
        self._claims_count = 0
        self._served_account = uuid4()  # by lot, so that workers do not go round in step

    async def run(self) -> None:
        """Work until `stop`; then finish what is in work, or hand it back after the grace."""
        runners = [
            asyncio.create_task(self._run_jobs(), name=f"runner-{n}")
            for n in range(self._settings.inference_slots)
        ]
        bookkeeper = Bookkeeper(self._cutouts.sessions)
        look_s = self._settings.sweep_interval.total_seconds()
        async with _in_background(
            *(self._listen(queue_name) for queue_name in QUEUE_NAMES.values()),
            self._relay_forever(),
            sweep_forever(Sweeper(self._cutouts.sessions, self._cutouts.storage, self._settings)),
            Deliverer(self._cutouts.sessions, self._settings).run_forever(),
            bookkeeper.advance_forever(look_s),
            bookkeeper.check_forever(look_s),
        ):
            log.info("worker.ready", slots=len(runners), pid=os.getpid())
            stopping = asyncio.create_task(self._stopping.wait())
            await asyncio.wait([stopping, *runners], return_when=asyncio.FIRST_COMPLETED)
            self.stop()
            await self._wind_up(runners)

    def stop(self) -> None:
        """Claim nothing more, and let `run` come to its end."""
        self._stopping.set()

    async def _wind_up(self, runners: list[asyncio.Task[None]]) -> None:
        grace_s = self._settings.shutdown_grace.total_seconds()
        _, late = await asyncio.wait(runners, timeout=grace_s)
        for runner in late:
            runner.cancel()
        if late:
            await asyncio.wait(late)
        await self._cutouts.close()
        log.info("worker.stopped", handed_back_count=len(late))

    async def _run_jobs(self) -> None:
        while not self._stopping.is_set():
            job = None
            try:
                job = await self._claim()
                if job is not None:
                    await self._cutouts.work(job.id, job.attempt)
            except Exception as exc:
                # A job that was claimed meanwhile comes back when its lease is over.
                log.warning("runner.failed", exc_info=None if is_away(exc) else exc)
            if job is None:
                await self._wait_for_ring()

    async def _claim(self) -> Job | None:
        self._claims_count += 1
        is_standard_first = self._claims_count % STANDARD_TURN == 0

        async def work(db: Any) -> Job | None:
            return await jobs.claim(
                db,
                lease=self._settings.lease,
                after=self._served_account,
                is_standard_first=is_standard_first,
            )

        job = await persist(self._cutouts.sessions, work, patience=self._settings.lease)
        if job is not None:
            self._served_account = job.account_id
        return job

    async def _wait_for_ring(self) -> None:
        # Spread a little, so that the workers of a fleet do not all look at once.
        wait_s = POLL_S * random.uniform(0.8, 1.2)  # noqa: S311 - no secret
        waits = [
            asyncio.create_task(self._rings.get()),
            asyncio.create_task(self._stopping.wait()),
        ]
        await asyncio.wait(waits, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()

    async def _ring(self, _: dict[str, Any], job_id: str, attempt: int) -> None:
        """Wake a free runner. While none is free this holds arq back, so that another takes it."""
        del job_id, attempt  # whose turn it is, Postgres says
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(POLL_S):
                await self._rings.put(None)

    async def _listen(self, queue_name: str) -> None:
        """Keep an arq worker on one queue; any error of Redis ends it, and it is made anew."""
        while True:
            redis = connect(str(self._settings.redis_url), timeout_s=REDIS_TIMEOUT_S)
            arq = ArqWorker(
                [arq_function(cast("Any", self._ring), name=RING, keep_result=0, max_tries=1)],
                queue_name=queue_name,
                redis_pool=redis,
                handle_signals=False,
                max_jobs=self._settings.inference_slots,
                job_timeout=2 * POLL_S,
                keep_result=0,
                retry_jobs=False,
                poll_delay=ARQ_POLL_S,
                health_check_interval=HEALTH_INTERVAL_S,
                job_serializer=serialize,
                job_deserializer=json.loads,
                log_results=False,
            )
            try:
                await arq.async_run()
            except Exception as exc:  # noqa: BLE001 - whatever it is, the bell is a hint
                log.warning("bell.deaf", queue=queue_name, reason=type(exc).__name__)
            finally:
                # Its rings first: each takes a connection once more to say that it has ended.
                for ring in arq.job_tasks.values():
                    ring.cancel()
                if arq.tasks:
                    await asyncio.wait(arq.tasks.values(), timeout=REDIS_CLOSE_S)
                with contextlib.suppress(Exception):
                    await redis.aclose(close_connection_pool=True)
            await asyncio.sleep(REDIS_PAUSE_S)

    async def _relay_forever(self) -> None:
        while True:
            await asyncio.sleep(self._settings.sweep_interval.total_seconds())
            try:
                await relay(self._cutouts.sessions, self._cutouts.bell)
            except Exception as exc:
                log.warning("relay.failed", exc_info=None if is_away(exc) else exc)


@asynccontextmanager
async def _in_background(*loops: Awaitable[None]) -> AsyncIterator[None]:
    tasks = [asyncio.ensure_future(loop) for loop in loops]
    try:
        yield
    finally:
        left = set(tasks)
        while left:
            # Again where need be: `asyncio.wait_for` of Python 3.11, which redis-py calls for each
            # command, loses a cancellation that comes in the moment of the answer.
            for task in left:
                task.cancel()
            _, left = await asyncio.wait(left, timeout=2 * REDIS_CLOSE_S)


async def serve(settings: Settings, on_ready: Callable[[Worker], None]) -> int:
    """Build a worker, run it until it is stopped, and tell how many threads are stuck."""
    engine = make_engine(str(settings.database_url), pool_size=settings.database_connections_max)
    sessions: SessionFactory = make_sessions(engine)
    inference = Inference(settings)
    await inference.start()
    bell = Bell(str(settings.redis_url))
    storage = Storage.from_url(settings.storage_url)
    cutouts = Cutouts(sessions, storage, inference, Admission(settings), bell, settings)
    worker = Worker(settings, cutouts)
    on_ready(worker)
    try:
        async with announced(
            str(settings.redis_url),
            "worker",
            slots=settings.inference_slots,
            models=lambda: inference.providers,
        ):
            await worker.run()
    finally:
        inference.close()
        await bell.close()
        await engine.dispose()
    return inference.stuck_count


def stop_on_signals(worker: Worker) -> None:
    """Let SIGTERM and SIGINT end the worker gracefully."""
    loop = asyncio.get_running_loop()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signal_number, worker.stop)


def main() -> None:
    """Run a worker with the settings of the environment."""
    configure_logging()
    logging.getLogger("arq").setLevel(logging.ERROR)  # two lines for each ring
    stuck_count = asyncio.run(serve(read_settings(), stop_on_signals))
    if stuck_count:
        os._exit(0)  # a thread that cannot be stopped must not keep the process


if __name__ == "__main__":
    main()
