"""One attempt at a job: cut, store, T2; or, where that goes wrong, T2'."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, Final, cast

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from billing.db import SessionFactory
from billing.ledger import Balance
from core import Cutout, CutoutOptions
from gateway import jobs, settle
from gateway.admission import Admission, QueueClass
from gateway.errors import (
    DeadlineExceededError,
    LeaseLostError,
    OverloadedError,
    ResultExpiredError,
    StorageUnavailableError,
)
from gateway.heart import Heart
from gateway.inference import Inference
from gateway.settings import Settings
from gateway.settle import Failure
from gateway.source import Source
from gateway.storage import Storage
from gateway.tables import PROCESSING, Job
from gateway.transactions import Finishing, is_away, persist

RETRY_PAUSE: Final = timedelta(seconds=2)
"""Before the next attempt, where storage or Postgres failed this one."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Order:
    """What a cutout is made of."""

    source: Source
    options: CutoutOptions
    background: Source | None = None


@dataclass(frozen=True, slots=True)
class Attempts:
    """Makes cutouts of jobs that are `processing`; no transaction is open meanwhile."""

    sessions: SessionFactory
    storage: Storage
    inference: Inference
    admission: Admission
    settings: Settings
    finishing: Finishing

    async def answer(self, job: Job, order: Order) -> tuple[Job, Balance]:
        """Make the cutout that a caller waits for; whatever is raised, his hold is released."""
        try:
            return await self._make(job, order)
        except BaseException as exc:  # CancelledError too: a deadline or a shutdown
            await self.finishing.run(self._give_up(job, exc))
            raise

    async def work(self, job: Job) -> None:
        """Make the cutout of a claimed job; raises only when cancelled, the job handed back."""
        try:
            await self._make(job, await self._load(job))
        except BaseException as exc:
            await self.finishing.run(self._hand_back(job, exc))
            if not isinstance(exc, Exception):
                raise

    async def _load(self, job: Job) -> Order:
        try:
            source = Source(await self.storage.get(str(job.source_key)))
            key = job.background_key
            background = Source(await self.storage.get(key)) if key is not None else None
        except ResultExpiredError as exc:  # gone, and nobody but the sweeper deletes it
            raise StorageUnavailableError from exc
        return Order(source, CutoutOptions(**job.options), background)

    async def _make(self, job: Job, order: Order) -> tuple[Job, Balance]:
        async with Heart(self.sessions, job, self.settings) as heart:
            cutout = await self._cut_out(job, order, heart)
            heart.reach("store")
            result_key = jobs.result_key(job.id, job.attempt, cutout.extension)
            await self.storage.put(result_key, cutout.image)
            facts = _facts_of(cutout) | {"result_key": result_key}
            return await self.finishing.run(self._capture(job, facts))

    async def _cut_out(self, job: Job, order: Order, heart: Heart) -> Cutout:
        """Wait for a slot and cut, together within one deadline."""
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + self.settings.inference_deadline.total_seconds()
        try:
            async with (
                asyncio.timeout_at(give_up_at),
                self.admission.slot(cast("QueueClass", job.queue_class), job.account_id),
            ):
                return await self.inference.cut_out(
                    order.source,
                    job.model_asked,
                    order.options,
                    background=order.background,
                    on_progress=heart.reach,
                    deadline_s=give_up_at - loop.time(),
                )
        except TimeoutError as exc:
            raise DeadlineExceededError from exc

    async def _capture(self, job: Job, facts: dict[str, Any]) -> tuple[Job, Balance]:
        """T2. Where another attempt is in possession, drop the result and charge nothing."""
        capturing = partial(settle.succeed, fence=job.fence, facts=facts)
        try:
            # Patient beyond the lease: the cutout is made, and only Postgres is away.
            ended, balance = await persist(
                self.sessions, capturing, patience=2 * self.settings.lease
            )
        except LeaseLostError:
            await self.storage.delete(facts["result_key"])
            raise
        log.info("cutout.captured", **_log_facts(ended))
        return ended, balance

    async def _give_up(self, job: Job, exc: BaseException) -> None:
        """T2' for a caller who waits: canceled with his request, failed for all else.

        `exc` is marked with whether it is known that the job ended free: where Postgres did not
        say so, T2 may have been committed, and nobody is told that the cutout cost nothing.
        """
        if isinstance(exc, LeaseLostError):
            log.warning("lease.lost", job_id=str(job.id), attempt=job.attempt)
            return
        failure = Failure.of(exc)
        is_canceled = isinstance(exc, asyncio.CancelledError)
        if is_canceled:
            ending: Any = partial(settle.cancel, states=(PROCESSING,))
        else:
            ending = partial(settle.fail, failure=failure)
        is_free = await self._settle(job, partial(ending, fence=job.fence))
        vars(exc)["is_known_free"] = is_free is True
        if is_free is not False:
            event = "cutout.canceled" if is_canceled else "cutout.failed"
            _log_failure(job, exc, failure, event=event)

    async def _hand_back(self, job: Job, exc: BaseException) -> None:
        """T2' where nobody waits: to the next attempt if it was our fault, else failed."""
        if isinstance(exc, LeaseLostError):
            log.warning("lease.lost", job_id=str(job.id), attempt=job.attempt)
            return
        is_shutdown = not isinstance(exc, Exception)
        is_ours = (
            is_shutdown
            or isinstance(exc, StorageUnavailableError | OverloadedError)
            or is_away(exc)
        )
        failure = Failure.of(exc)

        async def ending(db: AsyncSession) -> bool:
            if is_ours:
                return await settle.retry_or_fail(
                    db,
                    job,
                    failure,
                    attempts_max=self.settings.job_attempts_max,
                    pause=timedelta(0) if is_shutdown else RETRY_PAUSE,
                )
            return await settle.fail(db, job.fence, failure)

        if await self._settle(job, ending) is not False:
            event = "cutout.handed_back" if is_ours else "cutout.failed"
            _log_failure(job, exc, failure, event=event)

    async def _settle(
        self, job: Job, ending: Callable[[AsyncSession], Awaitable[bool]]
    ) -> bool | None:
        """Settle; False where the job had ended already, as one cancelled during T2 has."""
        return await settle.settle_or_leave(
            self.sessions, job, ending, patience=self.settings.lease
        )


def _facts_of(cutout: Cutout) -> dict[str, Any]:
    return {
        "model_ran": cutout.model,
        "result_bytes": len(cutout.image),
        "extension": cutout.extension,
        "media_type": cutout.media_type,
        "width_px": cutout.width_px,
        "height_px": cutout.height_px,
        "confidence": cutout.confidence,
        "reasons": list(cutout.reasons),
        "warnings": list(cutout.warnings),
        "refinement": cutout.refinement,
        "stages_ms": {stage: round(ms, 1) for stage, ms in cutout.stages_ms.items()},
    }


def _log_facts(job: Job) -> dict[str, Any]:
    return {
        "job_id": str(job.id),
        "account_id": str(job.account_id),
        "request_id": job.request_id,
        "dialect": job.dialect,
        "attempt": job.attempt,
        "model": job.model_ran,
        "charged_credits": job.charged_credits,
        "source_bytes": job.source_bytes,
        "result_bytes": job.result_bytes,
        **{f"{stage}_ms": ms for stage, ms in job.stages_ms.items()},
    }


def _log_failure(job: Job, exc: BaseException, failure: Failure, *, event: str) -> None:
    log.info(
        event,
        job_id=str(job.id),
        account_id=str(job.account_id),
        request_id=job.request_id,
        dialect=job.dialect,
        attempt=job.attempt,
        code=failure.code,
        # Only what no table of ours knows is worth a trace.
        exc_info=exc if failure.kind is None and isinstance(exc, Exception) else None,
    )
