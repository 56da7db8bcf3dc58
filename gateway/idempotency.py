"""Idempotency-Key: the first request under a key makes a job, every later one finds it.

The claim is a row in the transaction that creates the job: two requests at once meet on its primary
key, and the second waits the few milliseconds until the first has committed or rolled back.
"""

from datetime import timedelta
from typing import Final, NamedTuple
from uuid import UUID

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.errors import IdempotencyConflictError, IdempotencyMismatchError
from gateway.tables import IdempotencyRecord

CLAIM_TRIES_MAX: Final = 5


class RequestKey(NamedTuple):
    """An account's Idempotency-Key, and what tells the request it came with from another.

    Each environment has its own keys: what was tried with a test key is no answer to a live one.
    """

    account_id: UUID
    env: str
    key: str
    fingerprint: str


async def claim(
    db: AsyncSession, request_key: RequestKey, job_id: UUID, *, ttl: timedelta
) -> UUID | None:
    """Make the key stand for `job_id`: None, or the id of the job that it already stands for.

    Raises:
        IdempotencyMismatchError: the key came first with another request.
        IdempotencyConflictError: nobody can say now; the caller may come again.
    """
    for _ in range(CLAIM_TRIES_MAX):
        if await _insert(db, request_key, job_id, ttl):
            return None
        if earlier := await find(db, request_key):
            # Our own id: this transaction was retried after a commit whose answer was lost.
            return None if earlier == job_id else earlier
    # Its jobs keep failing, each between our two statements.
    raise IdempotencyConflictError


async def _insert(db: AsyncSession, request_key: RequestKey, job_id: UUID, ttl: timedelta) -> bool:
    fresh = {
        "fingerprint": request_key.fingerprint,
        "job_id": job_id,
        "created_at": func.now(),
        "expires_at": func.now() + ttl,
    }
    statement = (
        insert(IdempotencyRecord)
        .values(
            account_id=request_key.account_id,
            env=request_key.env,
            key=request_key.key,
            **fresh,
        )
        .on_conflict_do_update(
            index_elements=IdempotencyRecord.__table__.primary_key,
            set_=fresh,
            where=IdempotencyRecord.expires_at <= func.now(),
        )
        .returning(IdempotencyRecord.job_id)
    )
    return await db.scalar(statement) is not None


async def find(db: AsyncSession, request_key: RequestKey) -> UUID | None:
    """Give the job that the key stands for, if it does.

    Raises:
        IdempotencyMismatchError: the key came first with another request.
    """
    record = await db.scalar(
        select(IdempotencyRecord)
        .where(
            IdempotencyRecord.account_id == request_key.account_id,
            IdempotencyRecord.env == request_key.env,
            IdempotencyRecord.key == request_key.key,
            IdempotencyRecord.expires_at > func.now(),
        )
        .execution_options(populate_existing=True)
    )
    if record is None:
        return None
    if record.fingerprint != request_key.fingerprint:
        raise IdempotencyMismatchError
    return record.job_id


async def forget(db: AsyncSession, job_id: UUID) -> None:
    """Free the key of a job that ended without an answer, so that a retry is a new request."""
    await db.execute(delete(IdempotencyRecord).where(IdempotencyRecord.job_id == job_id))


async def purge(db: AsyncSession, *, records_max: int) -> int:
    """Delete what has expired, at most `records_max` records of it."""
    stale = (
        select(IdempotencyRecord.account_id, IdempotencyRecord.env, IdempotencyRecord.key)
        .where(IdempotencyRecord.expires_at <= func.now())
        .limit(records_max)
        .with_for_update(skip_locked=True)
        .cte("stale")
    )
    deleted = await db.scalars(
        delete(IdempotencyRecord)
        .where(
            IdempotencyRecord.account_id == stale.c.account_id,
            IdempotencyRecord.env == stale.c.env,
            IdempotencyRecord.key == stale.c.key,
        )
        .returning(IdempotencyRecord.job_id)
    )
    return len(deleted.all())
