"""Figures that are dear to reckon, shared by all who look within a minute.

The page says as of when they are.

Somebody looks: what is young is given at once; what is getting old is given once more while it is
reckoned anew behind; only what is too old keeps somebody waiting, and only one reckons it.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import structlog

YOUNG_S: Final = 20.0
OLD_S: Final = 60.0
KEYS_MAX: Final = 64

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Reckoned:
    """Figures, and when they were reckoned."""

    value: Any
    as_of: datetime
    reckoned_s: float

    def age_s(self, now_s: float) -> float:
        return now_s - self.reckoned_s


@dataclass(slots=True)
class Remembered:
    """What was reckoned of late, by name."""

    clock: Callable[[], float] = time.monotonic
    _known: dict[Hashable, Reckoned] = field(default_factory=dict)
    _under_way: dict[Hashable, asyncio.Task[Reckoned]] = field(default_factory=dict)

    async def get(self, name: Hashable, reckon: Callable[[], Awaitable[Any]]) -> Reckoned:
        """Give the figures called `name`, at most `OLD_S` old. Raises what `reckon` raises."""
        known = self._known.get(name)
        age_s = known.age_s(self.clock()) if known else OLD_S
        if known and age_s < YOUNG_S:
            return known
        task = self._under_way.get(name)
        if task is None:
            task = asyncio.create_task(self._reckon(name, reckon))
            self._under_way[name] = task
            task.add_done_callback(lambda done: self._end(name, done))
        if known and age_s < OLD_S:
            return known
        return await asyncio.shield(task)

    async def _reckon(self, name: Hashable, reckon: Callable[[], Awaitable[Any]]) -> Reckoned:
        as_of, started_s = datetime.now(UTC), self.clock()
        found = Reckoned(await reckon(), as_of, started_s)
        self._known.pop(name, None)
        self._known[name] = found
        while len(self._known) > KEYS_MAX:
            self._known.pop(next(iter(self._known)))
        return found

    def _end(self, name: Hashable, task: asyncio.Task[Reckoned]) -> None:
        self._under_way.pop(name, None)
        if not task.cancelled() and (exc := task.exception()):
            log.warning("figures.failed", exc_info=exc)
