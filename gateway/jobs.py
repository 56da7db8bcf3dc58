"""Job rows: create, claim with a lease, heartbeat, end, hand back, find.

Functions take a session and never commit. Each command that ends or moves a job is one conditional
UPDATE on (id, attempt, state): the fence that a worker who lost its lease cannot pass.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final
from uuid import UUID, uuid4

from sqlalchemy import delete, func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.errors import JobNotFoundError
from gateway.tables import (
    CANCELED,
    FAILED,
    PRIORITY,
    PROCESSING,
    QUEUED,
    STANDARD,
    SUCCEEDED,
    Fence,
    Job,
    Outbox,
)

SOURCES: Final = "sources"
RESULTS: Final = "results"

# Literals, not parameters: a plan for any state could not use the index of the queued ones.
IS_QUEUED: Final = text("job.state = 'queued'")
ACCOUNTS_PER_CLAIM_MAX: Final = 16


def source_key(job_id: UUID) -> str:
    return f"{SOURCES}/{job_id}/source"


def background_key(job_id: UUID) -> str:
    return f"{SOURCES}/{job_id}/background"


def result_key(job_id: UUID, attempt: int, extension: str) -> str:
    """Name an attempt's own result: two attempts never write to the same place."""
    return f"{RESULTS}/{job_id}/{attempt}.{extension}"


async def create(db: AsyncSession, columns: Mapping[str, Any]) -> Job | None:
    """Insert a job; None where its id exists: the same transaction, retried, had committed."""
    created = await db.scalars(
        insert(Job)
        .values(**columns)
        .on_conflict_do_nothing(index_elements=[Job.id])
        .returning(Job)
        .execution_options(populate_existing=True)
    )
    job = created.one_or_none()
    if job is not None and job.state == QUEUED:
        db.add(Outbox(job_id=job.id, attempt=job.attempt, queue_class=job.queue_class))
    return job


async def claim(
    db: AsyncSession,
    *,
    lease: timedelta,
    after: UUID | None = None,
    is_standard_first: bool = False,
) -> Job | None:
    """Take the queued job whose turn it is, ours for `lease` from now; None where none waits.

    Accounts take turns in the order of their ids, from the one `after` on (that of the job claimed
    before; by lot where None), so that a turn costs the same however many wait. Priority goes
    first; a worker sets `is_standard_first` every tenth time, which keeps a tenth of the slots for
    the standard queue.
    """
    classes = (STANDARD, PRIORITY) if is_standard_first else (PRIORITY, STANDARD)
    for queue_class in classes:
        passed: list[UUID] = []
        while len(passed) < ACCOUNTS_PER_CLAIM_MAX:
            account_id = await _account_after(db, queue_class, passed[-1] if passed else after)
            if account_id is None or account_id in passed:
                break
            if job := await _claim_oldest(db, queue_class, account_id, lease):
                return job
            passed.append(account_id)
    return None


async def _account_after(db: AsyncSession, queue_class: str, after: UUID | None) -> UUID | None:
    """Hop along the index to the next account that waits, and round to the first."""
    waiting = (
        select(Job.account_id)
        .where(IS_QUEUED, Job.queue_class == queue_class)
        .order_by(Job.account_id)
        .limit(1)
    )
    following = await db.scalar(waiting.where(Job.account_id > (after or uuid4())))
    return following or await db.scalar(waiting)


async def _claim_oldest(
    db: AsyncSession, queue_class: str, account_id: UUID, lease: timedelta
) -> Job | None:
    oldest = (
        select(Job.id)
        .where(
            IS_QUEUED,
            Job.queue_class == queue_class,
            Job.account_id == account_id,
            Job.available_at <= func.now(),
            Job.deadline_at > func.now(),
        )
        .order_by(Job.created_at)
        .limit(1)
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )
    job: Job | None = await db.scalar(
        update(Job)
        .where(Job.id == oldest, Job.state == QUEUED)
        .values(
            state=PROCESSING,
            lease_until=func.now() + lease,
            started_at=func.clock_timestamp(),
        )
        .returning(Job)
        .execution_options(synchronize_session=False, populate_existing=True)
    )
    if job is not None:
        await db.execute(delete(Outbox).where(Outbox.job_id == job.id))
    return job


async def count_queued(db: AsyncSession) -> dict[str, int]:
    """Tell how many jobs wait, by queue class."""
    counts = select(Job.queue_class, func.count()).where(IS_QUEUED).group_by(Job.queue_class)
    return dict((await db.execute(counts)).all())


async def heartbeat(
    db: AsyncSession, fence: Fence, *, lease: timedelta, stage: str | None, progress: int
) -> bool:
    """Prolong the lease and note the stage; False where the job is no longer this attempt's."""
    values = {"lease_until": func.now() + lease, "stage": stage, "progress": progress}
    return await _move(db, fence, values) is not None


async def succeed(db: AsyncSession, fence: Fence, facts: Mapping[str, Any]) -> Job | None:
    """End the job well, `facts` being the result's columns; None where the fence holds."""
    values = {
        **facts,
        "state": SUCCEEDED,
        "charged_credits": Job.price_credits,
        "lease_until": None,
        "stage": None,
        "progress": 100,
        "finished_at": func.clock_timestamp(),
        "result_expires_at": func.now() + Job.result_ttl,
        # A first attempt without a stored source leaves nothing but its result.
        "is_tidy": Job.source_key.is_(None) & (Job.attempt == 1),
    }
    return await _move(db, fence, values)


async def fail(
    db: AsyncSession, fence: Fence, *, code: str, kind: str | None, facts: Mapping[str, Any]
) -> Job | None:
    """End the job badly, from `queued` or `processing`; None where the fence holds."""
    values = {
        "state": FAILED,
        "error_code": code,
        "error_kind": kind,
        "error_facts": dict(facts),
        "lease_until": None,
        "stage": None,
        "finished_at": func.clock_timestamp(),
    }
    return await _move(db, fence, values, states=(QUEUED, PROCESSING))


async def cancel(db: AsyncSession, fence: Fence, *, states: tuple[str, ...]) -> Job | None:
    """End the job on its caller's wish; None where it is not in one of `states`."""
    values = {
        "state": CANCELED,
        "lease_until": None,
        "stage": None,
        "finished_at": func.clock_timestamp(),
    }
    return await _move(db, fence, values, states=states)


async def requeue(db: AsyncSession, fence: Fence, *, pause: timedelta = timedelta(0)) -> Job | None:
    """Give the job to the next attempt, and a bell with it; None where the fence holds."""
    values = {
        "state": QUEUED,
        "attempt": fence.attempt + 1,
        "lease_until": None,
        "stage": None,
        "progress": 0,
        "available_at": func.now() + pause,
    }
    job = await _move(db, fence, values)
    if job is not None:
        db.add(Outbox(job_id=job.id, attempt=job.attempt, queue_class=job.queue_class))
    return job


async def _move(
    db: AsyncSession,
    fence: Fence,
    values: Mapping[str, Any],
    *,
    states: tuple[str, ...] = (PROCESSING,),
) -> Job | None:
    moved = await db.scalars(
        update(Job)
        .where(Job.id == fence.job_id, Job.attempt == fence.attempt, Job.state.in_(states))
        .values(**values)
        .returning(Job)
        .execution_options(synchronize_session=False, populate_existing=True)
    )
    return moved.one_or_none()


async def find(db: AsyncSession, job_id: UUID, account_id: UUID | None = None) -> Job:
    """Read a job as it is now; `account_id` must be its owner's where given.

    Raises:
        JobNotFoundError: there is none, or it is another account's: not to be told apart.
    """
    job = await db.get(Job, job_id, populate_existing=True)
    if job is None or account_id not in {None, job.account_id}:
        raise JobNotFoundError
    return job
