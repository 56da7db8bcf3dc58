"""What is in the books and in storage after the storm, compared with what the callers were told."""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from sqlalchemy import text

from bench.proofs.ground import breaches
from billing.db import SessionFactory
from billing.pricing import CREDITS_PER_CUTOUT
from gateway.storage import Storage

JOBS: Final = """
SELECT j.id, j.state, j.attempt, j.is_async, j.error_code, j.result_key, j.charged_credits,
       (SELECT count(*) FROM ledger_txn t WHERE t.op = 'capture' AND t.ref = j.id::text) AS captures
FROM job j
"""
CAPTURED: Final = """
SELECT count(*), coalesce(-sum(e.amount) / :price, 0)
FROM ledger_txn t JOIN ledger_entry e ON e.txn_id = t.id AND e.bucket = 'held'
WHERE t.op = 'capture'
"""
OPEN_HOLDS: Final = "SELECT count(*) FROM hold WHERE state = 'held'"
CONSUMED: Final = "SELECT sum(consumed), sum(held) FROM credit_account"
TOTAL: Final = "SELECT coalesce(sum(amount), 0) FROM ledger_entry"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What there was, and what must not have been."""

    seen: dict[str, int]
    violations: dict[str, int]
    invariants: list[str]

    @property
    def is_clean(self) -> bool:
        return not any(self.violations.values()) and not self.invariants


async def judge(sessions: SessionFactory, storage: Storage, told: Collection[UUID]) -> Verdict:
    """Ask the database; `told` is the job of each request, as its caller knows it."""
    async with sessions.begin() as db:
        jobs = {row.id: row for row in await db.execute(text(JOBS))}
        captures, prices = (await db.execute(text(CAPTURED), {"price": CREDITS_PER_CUTOUT})).one()
        consumed, held = (await db.execute(text(CONSUMED))).one()
        open_holds = await db.scalar(text(OPEN_HOLDS)) or 0
        total = await db.scalar(text(TOTAL)) or 0
    succeeded = {job.id for job in jobs.values() if job.state == "succeeded"}
    charged = {job.id for job in jobs.values() if job.captures}
    ended = {job.id for job in jobs.values() if job.state in {"succeeded", "failed", "canceled"}}
    gone = [job for job in succeeded if not await storage.exists(str(jobs[job].result_key))]
    codes = Counter(job.error_code for job in jobs.values() if job.state == "failed")
    return Verdict(
        seen={
            "jobs": len(jobs),
            "jobs that succeeded": len(succeeded),
            **{f"jobs that failed free: {code}": count for code, count in codes.items()},
            "jobs that were begun again": sum(job.attempt > 1 for job in jobs.values()),
            "synchronous calls that died": sum(
                not job.is_async and job.state != "succeeded" for job in jobs.values()
            ),
            "captures": captures,
            "credits charged": int(consumed),
        },
        violations={
            # A second capture of a job, or a charge for a job that is no request's answer.
            "double charges": captures - len(charged) + len(charged - set(told)),
            "missed charges": len(succeeded - charged),
            "charges of jobs that failed": len(charged - succeeded),
            "credits charged beyond one price for each success": abs(
                int(consumed) - CREDITS_PER_CUTOUT * len(succeeded)
            )
            + abs(int(prices) - len(succeeded)),
            "jobs lost": len(set(told) - ended),
            "jobs that have not ended": len(jobs.keys() - ended),
            "results missing": len(gone),
            "holds left open": open_holds,
            "credits left held": int(held),
            "sum of the ledger": abs(int(total)),
        },
        invariants=[f"{f.name}: {f.count}, {f.sample}" for f in await breaches(sessions)],
    )
