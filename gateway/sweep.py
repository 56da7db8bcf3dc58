"""The one reaper: what crashed, came too late or has expired is ended and cleared away.

Several may sweep at once; each takes what no other has locked. Money moves through `settle`, like
everywhere; storage is touched only outside transactions.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import structlog
from sqlalchemy import func, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from billing.db import SessionFactory, transact
from gateway import idempotency, jobs, settle
from gateway.errors import INTERNAL, DeadlineExceededError
from gateway.settings import Settings
from gateway.settle import Failure
from gateway.storage import Storage
from gateway.tables import Job
from gateway.transactions import is_away

BATCH_MAX: Final = 200
# Literals, not parameters: the partial indexes are of these very conditions.
IS_OPEN: Final = text("job.state IN ('queued', 'processing')")
IS_PROCESSING: Final = text("job.state = 'processing'")
HAS_SUCCEEDED: Final = text("job.state = 'succeeded'")
LOST: Final = Failure(INTERNAL.code)
TOO_LATE: Final = Failure.of(DeadlineExceededError())

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Sweeper:
    """Sweeps once a call."""

    sessions: SessionFactory
    storage: Storage
    settings: Settings

    async def sweep(self, *, are_leases_true: bool = True) -> None:
        """End what is overdue, then clear storage and idempotency records.

        Args:
            are_leases_true: False where heartbeats may have found no Postgres to go to.
        """
        overdue = await self._until_none(self._end_overdue)
        lost = await self._until_none(self._take_back_lost) if are_leases_true else 0
        if overdue or lost:
            log.warning("jobs.swept", overdue_count=overdue, lost_count=lost)
        await self._tidy()
        await self._purge_results()
        async with self.sessions.begin() as db:
            await idempotency.purge(db, records_max=BATCH_MAX)

    async def purge_orphans(self) -> int:
        """Delete sources that no job can still need: a crash came between them and their job."""
        before = datetime.now(UTC) - 2 * self.settings.hold_ttl
        return await self.storage.purge(jobs.SOURCES, before)

    async def _until_none(self, end_one: Callable[[AsyncSession], Awaitable[bool]]) -> int:
        """One transaction for each, so that no account's lock is held for another's sake."""
        for count in range(BATCH_MAX):
            if not await transact(self.sessions, end_one):
                return count
        return BATCH_MAX

    async def _end_overdue(self, db: AsyncSession) -> bool:
        job = await db.scalar(
            select(Job)
            .where(IS_OPEN, Job.deadline_at < func.now())
            .limit(1)
            .with_for_update(skip_locked=True)
        )
        return job is not None and await settle.fail(db, job.fence, TOO_LATE)

    async def _take_back_lost(self, db: AsyncSession) -> bool:
        lease = self.settings.lease
        job = await db.scalar(
            select(Job)
            .where(
                IS_PROCESSING,
                Job.lease_until < func.now(),
                # A Postgres that has just started has missed heartbeats.
                func.pg_postmaster_start_time() < func.now() - lease,
            )
            .order_by(Job.lease_until)
            .limit(1)
            .with_for_update(skip_locked=True)
        )
        if job is None:
            return False
        await settle.retry_or_fail(db, job, LOST, attempts_max=self.settings.job_attempts_max)
        return True

    async def _tidy(self) -> None:
        """Delete sources of ended jobs, and results of attempts that did not end them."""
        async with self.sessions.begin() as db:
            untidy = await db.scalars(
                select(Job)
                .where(Job.finished_at.is_not(None), ~Job.is_tidy)
                .order_by(Job.finished_at)
                .limit(BATCH_MAX)
            )
        ended = untidy.all()
        for job in ended:
            for key in _leftovers(job):
                await self.storage.delete(key)
        await self._mark(ended, is_tidy=True)

    async def _purge_results(self) -> None:
        async with self.sessions.begin() as db:
            expired = await db.scalars(
                select(Job)
                .where(
                    HAS_SUCCEEDED,
                    Job.purged_at.is_(None),
                    Job.result_expires_at < func.now(),
                )
                .order_by(Job.result_expires_at)
                .limit(BATCH_MAX)
            )
        ended = expired.all()
        for job in ended:
            await self.storage.delete(str(job.result_key))
        await self._mark(ended, purged_at=func.now())

    async def _mark(self, ended: Sequence[Job], **values: object) -> None:
        if not ended:
            return
        async with self.sessions.begin() as db:
            await db.execute(update(Job).where(Job.id.in_([j.id for j in ended])).values(**values))


def _leftovers(job: Job) -> list[str]:
    attempts = range(1, job.attempt + 1)
    results = [jobs.result_key(job.id, n, job.options["format"]) for n in attempts]
    keys = [job.source_key, job.background_key, *results]
    return [key for key in keys if key and key != job.result_key]


async def sweep_forever(sweeper: Sweeper) -> None:
    """Sweep every `sweep_interval`, whatever happens; end by being cancelled.

    Where Postgres cannot be reached from here it may be out of reach for heartbeats too: after
    that, every lease gets its whole time again before it is believed to be over.
    """
    interval_s = sweeper.settings.sweep_interval.total_seconds()
    orphans_every = max(1, round(sweeper.settings.hold_ttl.total_seconds() / interval_s))
    turn, leases_true_from = 0, 0.0
    while True:
        await asyncio.sleep(interval_s)
        turn += 1
        try:
            await sweeper.sweep(are_leases_true=time.monotonic() >= leases_true_from)
            if turn % orphans_every == 0:
                await sweeper.purge_orphans()
        except Exception as exc:
            leases_true_from = time.monotonic() + sweeper.settings.lease.total_seconds()
            log.warning("sweep.failed", exc_info=None if is_away(exc) else exc)
