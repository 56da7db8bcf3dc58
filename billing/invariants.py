"""What must be true of the books, asked of the database itself.

Run over one account by tests, over all of them each minute in production and by
`cutout billing check`. A rule is a query that finds breaches; an empty answer is health. Rules
about jobs are asked only where the gateway's tables are there. I13 (advancing more often changes
nothing) cannot be seen in a state; the state machine of the tests holds it.
"""

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from billing import audit
from billing.invariant_queries import LATELY, QUERIES
from billing.staff_tables import InvariantRun

SAMPLE_MAX: Final = 5
OF: Final = re.compile(r"/\* of (\w+) \*/")
OF_SINCE: Final = re.compile(r"/\* of (\w+) since (\w+) \*/")
OF_ACCOUNTS: Final = re.compile(r"/\* of \w+")
ITS: Final = r"AND \1.account_id = :account_id"
TOUCHED: Final = r"AND \1.account_id = ANY(:touched)"
WRITTEN: Final = r"AND \1.\2 > now() - CAST(:window AS interval)"
WRITTEN_FOR: Final = text(
    "SELECT DISTINCT account_id FROM ledger_txn"
    " WHERE created_at > now() - CAST(:window AS interval)"
)
PATIENCE: Final = text("SET LOCAL statement_timeout = '300s'")

TITLES: Final = {
    "I1": "every transaction sums to zero",
    "I2": "no balance is below its limit, nothing held is below zero",
    "I3": "the balances are the sums of the entries",
    "I4": "available is what the grants have left, held is what open holds hold",
    "I5": "nothing written has changed: the chain verifies and has no gap",
    "I6": "a reference works once",
    "I7": "a job that succeeded was charged once, any other not at all",
    "I8": "a hold is open as long as its job",
    "I9": "nothing was captured after its release",
    "I10": "the burn-down order was kept",
    "I11": "one close and one plan grant for each period",
    "I12": "rollover kept within its cap and its generations",
    "I14": "a job that succeeded has a result",
    "I15": "no row of one account belongs to another",
    "I16": "one idempotency key, one job",
    "I17": "a statement foots: each line follows from the one before",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """The answer to one rule."""

    name: str
    count: int
    sample: Sequence[dict[str, Any]]
    elapsed_ms: int

    @property
    def is_ok(self) -> bool:
        return self.count == 0


async def check_all(
    db: AsyncSession, *, account_id: UUID | None = None, window: timedelta | None = None
) -> list[Finding]:
    """Ask every rule, of one account or of all.

    `window` asks only of what was written within it, and of what is open now in the accounts that
    it was written for: each minute need not read last year again. Each grant's own sum, and what
    befell an older job, are left to the whole check. The audit trail's links and head are looked
    at each time; that each event is what was written, when neither is said.
    """
    await db.execute(PATIENCE)
    scope = await _scope(db, account_id, window)
    has_jobs = await db.scalar(select(func.to_regclass("public.job"))) is not None
    findings = []
    for name, queries in (QUERIES if window is None else QUERIES | LATELY).items():
        count, sample, started = 0, list[dict[str, Any]](), time.perf_counter()
        for query in queries:
            if "job j" in query and not has_jobs:
                continue
            if account_id is not None and not OF_ACCOUNTS.search(query):
                continue  # the audit trail is nobody's own
            found, rows = await _ask(db, query, scope)
            count += found
            sample += rows
        if name == "I5" and account_id is None and window is None:
            # Its hashes are Python's to reckon.
            trail = await audit.verify(db)
            if not trail.is_whole:
                count += 1
                sample.insert(0, {"audit_event": str(trail.broken_at), "why": trail.why})
        elapsed_ms = round((time.perf_counter() - started) * 1000)
        findings.append(Finding(name, count, sample[:SAMPLE_MAX], elapsed_ms))
    return findings


async def check_account(db: AsyncSession, account_id: UUID) -> list[Finding]:
    """Find the rules that this account breaks."""
    findings = await check_all(db, account_id=account_id)
    return [finding for finding in findings if not finding.is_ok]


async def run_and_record(db: AsyncSession, *, window: timedelta | None = None) -> list[Finding]:
    """Check all accounts and keep the answers in `invariant_run`."""
    findings = await check_all(db, window=window)
    for finding in findings:
        db.add(
            InvariantRun(
                name=finding.name,
                is_ok=finding.is_ok,
                count=finding.count,
                sample=list(finding.sample),
                elapsed_ms=finding.elapsed_ms,
            )
        )
    await db.flush()
    return findings


async def _scope(
    db: AsyncSession, account_id: UUID | None, window: timedelta | None
) -> dict[str, Any]:
    scope: dict[str, Any] = {}
    if account_id is not None:
        scope["account_id"] = account_id
    if window is not None:
        scope["window"] = window
        scope["touched"] = list(await db.scalars(WRITTEN_FOR, {"window": window}))
    return scope


async def _ask(
    db: AsyncSession, query: str, scope: dict[str, Any]
) -> tuple[int, list[dict[str, Any]]]:
    its = ITS if "account_id" in scope else ""
    of, of_since = (f"{its} {TOUCHED}", f"{its} {WRITTEN}") if "window" in scope else (its, its)
    query = OF_SINCE.sub(of_since, OF.sub(of, query))
    counted = f"SELECT count(*) OVER () AS breaches, b.* FROM ({query}) b LIMIT {SAMPLE_MAX}"  # noqa: S608 - our own text
    used = {name: value for name, value in scope.items() if f":{name}" in query}
    rows = (await db.execute(text(counted), used)).mappings().all()
    if not rows:
        return 0, []
    sample = [{key: str(value) for key, value in row.items() if key != "breaches"} for row in rows]
    return rows[0]["breaches"], sample
