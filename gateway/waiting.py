"""Who waits for a job's end: one look at the database for all of them, not one for each."""

import asyncio
from collections import defaultdict
from contextlib import suppress
from datetime import timedelta
from typing import Final
from uuid import UUID

import structlog
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from billing.db import SessionFactory
from gateway.tables import Job
from gateway.transactions import is_away, persist

STEP_S: Final = 0.25
PATIENCE: Final = timedelta(seconds=2)
WAITING_MAX: Final = 2000
"""Who comes past it is answered at once, as without `wait`."""

log = structlog.get_logger()


class Waiting:
    """The calls of one gateway that wait for jobs to end."""

    def __init__(self, *, waiting_max: int = WAITING_MAX) -> None:
        self._waiting_max = waiting_max
        self._count = 0
        self._turns: defaultdict[UUID, set[asyncio.Future[None]]] = defaultdict(set)
        self._looking: asyncio.Task[None] | None = None

    async def for_end(self, sessions: SessionFactory, job_id: UUID, *, wait_s: float) -> None:
        """Return once the job has ended, or after `wait_s`; at once where too many wait."""
        if self._count >= self._waiting_max:
            return
        turn = asyncio.get_running_loop().create_future()
        self._count += 1
        self._turns[job_id].add(turn)
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look(sessions))
        try:
            await asyncio.wait([turn], timeout=wait_s)
        finally:
            self._count -= 1
            self._turns[job_id].discard(turn)
            if not self._turns[job_id]:
                del self._turns[job_id]

    async def close(self) -> None:
        """Stop looking; who still waits is answered when his time is over."""
        if self._looking is not None:
            self._looking.cancel()
            with suppress(asyncio.CancelledError):
                await self._looking

    async def _look(self, sessions: SessionFactory) -> None:
        while self._turns:
            try:
                for job_id in await self._ended(sessions):
                    for turn in self._turns.get(job_id, ()):
                        if not turn.done():
                            turn.set_result(None)
            except Exception as exc:
                log.warning("waiting.failed", exc_info=None if is_away(exc) else exc)
            await asyncio.sleep(STEP_S)

    async def _ended(self, sessions: SessionFactory) -> list[UUID]:
        job_ids = list(self._turns)

        async def work(db: AsyncSession) -> list[UUID]:
            ended = select(Job.id).where(Job.id.in_(job_ids), Job.finished_at.is_not(None))
            return list(await db.scalars(ended))

        return await persist(sessions, work, patience=PATIENCE)
