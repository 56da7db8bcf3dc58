"""The ends of a job: its row and its hold in one transaction, so that there is one truth.

A hold is captured or released only here, only by the transaction that ends its job, and only where
the fence (`attempt`) is passed. Whoever comes late finds nothing to move and changes nothing.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Self, TypeVar

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from billing import ledger
from billing.db import SessionFactory
from billing.ledger import Balance
from gateway import idempotency, jobs
from gateway.errors import INTERNAL, LeaseLostError, problem_for
from gateway.tables import PROCESSING, QUEUED, SUCCEEDED, Fence, Job
from gateway.transactions import persist
from gateway.webhooks import deliveries

T = TypeVar("T")

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a job failed, in what a customer may know: a stable code, and facts of known kinds."""

    code: str
    kind: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, exc: BaseException) -> Self:
        """Keep what the typed errors carry; of anything else, only that it was our fault."""
        problem = problem_for(exc)
        if problem is INTERNAL:
            return cls(INTERNAL.code)
        facts = {k: v for k, v in vars(exc).items() if isinstance(v, str | int | float)}
        return cls(problem.code, type(exc).__name__, facts)


async def succeed(db: AsyncSession, fence: Fence, facts: Mapping[str, Any]) -> tuple[Job, Balance]:
    """End the job well and capture its hold.

    Raises:
        LeaseLostError: the job is no longer this attempt's; nothing is charged.
    """
    if job := await jobs.succeed(db, fence, facts):
        balance = await ledger.capture(db, job.id)
        await deliveries.announce_end(db, job)
        return job, balance
    job = await jobs.find(db, fence.job_id)
    if job.state == SUCCEEDED and job.fence == fence:
        # Our own commit, whose answer was lost: only the holder of an attempt can succeed in it.
        return job, await ledger.balance_of(db, job.account_id)
    raise LeaseLostError


async def fail(db: AsyncSession, fence: Fence, failure: Failure) -> bool:
    """End the job badly and release its hold; False where the fence holds."""
    job = await jobs.fail(db, fence, code=failure.code, kind=failure.kind, facts=failure.facts)
    return await _give_back(db, job, reason=failure.code)


async def cancel(db: AsyncSession, fence: Fence, *, states: tuple[str, ...]) -> bool:
    """End the job on its caller's wish and release its hold; False where it is past that."""
    return await _give_back(db, await jobs.cancel(db, fence, states=states), reason="canceled")


async def withdraw(db: AsyncSession, fence: Fence) -> None:
    """End a job that nobody was told of, and free its idempotency key, whatever kind it is."""
    if await cancel(db, fence, states=(QUEUED, PROCESSING)):
        await idempotency.forget(db, fence.job_id)


async def retry_or_fail(
    db: AsyncSession,
    job: Job,
    failure: Failure,
    *,
    attempts_max: int,
    pause: timedelta = timedelta(0),
) -> bool:
    """Hand the job's present attempt on to the next, or fail it where there is no next.

    False where the fence holds.
    """
    if job.is_async and job.attempt < attempts_max:
        return await jobs.requeue(db, job.fence, pause=pause) is not None
    return await fail(db, job.fence, failure)


async def _give_back(db: AsyncSession, job: Job | None, *, reason: str) -> bool:
    if job is None:
        return False
    await ledger.release(db, job.id, reason=reason)
    await deliveries.announce_end(db, job)
    if not job.is_async:
        await idempotency.forget(db, job.id)
    return True


async def settle_or_leave(
    sessions: SessionFactory,
    job: Job,
    ending: Callable[[AsyncSession], Awaitable[T]],
    *,
    patience: timedelta,
) -> T | None:
    """Settle while Postgres can be reached; otherwise the sweeper will, once the lease is over."""
    try:
        return await persist(sessions, ending, patience=patience)
    except Exception:
        log.exception("job.left_to_sweeper", job_id=str(job.id), attempt=job.attempt)
        return None
