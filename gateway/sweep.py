"""The one reaper: what crashed, came too late or has expired is ended and cleared away.

Several may sweep at once; each takes what no other has locked. Money moves through `settle`, like
everywhere; storage is touched only outside transactions. What fails, a step or one job's objects,
keeps nothing else from being swept.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import structlog
from sqlalchemy import Select, func, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from billing.db import SessionFactory, transact
from billing.tables import PlanVersion
from gateway import idempotency, jobs, retention, settle
from gateway.errors import INTERNAL, DeadlineExceededError
from gateway.settings import Settings
from gateway.settle import Failure
from gateway.storage import Storage
from gateway.tables import FAILED, SUCCEEDED, Job
from gateway.transactions import is_away

BATCH_MAX: Final = 200
FAILURES_MAX: Final = 10
"""Jobs of one batch whose objects cannot be deleted, before the rest is left to the next sweep."""
LONG_AGO: Final = datetime(1970, 1, 1, tzinfo=UTC)
# Literals, not parameters: the partial indexes are of these very conditions.
IS_OPEN: Final = text("job.state IN ('queued', 'processing')")
IS_PROCESSING: Final = text("job.state = 'processing'")
HAS_SUCCEEDED: Final = text("job.state = 'succeeded'")
LOST: Final = Failure(INTERNAL.code)
TOO_LATE: Final = Failure.of(DeadlineExceededError())

log = structlog.get_logger()


@dataclass(slots=True)
class Round:
    """How far a step that takes a batch a sweep has come, before it begins anew.

    So that what cannot be deleted is passed by, and tried again in the next round.
    """

    after: datetime = LONG_AGO


@dataclass(frozen=True, slots=True)
class Sweeper:
    """Sweeps once a call."""

    sessions: SessionFactory
    storage: Storage
    settings: Settings
    tidied: Round = field(default_factory=Round)
    purged: Round = field(default_factory=Round)

    async def sweep(self, *, are_leases_true: bool = True) -> bool:
        """End what is overdue, then clear storage, idempotency records and what is old.

        Args:
            are_leases_true: False where heartbeats may have found no Postgres to go to.

        Returns:
            Whether Postgres was within reach all the time.
        """
        steps = [
            *(self._end_all_overdue, self._tidy, self._purge_results, self._purge_records),
            *(self._abridge_jobs, self._forget_deliveries),
        ]
        if are_leases_true:
            steps.insert(1, self._take_back_all_lost)
        return all([await take(step) for step in steps])

    async def purge_orphans(self) -> int:
        """Delete what no job can still need: a crash came between it and its job.

        A source is needed until its hold is over; from then on, that of a failed job for a while,
        and a result, with the source that it keeps, for as long as the longest plan says.
        """
        async with self.sessions.begin() as db:
            result_ttl = await db.scalar(select(func.max(PlanVersion.result_ttl)))
        now, hold_ttl = datetime.now(UTC), self.settings.hold_ttl
        source_ttl = self.settings.failed_source_ttl
        if self.settings.keep_sources and result_ttl is not None:
            source_ttl = max(source_ttl, result_ttl)
        count = await self.storage.purge(jobs.SOURCES, now - 2 * hold_ttl - source_ttl)
        if result_ttl is not None:
            count += await self.storage.purge(jobs.RESULTS, now - result_ttl - 2 * hold_ttl)
        return count

    async def _end_all_overdue(self) -> None:
        await self._until_none(self._end_overdue, "overdue_count")

    async def _take_back_all_lost(self) -> None:
        await self._until_none(self._take_back_lost, "lost_count")

    async def _until_none(
        self, end_one: Callable[[AsyncSession], Awaitable[bool]], counted_as: str
    ) -> None:
        """One transaction for each, so that no account's lock is held for another's sake."""
        count = 0
        while count < BATCH_MAX and await transact(self.sessions, end_one):
            count += 1
        if count:
            log.warning("jobs.swept", **{counted_as: count})

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
        """Delete what ended jobs leave, their result apart, and their source while it is kept."""
        untidy = select(Job).where(
            Job.finished_at.is_not(None),
            ~Job.is_tidy,
            # A failed job's upload is kept for whoever runs it again (`reruns.py`).
            (Job.state != FAILED)
            | Job.source_key.is_(None)
            | (Job.finished_at < func.now() - self.settings.failed_source_ttl),
        )
        await self._clear(untidy, Job.finished_at, self.tidied, self._leftovers, is_tidy=True)

    async def _purge_results(self) -> None:
        expired = select(Job).where(
            HAS_SUCCEEDED, Job.purged_at.is_(None), Job.result_expires_at < func.now()
        )
        await self._clear(
            expired, Job.result_expires_at, self.purged, _result_and_source, purged_at=func.now()
        )

    async def _purge_records(self) -> None:
        async with self.sessions.begin() as db:
            await idempotency.purge(db, records_max=BATCH_MAX)

    async def _abridge_jobs(self) -> None:
        async with self.sessions.begin() as db:
            kept = self.settings.job_retention
            count = await retention.abridge_jobs(db, kept=kept, rows_max=BATCH_MAX)
        if count:
            log.info("jobs.abridged", count=count)

    async def _forget_deliveries(self) -> None:
        async with self.sessions.begin() as db:
            kept = self.settings.webhook_retention
            count = await retention.forget_deliveries(db, kept=kept, rows_max=BATCH_MAX)
        if count:
            log.info("webhooks.forgotten", count=count)

    def _leftovers(self, job: Job) -> list[str]:
        attempts = range(1, job.attempt + 1)
        results = [jobs.result_key(job.id, n, job.options["format"]) for n in attempts]
        lives = job.state == SUCCEEDED and job.purged_at is None
        source_key = None if lives and self.settings.keep_sources else job.source_key
        keys = [source_key, job.background_key, *results]
        return [key for key in keys if key and key != job.result_key]

    async def _clear(
        self,
        due: Select[Job],
        due_at: InstrumentedAttribute[datetime | None],
        turn: Round,
        keys_of: Callable[[Job], list[str]],
        **values: Any,
    ) -> None:
        """Delete the objects of the next batch of jobs; note it of those that have none left."""
        async with self.sessions.begin() as db:
            batch = await db.scalars(
                due.where(due_at > turn.after).order_by(due_at).limit(BATCH_MAX)
            )
        ended, cleared, failures_count = batch.all(), [], 0
        turn.after = getattr(ended[-1], due_at.key) if len(ended) == BATCH_MAX else LONG_AGO
        for job in ended:
            if await self._has_deleted(job, keys_of):
                cleared.append(job.id)
                continue
            failures_count += 1
            if failures_count == FAILURES_MAX:
                turn.after = getattr(job, due_at.key)
                break
        if cleared:
            async with self.sessions.begin() as db:
                await db.execute(update(Job).where(Job.id.in_(cleared)).values(**values))

    async def _has_deleted(self, job: Job, keys_of: Callable[[Job], list[str]]) -> bool:
        try:
            for key in keys_of(job):
                await self.storage.delete(key)
        except Exception as exc:  # noqa: BLE001 - whatever it is, it is this job's alone
            log.warning("job.left_in_storage", job_id=str(job.id), reason=type(exc).__name__)
            return False
        return True


async def take(step: Callable[[], Awaitable[Any]]) -> bool:
    """Take one step of a sweep, and log it where it fails; False where Postgres was away."""
    try:
        await step()
    except Exception as exc:
        was_away = is_away(exc)
        log.warning("sweep.failed", step=step.__name__, exc_info=None if was_away else exc)
        return not was_away
    return True


def _result_and_source(job: Job) -> list[str]:
    """Name both, whether the source was kept or not: it is noted once that neither is left."""
    return [key for key in (job.source_key, job.result_key) if key]


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
        is_in_reach = await sweeper.sweep(are_leases_true=time.monotonic() >= leases_true_from)
        if turn % orphans_every == 0:
            is_in_reach &= await take(sweeper.purge_orphans)
        if not is_in_reach:
            leases_true_from = time.monotonic() + sweeper.settings.lease.total_seconds()
