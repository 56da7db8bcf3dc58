"""Jobs in numbers, for whoever watches the house: calls over time, latency, how long the queue is.

Read only. What was refused before it became a job is counted elsewhere (`refusal_counts.py`).
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

STEPS: Final = {"hour": timedelta(hours=1), "day": timedelta(days=1)}

CALLS: Final = text(
    """
    SELECT date_bin(:step, finished_at, TIMESTAMPTZ '2000-01-01Z') AS at,
        count(*) FILTER (WHERE state = 'succeeded') AS succeeded,
        count(*) FILTER (WHERE state = 'failed') AS failed,
        count(*) FILTER (WHERE state = 'canceled') AS canceled
    FROM job
    WHERE finished_at >= :since AND finished_at < :until
    GROUP BY 1 ORDER BY 1
    """
)
# Counted by the millisecond, then walked: sorting 300,000 intervals takes more than twice as long.
LATENCY: Final = text(
    """
    WITH spent AS (
        SELECT CAST(round(date_part('epoch', finished_at - created_at) * 1000) AS bigint) AS whole,
            CAST(round(date_part('epoch', started_at - created_at) * 1000) AS bigint) AS waited
        FROM job
        WHERE finished_at >= :since AND finished_at < :until AND state = 'succeeded'
    ), counted AS (
        SELECT grouping(whole) = 0 AS is_whole, coalesce(whole, waited) AS ms, count(*) AS jobs
        FROM spent GROUP BY GROUPING SETS ((whole), (waited))
    ), walked AS (
        SELECT is_whole, ms, sum(jobs) OVER (PARTITION BY is_whole ORDER BY ms) AS walked,
            sum(jobs) OVER (PARTITION BY is_whole) AS jobs
        FROM counted
    )
    SELECT coalesce(max(jobs) FILTER (WHERE is_whole), 0) AS jobs,
        min(ms) FILTER (WHERE is_whole AND walked >= jobs * 0.5) AS p50_ms,
        min(ms) FILTER (WHERE is_whole AND walked >= jobs * 0.95) AS p95_ms,
        min(ms) FILTER (WHERE NOT is_whole AND walked >= jobs * 0.5) AS waited_p50_ms,
        min(ms) FILTER (WHERE NOT is_whole AND walked >= jobs * 0.95) AS waited_p95_ms
    FROM walked
    """
)
QUEUE: Final = text(
    """
    SELECT
        (SELECT count(*) FROM job WHERE state = 'queued' AND queue_class = 'priority') AS priority,
        (SELECT count(*) FROM job WHERE state = 'queued' AND queue_class = 'standard') AS standard,
        (SELECT count(*) FROM job WHERE state = 'processing') AS processing,
        (SELECT min(created_at) FROM job WHERE state = 'queued') AS oldest_at,
        clock_timestamp() AS now
    """
)


@dataclass(frozen=True, slots=True)
class Calls:
    """The jobs that ended in one hour or day, which begins at `at` (UTC)."""

    at: datetime
    succeeded: int
    failed: int
    canceled: int


@dataclass(frozen=True, slots=True)
class Latency:
    """How long jobs took that succeeded, from acceptance to end; None where none did."""

    jobs: int
    p50_ms: int | None
    p95_ms: int | None
    waited_p50_ms: int | None
    """Of that, until work on it began."""
    waited_p95_ms: int | None


@dataclass(frozen=True, slots=True)
class Queue:
    """What waits and what runs."""

    priority: int
    standard: int
    processing: int
    oldest_at: datetime | None
    now: datetime

    @property
    def waiting(self) -> int:
        return self.priority + self.standard

    @property
    def oldest_s(self) -> float | None:
        """How long the oldest has waited."""
        return (self.now - self.oldest_at).total_seconds() if self.oldest_at else None


async def calls_over_time(
    db: AsyncSession, *, since: datetime, until: datetime, step: str = "day"
) -> list[Calls]:
    """Count the jobs that ended with `since` <= time < `until`; steps without any are left out.

    Args:
        db: the session.
        since: the beginning.
        until: the end, itself left out.
        step: hour or day, UTC's.
    """
    if step not in STEPS:
        raise ValueError(f"not a step: {step!r}")
    rows = await db.execute(CALLS, {"since": since, "until": until, "step": STEPS[step]})
    return [Calls(row.at, row.succeeded, row.failed, row.canceled) for row in rows]


async def latency(db: AsyncSession, *, since: datetime, until: datetime) -> Latency:
    """Tell the median and the 95th percentile of jobs that ended with `since` <= time < `until`."""
    row = (await db.execute(LATENCY, {"since": since, "until": until})).one()
    return Latency(int(row.jobs), *row[1:])


async def queue(db: AsyncSession) -> Queue:
    """Tell what waits and what runs now."""
    row = (await db.execute(QUEUE)).one()
    return Queue(row.priority, row.standard, row.processing, row.oldest_at, row.now)
