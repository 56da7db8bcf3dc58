"""Jobs that wait in Postgres for a worker: who would only wait to fail is told so at once."""

import asyncio
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from billing.db import SessionFactory
from gateway import jobs
from gateway.acceptance import PATIENCE
from gateway.errors import OverloadedError
from gateway.settings import Settings
from gateway.tables import PRIORITY
from gateway.transactions import persist

LOOK_S: Final = 1.0
"""How old a count may be: one look a second, however many submit."""


@dataclass(slots=True)
class Backlog:
    """How many jobs wait, by queue class, as it was a moment ago."""

    counts: Mapping[str, int] = field(default_factory=dict)
    looked_at_s: float = -math.inf
    looking: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def refuse_if_hopeless(
        self, sessions: SessionFactory, settings: Settings, queue_class: str, *, service_s: float
    ) -> None:
        """Refuse a job whose turn would come after its hold is over.

        Args:
            sessions: where the jobs are.
            settings: how many workers there are, and how long a hold is.
            queue_class: of the job.
            service_s: what a cutout usually takes.

        Raises:
            OverloadedError: with the time until there is hope.
        """
        await self._look(sessions)
        is_priority = queue_class == PRIORITY
        ahead = self.counts.get(PRIORITY, 0) if is_priority else sum(self.counts.values())
        wait_s = ahead * service_s / (settings.worker_count * settings.inference_slots)
        late_s = wait_s - settings.hold_ttl.total_seconds()
        if late_s > 0:
            raise OverloadedError(math.ceil(late_s))

    async def _look(self, sessions: SessionFactory) -> None:
        async with self.looking:
            if time.monotonic() - self.looked_at_s >= LOOK_S:
                self.counts = await persist(sessions, jobs.count_queued, patience=PATIENCE)
                self.looked_at_s = time.monotonic()
