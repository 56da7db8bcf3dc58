"""T1: a request becomes a job with a hold, in one transaction, or leaves no trace."""

import asyncio
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from functools import partial
from typing import Any, Final
from uuid import UUID

from sqlalchemy import func
from sqlalchemy.ext.asyncio import AsyncSession

from billing import ledger
from billing.db import SessionFactory
from billing.ledger import Balance
from billing.pricing import price_of
from core import CutoutOptions
from gateway import idempotency, jobs
from gateway.answers import CutoutRequest
from gateway.idempotency import RequestKey
from gateway.settings import Settings
from gateway.settle import settle_or_leave, withdraw
from gateway.tables import Job
from gateway.transactions import Finishing, persist

PATIENCE: Final = timedelta(seconds=5)
"""How long a new request waits for a Postgres that is away before it is refused."""
TEST_ENV: Final = "test"


@dataclass(frozen=True, slots=True)
class Opened:
    """The job of a request: new, or the one that its idempotency key stands for."""

    job: Job
    balance: Balance
    is_replayed: bool


@dataclass(frozen=True, slots=True)
class Acceptance:
    """Opens jobs."""

    sessions: SessionFactory
    settings: Settings
    finishing: Finishing

    async def find_first(self, request: CutoutRequest) -> Opened | None:
        """Find the first request under this idempotency key, before anything is taken on.

        Raises:
            IdempotencyMismatchError: the key came first with another request.
        """
        request_key = _request_key(request)
        if request_key is None:
            return None

        async def work(db: AsyncSession) -> Opened | None:
            first = await idempotency.find(db, request_key)
            return await _opened_before(db, first) if first is not None else None

        return await persist(self.sessions, work, patience=PATIENCE)

    async def open(self, request: CutoutRequest, columns: dict[str, Any]) -> Opened:
        """Claim the idempotency key, create the job of `columns`, hold its price.

        Raises:
            BillingError: the account cannot pay, or has too much in work.
            IdempotencyMismatchError, IdempotencyConflictError: see `idempotency.claim`.
            OverloadedError: Postgres is away; the sweeper undoes what may have been committed.
        """
        columns = columns | self._columns(request)
        opening = asyncio.create_task(
            persist(self.sessions, partial(self._open_in, request, columns), patience=PATIENCE)
        )
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            await self.finishing.run(self._withdraw(opening))
            raise

    async def _open_in(
        self, request: CutoutRequest, columns: dict[str, Any], db: AsyncSession
    ) -> Opened:
        key, job_id = request.caller.key, columns["id"]
        if request_key := _request_key(request):
            first = await idempotency.claim(
                db, request_key, job_id, ttl=self.settings.idempotency_ttl
            )
            if first is not None:
                return await _opened_before(db, first)
        job = await jobs.create(db, columns)
        if job is None:  # our own commit, whose answer was lost
            return replace(await _opened_before(db, job_id), is_replayed=False)
        balance = await ledger.place_hold(
            db,
            account_id=key.account_id,
            job_id=job_id,
            amount=job.price_credits,
            concurrency_max=key.concurrency_max,
            api_key_id=key.api_key_id,
        )
        return Opened(job, balance, is_replayed=False)

    def _columns(self, request: CutoutRequest) -> dict[str, Any]:
        key = request.caller.key
        options = asdict(options_for(request))
        del options["bg_image"]  # stored beside the source
        return {
            "account_id": key.account_id,
            "api_key_id": key.api_key_id,
            "request_id": request.caller.request_id,
            "dialect": request.dialect,
            "env": key.env,
            "queue_class": key.queue_class,
            "webhook_url": request.webhook_url,
            "deadline_at": func.now() + self.settings.hold_ttl,
            "model_asked": request.model,
            "options": options,
            "source_bytes": request.source.size_bytes,
            "price_credits": price_of(key.env),
            "result_ttl": key.result_ttl,
        }

    async def _withdraw(self, opening: "asyncio.Task[Opened]") -> None:
        """Undo a T1 whose caller has gone before he could learn of it."""
        await asyncio.wait([opening])
        if opening.exception() is None and not opening.result().is_replayed:
            job = opening.result().job
            undoing = partial(withdraw, fence=job.fence)
            await settle_or_leave(self.sessions, job, undoing, patience=self.settings.lease)


def options_for(request: CutoutRequest) -> CutoutOptions:
    """Give the caller's options; a test key's cutouts are marked, since they are free."""
    is_test = request.caller.key.env == TEST_ENV
    return replace(request.options, watermark=True) if is_test else request.options


async def _opened_before(db: AsyncSession, job_id: UUID) -> Opened:
    job = await jobs.find(db, job_id)
    return Opened(job, await ledger.balance_of(db, job.account_id), is_replayed=True)


def _request_key(request: CutoutRequest) -> RequestKey | None:
    if request.idempotency_key is None:
        return None
    fingerprint = f"{request.dialect}:{request.body_sha256}"
    key = request.caller.key
    return RequestKey(key.account_id, key.env, request.idempotency_key, fingerprint)
