"""The same for the transactions in which the gateway opens and ends jobs: all of one, or nothing.

    python -m bench.proofs.gateway_crash_points

A job's row, its hold, its idempotency key, the bell for workers and the webhook to be told are
written by one transaction each (T1, T2, T2'). A child process does one and exits at its n-th point,
as in `crash_points`; then the parent counts what is there, asks every invariant, and tries again as
the caller, the worker or the sweeper would.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, Final
from uuid import UUID, uuid4

from sqlalchemy import delete, func, text, update

from bench.proofs.crash_points import POINTS_MAX, Work, crash_in_child
from bench.proofs.ground import breaches, connected, database, open_funded
from billing.db import SessionFactory, transact
from billing.keys import KeyHasher, authenticate, create_key
from core import CutoutOptions
from gateway import settle
from gateway.acceptance import Acceptance
from gateway.answers import CutoutRequest
from gateway.auth import Caller
from gateway.errors import LeaseLostError
from gateway.settings import Settings
from gateway.settle import Failure
from gateway.source import Source
from gateway.tables import PROCESSING, QUEUED, Job, Outbox
from gateway.transactions import Finishing
from gateway.webhooks.endpoints import set_alert_url

HOOK: Final = "https://hooks.example.com/cutout"
LATER: Final = timedelta(minutes=1)
RESULT: Final = {"result_key": "results/crash", "extension": "png", "model_ran": "cutout-lite"}
PEPPERS: Final = {1: "pepper-of-the-crash-points-" + "x" * 32}

# What one account has of everything that these transactions write.
COUNTED: Final = text(
    """
    SELECT
        (SELECT count(*) FROM job WHERE account_id = :a) AS jobs,
        (SELECT count(*) FROM hold WHERE account_id = :a) AS holds,
        (SELECT count(*) FROM hold WHERE account_id = :a AND state = 'captured') AS captured,
        (SELECT count(*) FROM hold WHERE account_id = :a AND state = 'released') AS released,
        (SELECT count(*) FROM job WHERE account_id = :a AND state = 'succeeded') AS succeeded,
        (SELECT count(*) FROM job WHERE account_id = :a AND state IN ('failed', 'canceled'))
            AS ended_free,
        (SELECT coalesce(max(attempt), 0) FROM job WHERE account_id = :a) AS attempt,
        (SELECT count(*) FROM idempotency_record WHERE account_id = :a) AS keys,
        (SELECT count(*) FROM outbox o JOIN job j ON j.id = o.job_id WHERE j.account_id = :a)
            AS bells,
        (SELECT count(*) FROM webhook_delivery WHERE account_id = :a) AS told
    """
)
Counts = dict[str, int]


@dataclass(frozen=True)
class Ground:
    """An account whose next transaction is crashed, and what it comes to when it is done."""

    account_id: UUID
    work: Work
    again: Work
    """What is tried after the crash: a caller comes with a new job id and the same key."""
    changes: Counts


@dataclass(frozen=True)
class Transaction:
    name: str
    lay: Callable[[SessionFactory, Settings], Coroutine[Any, Any, Ground]]


async def customer(sessions: SessionFactory) -> Caller:
    """Open an account of 50 credits, told of its alerts, and a key of it."""
    account_id = await open_funded(sessions, 50)
    hasher = KeyHasher(PEPPERS)
    async with sessions.begin() as db:
        await set_alert_url(db, account_id, HOOK, actor="proof")
        _, key = await create_key(db, hasher, account_id=account_id, env="live", actor="proof")
    async with sessions.begin() as db:
        return Caller(await authenticate(db, hasher, key), "crash", "192.0.2.1")


def request_of(caller: Caller, key: str = "once") -> CutoutRequest:
    return CutoutRequest(
        caller=caller,
        source=Source(b"picture"),
        model="cutout-lite",
        options=CutoutOptions(),
        dialect="revid",
        idempotency_key=key,
        body_sha256="the same",
        webhook_url=HOOK,
    )


def queued() -> dict[str, Any]:
    return {"id": uuid4(), "is_async": True, "state": QUEUED, "source_key": "sources/crash"}


def processing() -> dict[str, Any]:
    return {
        "id": uuid4(),
        "is_async": False,
        "state": PROCESSING,
        "lease_until": func.now() + LATER,
        "started_at": func.clock_timestamp(),
    }


def opening(
    sessions: SessionFactory, settings: Settings, caller: Caller, columns: dict[str, Any]
) -> Work:
    acceptance = Acceptance(sessions, settings, Finishing())
    request = request_of(caller)
    columns = columns | acceptance._columns(request)  # noqa: SLF001 - T1 as `open` runs it
    return partial(acceptance._open_in, request, columns)  # noqa: SLF001


async def opened(
    sessions: SessionFactory, settings: Settings, columns: dict[str, Any]
) -> tuple[UUID, Job]:
    """Open a job; one that is asynchronous has been claimed since."""
    caller = await customer(sessions)
    result = await transact(sessions, opening(sessions, settings, caller, columns))
    async with sessions.begin() as db:
        if result.job.state == QUEUED:
            claiming = update(Job).where(Job.id == result.job.id)
            await db.execute(claiming.values(state=PROCESSING, lease_until=func.now() + LATER))
            await db.execute(delete(Outbox).where(Outbox.job_id == result.job.id))
        job = await db.get_one(Job, result.job.id, populate_existing=True)
    return caller.key.account_id, job


async def lay_t1(
    columns: Callable[[], dict[str, Any]],
    bells: int,
    sessions: SessionFactory,
    settings: Settings,
) -> Ground:
    caller = await customer(sessions)
    first, second = (opening(sessions, settings, caller, columns()) for _ in range(2))
    changes = {"jobs": 1, "holds": 1, "attempt": 1, "keys": 1, "bells": bells}
    return Ground(caller.key.account_id, first, second, changes)


async def lay_t2(sessions: SessionFactory, settings: Settings) -> Ground:
    """An end that crosses the account's first threshold, so that two events are to be told."""
    account_id, job = await opened(sessions, settings, queued())
    work = partial(settle.succeed, fence=job.fence, facts=RESULT)
    return Ground(account_id, work, work, {"captured": 1, "succeeded": 1, "told": 2})


def ending_free(
    end: Callable[..., Awaitable[Any]],
    columns: Callable[[], dict[str, Any]],
    changes: Counts,
) -> Callable[[SessionFactory, Settings], Coroutine[Any, Any, Ground]]:
    async def lay(sessions: SessionFactory, settings: Settings) -> Ground:
        account_id, job = await opened(sessions, settings, columns())
        work = partial(end, fence=job.fence)
        return Ground(account_id, work, work, {"released": 1, "ended_free": 1, "told": 1} | changes)

    return lay


async def lay_take_back(sessions: SessionFactory, settings: Settings) -> Ground:
    account_id, job = await opened(sessions, settings, queued())
    work = partial(settle.retry_or_fail, job=job, failure=Failure("internal_error"), attempts_max=3)
    return Ground(account_id, work, work, {"attempt": 1, "bells": 1})


FAILING: Final = partial(settle.fail, failure=Failure("unreadable_image"))
CANCELING: Final = partial(settle.cancel, states=(QUEUED, PROCESSING))
TRANSACTIONS: Final = (
    Transaction("T1 a job that waits for a worker", partial(lay_t1, queued, 1)),
    Transaction("T1 a job whose caller waits", partial(lay_t1, processing, 0)),
    Transaction("T2 succeeded", lay_t2),
    Transaction("T2' failed", ending_free(FAILING, queued, {})),
    Transaction("T2' failed, its caller waiting", ending_free(FAILING, processing, {"keys": -1})),
    Transaction("T2' canceled", ending_free(CANCELING, queued, {})),
    Transaction("T2' withdrawn", ending_free(settle.withdraw, processing, {"keys": -1})),
    Transaction("a lost attempt handed on", lay_take_back),
)


async def counted(sessions: SessionFactory, account_id: UUID) -> Counts:
    async with sessions.begin() as db:
        return dict((await db.execute(COUNTED, {"a": account_id})).mappings().one())


async def check(sessions: SessionFactory, ground: Ground, before: Counts) -> bool:
    """Tell whether all of it was done, once it is sure that it was all or nothing."""
    assert await breaches(sessions, ground.account_id) == []
    after = await counted(sessions, ground.account_id)
    changes = {name: after[name] - before[name] for name in after if after[name] != before[name]}
    expected = {name: change for name, change in ground.changes.items() if change}
    assert changes in ({}, expected), (changes, expected)
    return changes == expected


async def try_again(sessions: SessionFactory, ground: Ground) -> None:
    try:
        await transact(sessions, ground.again)
    except LeaseLostError as exc:
        raise AssertionError("its own commit was not known again") from exc


def prove(url: str, runner: asyncio.Runner, sessions: SessionFactory, settings: Settings) -> None:
    points_count = 0
    for transaction in TRANSACTIONS:
        done_before = 0
        for point in range(POINTS_MAX):
            ground = runner.run(transaction.lay(sessions, settings))
            before = runner.run(counted(sessions, ground.account_id))
            has_died = crash_in_child(url, ground.work, point)
            done_before += runner.run(check(sessions, ground, before))
            runner.run(try_again(sessions, ground))
            assert runner.run(check(sessions, ground, before)), (transaction.name, point)
            if not has_died:
                break
        points_count += point
        print(
            f"crash points: {transaction.name}: {point} points, all or nothing at each, every"
            f" invariant held; {done_before - 1} after the commit; once after one more try",
            flush=True,
        )
    print(f"crash points of the gateway: {points_count} points")


def main() -> None:
    with (
        database(is_durable=False) as url,
        asyncio.Runner() as runner,
        connected(url, runner) as sessions,
    ):
        known: dict[str, Any] = {
            "database_url": url,
            "key_peppers": PEPPERS,
            "link_secret": PEPPERS[1],
        }
        prove(url, runner, sessions, Settings(**known))


if __name__ == "__main__":
    main()
