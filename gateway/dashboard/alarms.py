"""Is all well? Books, queue, errors and processes, each judged in one sentence."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from redis.asyncio import Redis
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from billing import invariant_history
from billing.invariant_history import LastRun
from gateway import figures, presence
from gateway.errors import INTERNAL, PROBLEMS
from gateway.figures import Queue
from gateway.presence import Card
from gateway.web.pages import span

GOOD: Final = "good"
WARN: Final = "warn"
BAD: Final = "bad"
TONES: Final = (GOOD, WARN, BAD)
"""From the best to the worst."""

BOOKS_AGE_MAX: Final = timedelta(minutes=5)
"""The rules are asked every minute; later than this, nobody asks."""
QUEUE_WAIT_WARN_S: Final = 30.0
QUEUE_WAIT_BAD_S: Final = 300.0
ERROR_WINDOW: Final = timedelta(minutes=15)
ERROR_SHARE_WARN: Final = 0.01
ERROR_SHARE_BAD: Final = 0.05
ERROR_STATUS_MIN: Final = 500
OUR_FAULTS: Final = sorted(
    {problem.code for problem in PROBLEMS.values() if problem.status >= ERROR_STATUS_MIN}
    | {INTERNAL.code}
)
"""A failed job's codes that no customer can help."""

# now(), not clock_timestamp(): only what stands still within a statement can use an index.
LATELY: Final = text(
    """
    SELECT count(*) AS ended, count(*) FILTER (WHERE state = 'failed') AS failed,
        count(*) FILTER (WHERE state = 'failed' AND error_code = ANY(:codes)) AS ours
    FROM job
    WHERE finished_at >= now() - CAST(:window AS interval)
    """
)


@dataclass(frozen=True, slots=True)
class Alarm:
    """One thing that is watched: how it stands, and where to read on."""

    name: str
    tone: str
    words: str
    path: str


@dataclass(frozen=True, slots=True)
class Standing:
    """How the service stands now."""

    alarms: tuple[Alarm, ...]
    queue: Queue

    @property
    def tone(self) -> str:
        """The worst of all."""
        return max((alarm.tone for alarm in self.alarms), key=TONES.index)

    @property
    def title(self) -> str:
        if self.tone == GOOD:
            return "All is well"
        found = [alarm.name.lower() for alarm in self.alarms if alarm.tone == self.tone]
        begin = "Something is wrong" if self.tone == BAD else "Worth a look"
        return f"{begin}: {', '.join(found)}"


async def standing(db: AsyncSession, redis: Redis) -> Standing:
    """Judge how everything stands now."""
    last = await invariant_history.last_run(db)
    breaches = await invariant_history.breaches(db)
    queue = await figures.queue(db)
    lately = (await db.execute(LATELY, {"codes": OUR_FAULTS, "window": ERROR_WINDOW})).one()
    cards = await presence.present(redis)
    alarms = (
        _books(last, breaches),
        _queue(queue),
        _errors(lately.ended, lately.failed, lately.ours),
        _processes(cards),
    )
    return Standing(alarms, queue)


def _books(last: LastRun | None, breaches: Mapping[str, int]) -> Alarm:
    broken = [name for name, count in breaches.items() if count]
    when = f"checked {span(last.age)} ago" if last else "never checked"
    if broken:
        tone, words = BAD, f"{', '.join(broken)} broken within a day; {when}"
    elif last is None or last.age > BOOKS_AGE_MAX:
        tone, words = WARN, f"{when}: no worker asks the rules"
    else:
        tone, words = GOOD, f"every rule holds; {when}"
    return Alarm("Books", tone, words, "/admin/invariants")


def _queue(queue: Queue) -> Alarm:
    waited_s = queue.oldest_s or 0.0
    tone = BAD if waited_s > QUEUE_WAIT_BAD_S else WARN if waited_s > QUEUE_WAIT_WARN_S else GOOD
    words = f"{queue.waiting:,} waiting, {queue.processing:,} in work"
    if queue.oldest_at is not None:
        words += f"; the oldest has waited {span(timedelta(seconds=waited_s))}"
    return Alarm("Queue", tone, words, "/admin/jobs?state=queued")


def _errors(ended: int, failed: int, ours: int) -> Alarm:
    share = ours / ended if ended else 0.0
    tone = BAD if share > ERROR_SHARE_BAD else WARN if share > ERROR_SHARE_WARN else GOOD
    words = f"{ended:,} calls ended in {span(ERROR_WINDOW)}, {failed:,} failed, {ours:,} by us"
    return Alarm("Errors", tone, words, "/admin/jobs?state=failed")


def _processes(cards: list[Card] | None) -> Alarm:
    if cards is None:
        return Alarm("Processes", WARN, "Redis is away: who runs is not known", "/admin/system")
    alive = [card.kind for card in cards if not card.is_silent]
    silent = len(cards) - len(alive)
    words = f"{_some(alive.count('gateway'), 'gateway')}, {_some(alive.count('worker'), 'worker')}"
    if silent:
        words += f"; {silent} silent"
    tone = BAD if "worker" not in alive else WARN if silent else GOOD
    return Alarm("Processes", tone, words, "/admin/system")


def _some(count: int, name: str) -> str:
    return f"{count} {name}{'' if count == 1 else 's'}"
