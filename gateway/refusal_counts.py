"""Calls for a cutout that were refused before they became a job, counted by the hour.

A job leaves a row, a refusal leaves none: without this only the metrics of each gateway would know,
until it ends. Counted in memory and added to the table every few seconds, so that a storm of
refused calls costs the database one statement; a gateway that is killed takes its last seconds
of counts with it.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

import structlog
from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from billing.db import SessionFactory
from gateway.tables import RefusalCount
from gateway.transactions import is_away

WRITTEN_EVERY_S: Final = 5.0
UNWRITTEN_MAX: Final = 10_000
"""Kinds of refusals that wait for a database that is away; there are a few dozen an hour."""

log = structlog.get_logger()

Kind = tuple[datetime, str, str]
"""The hour, the dialect and the problem's code."""


@dataclass(slots=True)
class RefusalCounts:
    """What one gateway has refused and not yet written down."""

    sessions: SessionFactory
    unwritten: Counter[Kind] = field(default_factory=Counter)

    def note(self, dialect: str, code: str) -> None:
        """Count one refused call."""
        hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
        kind = (hour, dialect, code)
        if kind in self.unwritten or len(self.unwritten) < UNWRITTEN_MAX:
            self.unwritten[kind] += 1

    async def write(self) -> None:
        """Add what was counted to the table; what cannot be written is kept for the next time."""
        counted, self.unwritten = self.unwritten, Counter()
        if not counted:
            return
        adding = insert(RefusalCount).values(
            [
                {"hour": hour, "dialect": dialect, "code": code, "calls": calls}
                # In order, so that two gateways that write at once do not wait for each other.
                for (hour, dialect, code), calls in sorted(counted.items())
            ]
        )
        try:
            async with self.sessions.begin() as db:
                await db.execute(
                    adding.on_conflict_do_update(
                        index_elements=[RefusalCount.hour, RefusalCount.dialect, RefusalCount.code],
                        set_={"calls": RefusalCount.calls + adding.excluded.calls},
                    )
                )
        except BaseException:
            self.unwritten.update(counted)
            raise

    async def write_forever(self) -> None:
        """Write every few seconds, whatever happens; end by being cancelled."""
        while True:
            await asyncio.sleep(WRITTEN_EVERY_S)
            try:
                await self.write()
            except Exception as exc:
                log.warning("refusals.not_written", exc_info=None if is_away(exc) else exc)

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Write while inside, and the rest on the way out."""
        writing = asyncio.create_task(self.write_forever())
        try:
            yield
        finally:
            writing.cancel()
            await asyncio.wait([writing])
            try:
                await self.write()
            except Exception as exc:
                log.warning("refusals.not_written", exc_info=None if is_away(exc) else exc)


@dataclass(frozen=True, slots=True)
class Refused:
    """Calls that were refused for one reason in one hour or day."""

    at: datetime
    code: str
    calls: int


async def refused_over_time(
    db: AsyncSession, *, since: datetime, until: datetime, step: str = "day"
) -> Sequence[Refused]:
    """Tell what was refused in the hours that begin with `since` <= time < `until`.

    Args:
        db: the session.
        since: the beginning.
        until: the end, itself left out.
        step: hour or day, UTC's.
    """
    at = func.date_trunc(step, RefusalCount.hour, "UTC").label("at")
    counted = (
        select(at, RefusalCount.code, func.sum(RefusalCount.calls))
        .where(RefusalCount.hour >= since, RefusalCount.hour < until)
        .group_by(at, RefusalCount.code)
        .order_by(at, RefusalCount.code)
    )
    return [Refused(at, code, int(calls)) for at, code, calls in await db.execute(counted)]
