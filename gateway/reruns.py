"""Running a failed job again: a new job from the kept upload, with a hold of its own.

The failed job stays as it is: it cost nothing, and its end was told. The upload of an asynchronous
job is kept for a while for this (`failed_source_ttl`); a synchronous one's was never stored.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from billing import acts, audit, ledger
from billing.db import SessionFactory, transact
from billing.errors import InvalidOperationError
from billing.pricing import price_of
from billing.staff_tables import AdminAct, AuditEvent
from billing.tables import ApiKey, PlanVersion, Subscription
from gateway import jobs
from gateway.errors import ResultExpiredError
from gateway.outbox import Bell
from gateway.settings import Settings
from gateway.storage import Storage
from gateway.tables import CANCELED, FAILED, QUEUED, Job

ACTION: Final = "job.rerun"
# Of an account: whoever asks for a job may meet whoever asks for another try of the same.
ONE_AT_A_TIME: Final = text("SELECT pg_advisory_xact_lock(hashtextextended(:account_id, 6))")
COPIED: Final = (
    *("account_id", "api_key_id", "request_id", "dialect", "env", "queue_class", "webhook_url"),
    *("model_asked", "options", "source_bytes", "result_ttl"),
)


@dataclass(frozen=True, slots=True)
class Again:
    """The new job of a failed one: its id, its own copies of the upload, and whose act it is."""

    job_id: UUID
    keys: Mapping[str, str]
    hold_ttl: timedelta
    actor: str
    reason: str


@dataclass(frozen=True, slots=True)
class Reruns:
    """Runs failed jobs again."""

    sessions: SessionFactory
    storage: Storage
    bell: Bell
    settings: Settings

    async def find(self, job_id: UUID) -> Job:
        """Read a job that may be run again.

        Raises:
            JobNotFoundError: there is none.
            InvalidOperationError: it has not failed, its upload is gone, or another try of
                the same has not failed.
        """
        async with self.sessions() as db:
            job = await jobs.find(db, job_id)
            await check(db, job)
        if not await self.storage.exists(str(job.source_key)):
            raise InvalidOperationError("its upload is gone: the customer has to send it again")
        return job

    async def run(self, job_id: UUID, *, act_id: UUID, actor: str, reason: str) -> UUID:
        """Queue a new job for what a failed one was asked for; tell its id, which is `act_id`.

        Raises:
            JobNotFoundError, InvalidOperationError: as `find`.
            BillingError: the account cannot pay, is suspended, or has too much in work.
        """
        if await self._is_done(act_id):
            return act_id
        job = await self.find(job_id)
        keys = await self._copy(job, act_id)
        again = Again(act_id, keys, self.settings.hold_ttl, actor, reason)

        async def work(db: AsyncSession) -> bool:
            if not await acts.claim(db, act_id, actor=actor, action=ACTION):
                return False
            await open_again(db, job, again)
            return True

        try:
            is_new = await transact(self.sessions, work)
        except Exception:
            for key in keys.values():
                await self.storage.delete(key)
            raise
        if is_new:
            await self.bell.ring(act_id, 1, job.queue_class)
        return act_id

    async def _is_done(self, act_id: UUID) -> bool:
        async with self.sessions() as db:
            return await db.get(AdminAct, act_id) is not None

    async def _copy(self, job: Job, new_id: UUID) -> dict[str, str]:
        """Copy what was uploaded, since each job's objects end with it."""
        keys = {"source_key": jobs.source_key(new_id)}
        copies = {str(job.source_key): keys["source_key"]}
        if job.background_key is not None:
            keys["background_key"] = jobs.background_key(new_id)
            copies[job.background_key] = keys["background_key"]
        try:
            for old, new in copies.items():
                await self.storage.put(new, await self.storage.get(old))
        except ResultExpiredError as exc:
            raise InvalidOperationError("its upload is gone: the customer has to send it") from exc
        return keys


async def check(db: AsyncSession, job: Job) -> None:
    """Refuse what cannot be run again. Raises InvalidOperationError."""
    if job.state != FAILED:
        raise InvalidOperationError(f"the job is {job.state}: only a failed one is run again")
    if job.source_key is None or job.is_tidy:
        raise InvalidOperationError("its upload was not kept: the customer has to send it again")
    again = await _rerun_of(db, job)
    if again is not None:
        raise InvalidOperationError(f"it was run again already: job {again.id} is {again.state}")


async def open_again(db: AsyncSession, job: Job, again: Again) -> None:
    """Create the new job and hold its price, as `acceptance` does for a caller."""
    await db.execute(ONE_AT_A_TIME, {"account_id": str(job.account_id)})
    await check(db, job)
    columns: dict[str, Any] = {name: getattr(job, name) for name in COPIED}
    created = await jobs.create(
        db,
        {
            **columns,
            **again.keys,
            "id": again.job_id,
            "is_async": True,
            "state": QUEUED,
            "price_credits": price_of(job.env),
            "deadline_at": func.now() + again.hold_ttl,
        },
    )
    if created is None:
        raise InvalidOperationError("there is a job of this id already")
    await db.flush()
    await ledger.place_hold(
        db,
        account_id=job.account_id,
        job_id=again.job_id,
        amount=created.price_credits,
        concurrency_max=await _concurrency_max(db, job.api_key_id),
        api_key_id=job.api_key_id,
    )
    await audit.record(
        db,
        actor=again.actor,
        action=ACTION,
        object_name=f"job {job.id}",
        account_id=job.account_id,
        reason=again.reason,
        after={"job": str(again.job_id), "held": created.price_credits},
    )


async def _rerun_of(db: AsyncSession, job: Job) -> Job | None:
    """Find a try that stands in the way: any that began with the same first job, and may succeed.

    Not only what this job was run again as: the first may have been run again meanwhile, and
    both tries would be made and charged.
    """
    events = await db.scalars(
        select(AuditEvent).where(
            AuditEvent.account_id == job.account_id, AuditEvent.action == ACTION
        )
    )
    made_from = {
        UUID(event.after["job"]): UUID(event.object.removeprefix("job "))
        for event in events
        if event.after
    }
    first = _first(made_from, job.id)
    tries = {made for made in made_from if _first(made_from, made) == first}
    found: Job | None = await db.scalar(
        select(Job).where(Job.id.in_(tries), Job.state.not_in((FAILED, CANCELED))).limit(1)
    )
    return found


def _first(made_from: Mapping[UUID, UUID], job_id: UUID) -> UUID:
    """Go back to the job that somebody asked for, which no other was run again as."""
    while job_id in made_from:
        job_id = made_from[job_id]
    return job_id


async def _concurrency_max(db: AsyncSession, api_key_id: UUID) -> int | None:
    """Read how many jobs at once the key may have; None where its account is closed."""
    own_or_plan = func.coalesce(ApiKey.concurrency_max, PlanVersion.concurrency_max)
    return await db.scalar(
        select(own_or_plan)
        .join(
            Subscription,
            (Subscription.account_id == ApiKey.account_id) & Subscription.ended_at.is_(None),
        )
        .join(PlanVersion, PlanVersion.id == Subscription.plan_version_id)
        .where(ApiKey.id == api_key_id)
    )
