"""THE use case: hold, cut, store, settle. Both dialects and the worker come through here.

Two short transactions, none open while the model runs (docs/adr/0003): T1 (`acceptance`) claims the
idempotency key, creates the job and holds its price; T2 (`attempt`) ends the job and captures the
hold, T2' ends it and releases. Whatever happens in between, the job's row says what is still to be
done, and the sweeper does it.
"""

import asyncio
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, cast
from uuid import UUID, uuid4

from sqlalchemy import func
from sqlalchemy.ext.asyncio import AsyncSession

from billing.db import SessionFactory
from core.errors import CoreError, ImageTooLargeError
from gateway import jobs, settle
from gateway.acceptance import PATIENCE, Acceptance, Opened, options_for
from gateway.admission import Admission, QueueClass
from gateway.answers import CutoutRequest, Finished, Submitted
from gateway.attempt import Attempts, Order
from gateway.backlog import Backlog
from gateway.errors import IdempotencyConflictError, OverloadedError
from gateway.inference import Inference
from gateway.outbox import Bell
from gateway.settings import Settings
from gateway.storage import Storage
from gateway.tables import PROCESSING, QUEUED, SUCCEEDED, Job
from gateway.transactions import Finishing, persist
from gateway.waiting import Waiting

__all__ = ["CutoutRequest", "Cutouts", "Finished", "Submitted"]

READ_AT_ONCE_MAX: Final = 4
"""Uploads that are inspected or stored: each is whole in memory for that moment."""


@dataclass(frozen=True, slots=True)
class Cutouts:
    """The collaborators of a cutout, handed over by `app.py` or `worker.py`."""

    sessions: SessionFactory
    storage: Storage
    inference: Inference
    admission: Admission
    bell: Bell
    settings: Settings
    finishing: Finishing = field(default_factory=Finishing)
    waiting: Waiting = field(default_factory=Waiting)
    backlog: Backlog = field(default_factory=Backlog)
    reading: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(READ_AT_ONCE_MAX))

    async def run(self, request: CutoutRequest) -> Finished:
        """Answer with a stored cutout, charged once, or raise with nothing charged.

        Raises:
            CoreError: what is wrong with the picture, the options or the model.
            BillingError: the account cannot pay, or has too much in work.
            OverloadedError, DeadlineExceededError, StorageUnavailableError: our side.
            IdempotencyMismatchError, IdempotencyConflictError: the key stands for another request,
                or for one that is still running.
        """
        if first := await self.replay(request):
            return first
        async with self.reading:
            pixels = await asyncio.to_thread(self._pixels_of, request)
        self.inference.resolve(request.model)
        key = request.caller.key
        queue_class = cast("QueueClass", key.queue_class)
        async with self.admission.place(request.size_bytes, pixels, queue_class):
            opened = await self._acceptance.open(
                request,
                {
                    "id": uuid4(),
                    "is_async": False,
                    "state": PROCESSING,
                    "lease_until": func.now() + self.settings.lease,
                    "started_at": func.clock_timestamp(),
                },
            )
            if opened.is_replayed:
                return _first_answer(opened)
            order = Order(request.source, options_for(request), request.background)
            try:
                job, balance = await self._attempts.answer(opened.job, order)
            except Exception as exc:
                vars(exc)["job_id"] = opened.job.id  # it failed, and was not refused
                raise
        return Finished.of(job, balance, is_replayed=False)

    async def replay(self, request: CutoutRequest) -> Finished | None:
        """Give the first answer under this idempotency key again, if there is one.

        A dialect may ask before it fetches anything: only the key, the dialect and the body count.

        Raises:
            IdempotencyMismatchError, IdempotencyConflictError: as for `run`.
        """
        opened = await self._acceptance.find_first(request)
        return _first_answer(opened) if opened is not None else None

    async def submit(self, request: CutoutRequest) -> Submitted:
        """Accept a job: when this returns, it will be done or will fail free, whatever crashes.

        A picture that cannot be decoded is accepted too; its job fails and says why.

        Raises:
            ImageTooLargeError: known by the header.
            CoreError: the background cannot be used; its `field` says that it is meant.
            OverloadedError: so many wait that its hold would be over before its turn.
            UnknownModelError, WeightsNotInstalledError: as for `run`, as is all the rest.
        """
        opened = await self._acceptance.find_first(request)
        if opened is None:
            async with self.reading:
                await asyncio.to_thread(self._refuse_hopeless, request)
            self.inference.resolve(request.model)
            await self.backlog.refuse_if_hopeless(
                self.sessions,
                self.settings,
                request.caller.key.queue_class,
                service_s=self.admission.service_s,
            )
            opened = await self._store_and_open(request)
        job = opened.job
        if not opened.is_replayed:
            await self.bell.ring(job.id, job.attempt, job.queue_class)
        return Submitted.of(job, opened.balance, is_replayed=opened.is_replayed)

    async def work(self, job_id: UUID, attempt: int) -> None:
        """Do what a claimed job asks for and settle it; raises only when cancelled."""
        job = await self.find(job_id)
        if job.state == PROCESSING and job.attempt == attempt:
            await self._attempts.work(job)

    async def find(self, job_id: UUID, account_id: UUID | None = None) -> Job:
        """Read a job; `account_id` must be its owner's where given. Raises JobNotFoundError."""
        reading = partial(jobs.find, job_id=job_id, account_id=account_id)
        return await persist(self.sessions, reading, patience=PATIENCE)

    async def wait(self, job_id: UUID, account_id: UUID | None, *, wait_s: float) -> Job:
        """Read a job once it has ended, or as it is after `wait_s`."""
        job = await self.find(job_id, account_id)
        if job.has_ended:
            return job
        await self.waiting.for_end(self.sessions, job_id, wait_s=wait_s)
        return await self.find(job_id, account_id)

    async def cancel(self, job_id: UUID, account_id: UUID) -> Job:
        """Cancel a queued job and release its hold; one past that is left as it is."""

        async def work(db: AsyncSession) -> Job:
            job = await jobs.find(db, job_id, account_id)
            await settle.cancel(db, job.fence, states=(QUEUED,))
            return await jobs.find(db, job_id, account_id)

        return await persist(self.sessions, work, patience=PATIENCE)

    async def close(self) -> None:
        """Let settling that outlived its request come to its end."""
        await self.waiting.close()
        await self.finishing.close()

    @property
    def _acceptance(self) -> Acceptance:
        return Acceptance(self.sessions, self.settings, self.finishing)

    @property
    def _attempts(self) -> Attempts:
        return Attempts(
            self.sessions,
            self.storage,
            self.inference,
            self.admission,
            self.settings,
            self.finishing,
        )

    async def _store_and_open(self, request: CutoutRequest) -> Opened:
        job_id, background = uuid4(), request.background
        columns: dict[str, Any] = {
            "id": job_id,
            "is_async": True,
            "state": QUEUED,
            "source_key": jobs.source_key(job_id),
            "background_key": jobs.background_key(job_id) if background else None,
        }
        async with self.reading:
            content = await asyncio.to_thread(request.source.read)
            await self.storage.put(columns["source_key"], content)
            del content
            if background:
                content = await asyncio.to_thread(background.read)
                await self.storage.put(columns["background_key"], content)
                del content
        try:
            opened = await self._acceptance.open(request, columns)
        except OverloadedError:
            raise  # whether it was committed is not known: the sweeper clears orphans
        except Exception:
            await self._forget_source(columns)
            raise
        if opened.is_replayed:
            await self._forget_source(columns)
        return opened

    async def _forget_source(self, columns: dict[str, Any]) -> None:
        for key in (columns["source_key"], columns["background_key"]):
            if key is not None:
                await self.storage.delete(key)

    def _pixels_of(self, request: CutoutRequest) -> int:
        """Count what the request may take: as much as its result may, which a margin makes grow."""
        header = self.inference.inspect(request.source)
        grown = request.options.pixels_of(header.width_px, header.height_px)
        pixels = min(grown, self.settings.image_pixels_max)
        if request.background is not None:
            behind = self.inference.inspect_background(request.background)
            pixels += behind.width_px * behind.height_px
        return pixels

    def _refuse_hopeless(self, request: CutoutRequest) -> None:
        if request.background is not None:
            self.inference.inspect_background(request.background)
        try:
            self.inference.inspect(request.source)
        except ImageTooLargeError:
            raise
        except CoreError:
            return  # the job will fail and say so, as this dialect's contract shows it


def _first_answer(opened: Opened) -> Finished:
    if opened.job.state != SUCCEEDED:
        raise IdempotencyConflictError
    return Finished.of(opened.job, opened.balance, is_replayed=True)
