"""What the checks of the books found: when they last ran, and what was broken of late."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from sqlalchemy import delete, func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from billing.invariants import TITLES
from billing.staff_tables import InvariantRun

CHECKING: Final = 0x63_75_74_6F
"""The advisory lock of whoever checks all accounts."""

OVERLAP: Final = timedelta(minutes=5)
"""Looked at again by the next run: transactions that were open while the last one looked."""

SHOWN_FOR: Final = timedelta(hours=25)
"""A breach of old books is found once a day, so that is how long it is told."""

KEPT_FOR: Final = timedelta(days=7)

# Written all at once at a run's end, so a run began its rules' time before.
LAST: Final = text(
    """
    SELECT clock_timestamp() - r.ended_at AS age,
           r.took + (clock_timestamp() - r.ended_at) AS since_begin,
           (r.ended_at AT TIME ZONE 'UTC')::date
               < (clock_timestamp() AT TIME ZONE 'UTC')::date AS is_of_an_earlier_day
    FROM (
        SELECT max(started_at) AS ended_at, sum(elapsed_ms) * interval '1 millisecond' AS took
        FROM (SELECT started_at, elapsed_ms FROM invariant_run ORDER BY id DESC LIMIT :rules) l
    ) r
    WHERE r.ended_at IS NOT NULL
    """
)


@dataclass(frozen=True, slots=True)
class LastRun:
    """When the books were last checked."""

    age: timedelta
    window: timedelta
    """What the next run has to look at: all that was written since this one began, and before."""
    is_of_an_earlier_day: bool


async def last_run(db: AsyncSession) -> LastRun | None:
    """Find the last check; None where there never was one."""
    row = (await db.execute(LAST, {"rules": len(TITLES)})).one_or_none()
    if row is None:
        return None
    return LastRun(row.age, row.since_begin + OVERLAP, row.is_of_an_earlier_day)


async def may_check(db: AsyncSession) -> bool:
    """Become the one who checks until the transaction ends; False where somebody else does."""
    taken = select(func.pg_try_advisory_xact_lock(CHECKING))
    return bool(await db.scalar(taken))


async def breaches(db: AsyncSession) -> Mapping[str, int]:
    """Tell, for each rule, the most breaches that a run of the last day found."""
    found: Any = await db.execute(
        select(InvariantRun.name, func.max(InvariantRun.count))
        .where(InvariantRun.started_at > func.now() - SHOWN_FOR, ~InvariantRun.is_ok)
        .group_by(InvariantRun.name)
    )
    return dict.fromkeys(TITLES, 0) | {name: int(count) for name, count in found}


async def forget(db: AsyncSession) -> None:
    """Delete old answers that were good; a breach is kept for ever."""
    await db.execute(
        delete(InvariantRun).where(
            InvariantRun.is_ok, InvariantRun.started_at < func.now() - KEPT_FOR
        )
    )
