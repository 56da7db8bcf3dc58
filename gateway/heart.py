"""While a thread works on a job: its lease is kept alive and its stage is told to Postgres."""

import asyncio
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

import structlog

from billing.db import SessionFactory
from gateway import jobs
from gateway.errors import LeaseLostError
from gateway.settings import Settings
from gateway.tables import Job
from gateway.transactions import is_away

PROGRESS: Final = {
    "decode": 5,
    "segment": 20,
    "refine": 50,
    "decontaminate": 65,
    "compose": 75,
    "encode": 85,
    "store": 95,
}
"""How far a job is when a stage begins, in percent of a usual picture's time."""

LAST_BEAT_S_MAX: Final = 1.0

log = structlog.get_logger()


class Heart:
    """Beats for one attempt of one job; tells its thread to stop once the lease is lost."""

    def __init__(self, sessions: SessionFactory, job: Job, settings: Settings) -> None:
        self._sessions = sessions
        self._fence = job.fence
        # Only an asynchronous job has somebody who asks how far it is.
        self._tells_stages = job.is_async
        self._lease = settings.lease
        self._interval_s = settings.heartbeat.total_seconds()
        self._stage: str | None = None
        self._news = asyncio.Event()
        self._is_lost = False
        self._is_over = False
        self._loop = asyncio.get_running_loop()
        self._beating: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._beating = asyncio.create_task(self._beat())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._is_over = True
        self._news.set()
        if self._beating is not None:
            # A beat that is under way may end: to break it off would cost a connection.
            _, late = await asyncio.wait([self._beating], timeout=LAST_BEAT_S_MAX)
            for beating in late:
                beating.cancel()

    def reach(self, stage: str) -> None:
        """Note the stage that begins; called from the thread that works.

        Raises:
            LeaseLostError: the job is another's by now, so that to go on would be in vain.
        """
        if self._is_lost:
            raise LeaseLostError
        self._stage = stage
        if self._tells_stages:
            self._loop.call_soon_threadsafe(self._news.set)

    async def _beat(self) -> None:
        while not self._is_lost:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._interval_s):
                    await self._news.wait()
            self._news.clear()
            if self._is_over:
                return
            try:
                self._is_lost = not await self._prolong()
            except Exception as exc:
                log.warning(
                    "heartbeat.missed",
                    job_id=str(self._fence.job_id),
                    exc_info=None if is_away(exc) else exc,
                )

    async def _prolong(self) -> bool:
        stage = self._stage
        async with self._sessions.begin() as db:
            return await jobs.heartbeat(
                db,
                self._fence,
                lease=self._lease,
                stage=stage,
                progress=PROGRESS.get(stage or "", 0),
            )
