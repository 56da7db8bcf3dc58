"""The use case without HTTP: real customers, real jobs, real weights, on the run's own servers."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import sha256
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import func, select, text, update

from billing.accounts import create_account
from billing.db import SessionFactory
from billing.keys import KeyHasher, authenticate, create_key
from billing.ledger import Balance, balance_of
from billing.tables import Hold, LedgerEntry, LedgerTxn
from core import CutoutOptions
from gateway import jobs
from gateway.admission import Admission
from gateway.auth import Caller
from gateway.cutouts import CutoutRequest, Cutouts
from gateway.errors import StorageUnavailableError
from gateway.inference import Inference
from gateway.outbox import Bell
from gateway.settings import Settings
from gateway.source import Source
from gateway.storage import Storage
from gateway.sweep import Sweeper
from gateway.tables import Job

PEPPERS = {1: "pepper-of-the-tests-and-nobody-else"}


@dataclass(frozen=True, slots=True)
class Workshop:
    """A gateway's inside."""

    settings: Settings
    sessions: SessionFactory
    cutouts: Cutouts
    served: list[UUID] = field(default_factory=lambda: [uuid4()])
    """Accounts, in the order of their turns; at first, one by lot."""

    @classmethod
    def build(cls, settings: Settings, sessions: SessionFactory) -> "Workshop":
        cutouts = Cutouts(
            sessions=sessions,
            storage=Storage.from_url(settings.storage_url),
            inference=Inference(settings),
            admission=Admission(settings),
            bell=Bell(str(settings.redis_url)),
            settings=settings,
        )
        return cls(settings, sessions, cutouts)

    @property
    def sweeper(self) -> Sweeper:
        return Sweeper(self.sessions, self.cutouts.storage, self.settings)

    async def close(self) -> None:
        await self.cutouts.close()
        self.cutouts.inference.close()
        await self.cutouts.bell.close()

    async def caller(self, *, plan: str = "free", env: Any = "live", **key: Any) -> Caller:
        """Open an account with a key of its own, and come with it."""
        hasher = KeyHasher(PEPPERS)
        async with self.sessions.begin() as db:
            account = await create_account(db, name="Ada", plan=plan, actor="test")
            _, plaintext = await create_key(
                db, hasher, account_id=account.id, env=env, actor="test", **key
            )
        async with self.sessions.begin() as db:
            facts = await authenticate(db, hasher, plaintext)
        return Caller(facts, "request-of-the-test", "192.0.2.1")

    def request(self, caller: Caller, picture: bytes, **changes: Any) -> CutoutRequest:
        known: dict[str, Any] = {
            "caller": caller,
            "source": Source(picture),
            "model": "cutout-lite",
            "options": CutoutOptions(),
            "dialect": "codia",
            "idempotency_key": None,
            "body_sha256": sha256(picture).hexdigest(),
        }
        return CutoutRequest(**(known | changes))

    async def balance(self, caller: Caller) -> Balance:
        async with self.sessions.begin() as db:
            return await balance_of(db, caller.key.account_id)

    async def jobs_of(self, caller: Caller) -> list[Job]:
        async with self.sessions.begin() as db:
            mine = select(Job).where(Job.account_id == caller.key.account_id)
            return list(await db.scalars(mine.order_by(Job.created_at)))

    async def captures_of(self, job_id: UUID) -> int:
        async with self.sessions.begin() as db:
            captures = select(func.count()).where(
                LedgerTxn.op == "capture", LedgerTxn.ref == str(job_id)
            )
            return await db.scalar(captures) or 0

    async def hold_state(self, job_id: UUID) -> str | None:
        async with self.sessions.begin() as db:
            return await db.scalar(select(Hold.state).where(Hold.job_id == job_id))

    async def foots(self, caller: Caller) -> bool:
        """Whether the account's entries sum to zero, as every statement has to."""
        async with self.sessions.begin() as db:
            total = await db.scalar(
                select(func.sum(LedgerEntry.amount))
                .join(LedgerTxn, LedgerTxn.id == LedgerEntry.txn_id)
                .where(LedgerTxn.account_id == caller.key.account_id)
            )
        return total == 0

    async def queued(self, caller: Caller, *, count: int = 1, picture: bytes = b"x") -> list[UUID]:
        """Submit so many jobs."""
        request = self.request(caller, picture, dialect="revid")
        return [(await self.cutouts.submit(request)).job_id for _ in range(count)]

    async def claim(self, **how: Any) -> Job | None:
        async with self.sessions.begin() as db:
            job = await jobs.claim(db, lease=self.settings.lease, after=self.served[-1], **how)
        if job is not None:
            self.served.append(job.account_id)
        return job

    async def work_off(self) -> int:
        """Do what a worker does until nothing waits; tell how much it was."""
        count = 0
        while job := await self.claim():
            await self.cutouts.work(job.id, job.attempt)
            count += 1
        return count

    async def let_lease_run_out(self, job_id: UUID) -> None:
        """Let time pass for one job, as it does where its worker was killed."""
        await self._set(job_id, lease_until=func.now() - timedelta(seconds=1))

    async def let_deadline_pass(self, job_id: UUID) -> None:
        await self._set(job_id, deadline_at=func.now() - timedelta(seconds=1))

    async def let_result_expire(self, job_id: UUID) -> None:
        await self._set(job_id, result_expires_at=func.now() - timedelta(seconds=1))

    async def _set(self, job_id: UUID, **values: Any) -> None:
        async with self.sessions.begin() as db:
            await db.execute(update(Job).where(Job.id == job_id).values(**values))

    async def clear_queue(self) -> None:
        """End what other tests left queued, so that a claim finds only this test's jobs."""
        async with self.sessions.begin() as db:
            await db.execute(text("DELETE FROM outbox"))
            await db.execute(
                text(
                    "UPDATE job SET state = 'canceled', finished_at = now() WHERE state = 'queued'"
                )
            )


def fresh_key() -> str:
    return f"key-{uuid4()}"


OpenWorkshop = Callable[..., Awaitable[Workshop]]


def make_storage_fail(workshop: Workshop, patch: pytest.MonkeyPatch) -> None:
    """Break `put` for results. Patched, since a folder cannot be made read-only for root."""
    storage = workshop.cutouts.storage

    async def put(key: str, data: bytes) -> None:
        raise StorageUnavailableError(f"{key}, {len(data)} bytes")

    patch.setattr(storage, "put", put)


async def until(happens: Callable[[], Awaitable[Any]], *, seconds: float = 10) -> None:
    """Ask again and again until it is so."""
    async with asyncio.timeout(seconds):
        while not await happens():  # noqa: ASYNC110 - it happens in the database
            await asyncio.sleep(0.01)
