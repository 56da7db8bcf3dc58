"""A process ends before and after every statement of each money transaction; nothing is half done.

    python -m bench.proofs.crash_points

For each operation a child process is forked that does it and exits (`os._exit`, no rollback, no
goodbye) at its n-th point: before or after one of its statements, before its commit, or after the
commit with nobody told. Then the parent asks every invariant, does the operation again as a caller
would who heard no answer, and counts the effects: exactly one.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final
from uuid import UUID, uuid4

from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.pool import NullPool

from bench.proofs.ground import breaches, connected, database, open_funded
from billing import anchors, ledger, periods, subscriptions
from billing.db import SessionFactory, make_engine, make_sessions, transact
from billing.errors import BillingError

BEGAN_AT = datetime(2024, 1, 31, tzinfo=UTC)
RENEWS_AT = anchors.boundary(BEGAN_AT, 1)
DIED: Final = 77
POINTS_MAX: Final = 400

Work = Callable[[AsyncSession], Awaitable[Any]]


@dataclass(frozen=True)
class Operation:
    """What is crashed: how its ground is laid, what it does, and what its effect looks like."""

    name: str
    op: str
    lay: Callable[[SessionFactory], Coroutine[Any, Any, tuple[UUID, Work]]]


async def held_job(sessions: SessionFactory, account_id: UUID) -> UUID:
    job_id = uuid4()
    async with sessions.begin() as db:
        await ledger.place_hold(
            db, account_id=account_id, job_id=job_id, amount=25, concurrency_max=None, at=BEGAN_AT
        )
    return job_id


async def lay_hold(sessions: SessionFactory) -> tuple[UUID, Work]:
    account_id = await open_funded(sessions, 100, at=BEGAN_AT)
    return account_id, partial(
        ledger.place_hold,
        account_id=account_id,
        job_id=uuid4(),
        amount=25,
        concurrency_max=None,
        at=BEGAN_AT,
    )


async def lay_capture(sessions: SessionFactory) -> tuple[UUID, Work]:
    account_id = await open_funded(sessions, 100, at=BEGAN_AT)
    job_id = await held_job(sessions, account_id)
    return account_id, partial(ledger.capture, job_id=job_id, at=BEGAN_AT)


async def lay_release(sessions: SessionFactory) -> tuple[UUID, Work]:
    """A release after a period closed: with everything that is due, and a late slice."""
    account_id = await open_funded(sessions, 100, at=BEGAN_AT)
    job_id = await held_job(sessions, account_id)
    return account_id, partial(ledger.release, job_id=job_id, reason="crash", at=RENEWS_AT)


async def lay_refund(sessions: SessionFactory) -> tuple[UUID, Work]:
    account_id = await open_funded(sessions, 100, at=BEGAN_AT)
    job_id = await held_job(sessions, account_id)
    async with sessions.begin() as db:
        await ledger.capture(db, job_id, at=BEGAN_AT)
    return account_id, partial(
        ledger.refund, job_id=job_id, actor="proof", reason="crash", at=BEGAN_AT
    )


async def lay_close(sessions: SessionFactory) -> tuple[UUID, Work]:
    """A close that has something to carry: an upgraded plan's credits."""
    account_id = await open_funded(sessions, 100, at=BEGAN_AT)
    async with sessions.begin() as db:
        await subscriptions.change_plan(db, account_id, "machine-large", actor="proof", at=BEGAN_AT)
    return account_id, partial(periods.advance, account_id=account_id, at=RENEWS_AT)


OPERATIONS = (
    Operation("T1 hold", "hold", lay_hold),
    Operation("T2 capture", "capture", lay_capture),
    Operation("T2' release", "release", lay_release),
    Operation("refund", "refund", lay_refund),
    Operation("period close", "rollover", lay_close),
)


def crash_in_child(url: str, work: Work, point: int) -> bool:
    """Do `work` in a child that exits at `point`; False once it has fewer points than that."""
    child = os.fork()
    if child == 0:
        asyncio.run(_work_until(url, work, point))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in {0, DIED}, f"the child failed with {code}"
    return code == DIED


async def _work_until(url: str, work: Work, point: int) -> None:
    engine = make_engine(url, poolclass=NullPool)
    seen = 0

    def reach(*_: object) -> None:
        nonlocal seen
        if seen == point:
            os._exit(DIED)
        seen += 1

    for moment in ("before_cursor_execute", "after_cursor_execute", "commit"):
        event.listen(engine.sync_engine, moment, reach)
    await transact(make_sessions(engine), work)
    reach()  # committed, and nobody was told


async def effects(sessions: SessionFactory, account_id: UUID, op: str) -> int:
    async with sessions.begin() as db:
        count = text("SELECT count(*) FROM ledger_txn WHERE account_id = :a AND op = :op")
        counted = await db.scalar(count, {"a": account_id, "op": op})
    return int(counted or 0)


async def recover(
    sessions: SessionFactory, account_id: UUID, work: Work, op: str
) -> tuple[int, int]:
    """Count the effects as the crash left them, and after the caller has tried again."""
    assert await breaches(sessions, account_id) == []
    left = await effects(sessions, account_id, op)
    try:
        await transact(sessions, work)
    except BillingError:
        assert left == 1, "refused, though it was not done"
    assert await breaches(sessions, account_id) == []
    return left, await effects(sessions, account_id, op)


def prove(url: str, runner: asyncio.Runner, sessions: SessionFactory) -> None:
    for operation in OPERATIONS:
        done_before = 0
        for point in range(POINTS_MAX):
            account_id, work = runner.run(operation.lay(sessions))
            has_died = crash_in_child(url, work, point)
            left, after = runner.run(recover(sessions, account_id, work, operation.op))
            assert left in {0, 1}
            assert after == 1, (operation.name, point, after)
            done_before += left
            if not has_died:
                break
        print(
            f"crash points: {operation.name}: {point} points, every invariant held at each;"
            f" {done_before - 1} of them after the commit; 1 effect each after one more try",
            flush=True,
        )


def main() -> None:
    with (
        database(is_durable=False) as url,
        asyncio.Runner() as runner,
        connected(url, runner) as sessions,
    ):
        prove(url, runner, sessions)


if __name__ == "__main__":
    main()
