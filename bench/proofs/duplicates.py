"""Each capture, release, refund and period close is sent four times at once; each works once.

    python -m bench.proofs.duplicates [--each 2000]

No deadlock and no lost race may reach a caller: the only refusals are "already settled" and
"already done".
"""

import argparse
import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from bench.proofs.ground import breaches, connected, database, open_funded
from billing import anchors, ledger, periods
from billing.db import SessionFactory, transact
from billing.errors import DuplicateOperationError, HoldNotOpenError

TIMES = 4
ACCOUNTS = 20
AT_ONCE = 50
BEGAN_AT = datetime(2024, 1, 31, tzinfo=UTC)

Work = Callable[[AsyncSession], Awaitable[Any]]


async def storm(sessions: SessionFactory, works: Iterable[Work]) -> Counter[str]:
    """Send each of `works` four times at once, many of them at a time."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def send(work: Work) -> str:
        try:
            await transact(sessions, work)
        except (HoldNotOpenError, DuplicateOperationError) as exc:
            return type(exc).__name__
        return "done"

    async def four_times(work: Work) -> list[str]:
        async with gate:
            return await asyncio.gather(*(send(work) for _ in range(TIMES)))

    answers = await asyncio.gather(*(four_times(work) for work in works))
    return Counter(answer for four in answers for answer in four)


async def hold_all(sessions: SessionFactory, account_ids: list[UUID], count: int) -> list[UUID]:
    job_ids = [uuid4() for _ in range(count)]
    for n, job_id in enumerate(job_ids):
        async with sessions.begin() as db:
            await ledger.place_hold(
                db,
                account_id=account_ids[n % len(account_ids)],
                job_id=job_id,
                amount=25,
                concurrency_max=None,
            )
    return job_ids


async def count_ops(sessions: SessionFactory, op: str) -> int:
    async with sessions.begin() as db:
        counted = await db.scalar(
            text("SELECT count(*) FROM ledger_txn WHERE op = :op"), {"op": op}
        )
    return int(counted or 0)


async def prove(sessions: SessionFactory, each: int) -> None:
    account_ids = [await open_funded(sessions, 10**6) for _ in range(ACCOUNTS)]
    to_capture = await hold_all(sessions, account_ids, each)
    to_release = await hold_all(sessions, account_ids, each)
    storms: list[tuple[str, list[Work]]] = [
        ("capture", [partial(ledger.capture, job_id=job_id) for job_id in to_capture]),
        (
            "release",
            [partial(ledger.release, job_id=job, reason="storm") for job in to_release],
        ),
        (
            "refund",
            [
                partial(ledger.refund, job_id=job, actor="storm", reason="storm")
                for job in to_capture
            ],
        ),
    ]
    for op, works in storms:
        await report(sessions, op, works, each)
    months = each // ACCOUNTS
    old = [await open_funded(sessions, 100, at=BEGAN_AT) for _ in range(ACCOUNTS)]
    ends = [anchors.boundary(BEGAN_AT, month) for month in range(1, months + 1)]
    closes: list[Work] = [
        partial(periods.advance, account_id=account_id, at=at) for at in ends for account_id in old
    ]
    await report(sessions, "rollover", closes, each)
    found = await breaches(sessions)
    assert found == [], found
    print("duplicates: every invariant holds, of every account")


async def report(sessions: SessionFactory, op: str, works: list[Work], expected: int) -> None:
    started, before = time.monotonic(), await count_ops(sessions, op)
    answers = await storm(sessions, works)
    effects = await count_ops(sessions, op) - before
    took_s = time.monotonic() - started
    print(
        f"duplicates: {op}: {expected} x {TIMES} sent, {effects} effects, {took_s:.0f} s;"
        f" answers {dict(answers)}",
        flush=True,
    )
    assert effects == expected, (op, effects)
    if op != "rollover":  # advancing again is no error, it only does nothing
        assert answers["done"] == expected, answers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--each", type=int, default=2000)
    asked = parser.parse_args()
    with database() as url, asyncio.Runner() as runner, connected(url, runner) as sessions:
        runner.run(prove(sessions, asked.each))


if __name__ == "__main__":
    main()
