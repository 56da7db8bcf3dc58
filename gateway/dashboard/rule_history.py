"""What the rules of the books found over time, as the Invariants page tells it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from billing.invariant_history import CHECKING
from billing.invariants import TITLES
from billing.staff_tables import InvariantRun

SLOTS: Final = 24
"""Hours of history beside each rule."""
SHOWN_MAX: Final = 100

# The advisory lock of whoever checks, in this database: of a bigint, its two halves.
IS_CHECKING: Final = text(
    """
    SELECT EXISTS (
        SELECT FROM pg_locks
        WHERE locktype = 'advisory' AND granted AND objsubid = 1
          AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
          AND (classid::bigint << 32) | objid::bigint = :lock
    )
    """
)
BY_HOUR: Final = text(
    """
    SELECT name, date_trunc('hour', started_at, 'UTC') AS at, count(*) AS runs,
        count(*) FILTER (WHERE NOT is_ok) AS breaches
    FROM invariant_run
    WHERE started_at >= date_trunc('hour', now(), 'UTC') - CAST(:span AS interval)
    GROUP BY 1, 2
    """
)
THIS_HOUR: Final = text("SELECT date_trunc('hour', now(), 'UTC')")


@dataclass(frozen=True, slots=True)
class Slot:
    """One hour of one rule."""

    at: datetime
    runs: int
    breaches: int

    @property
    def tone(self) -> str:
        return "breach" if self.breaches else "ok" if self.runs else "none"


async def last_findings(db: AsyncSession) -> Sequence[InvariantRun]:
    """Give the answers of the last run: it writes one for each rule, all at once."""
    newest = select(InvariantRun).order_by(InvariantRun.id.desc()).limit(len(TITLES))
    return (await db.scalars(newest)).all()


async def history_by_rule(db: AsyncSession) -> dict[str, list[Slot]]:
    """Give each rule's last hours, the oldest first, those without a run too."""
    span = timedelta(hours=SLOTS - 1)
    present = (await db.execute(THIS_HOUR)).scalar_one()
    counted = {
        (row.name, row.at): Slot(row.at, row.runs, row.breaches)
        for row in await db.execute(BY_HOUR, {"span": span})
    }
    hours = [present - span + timedelta(hours=offset) for offset in range(SLOTS)]
    return {name: [counted.get((name, at), Slot(at, 0, 0)) for at in hours] for name in TITLES}


async def is_checking(db: AsyncSession) -> bool:
    """Tell whether anybody, on whatever machine, asks the rules at this moment."""
    return bool((await db.execute(IS_CHECKING, {"lock": CHECKING})).scalar_one())


async def breaches_of(db: AsyncSession, name: str) -> Sequence[InvariantRun]:
    """List the runs that found a breach of a rule, newest first; they are kept for ever."""
    broken = select(InvariantRun).where(InvariantRun.name == name, ~InvariantRun.is_ok)
    return (await db.scalars(broken.order_by(InvariantRun.id.desc()).limit(SHOWN_MAX))).all()


async def runs_of(db: AsyncSession, name: str) -> Sequence[InvariantRun]:
    """List the last runs of a rule."""
    asked = select(InvariantRun).where(InvariantRun.name == name)
    return (await db.scalars(asked.order_by(InvariantRun.id.desc()).limit(SHOWN_MAX))).all()
