"""The weather of the kill storm: real processes and servers, ended without warning while they work.

What happens is drawn by lot and tied to how far the work has come, so that a slow machine gets the
same storm as a fast one, only longer.
"""

import asyncio
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread
from typing import Final, Self

import asyncpg
import redis

from gateway.embedded.process import Child, Program
from gateway.embedded.services import Embedded

ROOT: Final = Path(__file__).parents[2]
LOOK_S: Final = 0.05
COUNT_EVERY_S: Final = 0.3
TELL_EVERY_S: Final = 30.0
LULL_SHARE: Final = 0.97
"""By then the last kill has been made: the rest of the work is done in a lull."""
STILL_S: Final = 60.0
"""How long after the last kill the books are looked at."""


class Victim:
    """A process that is killed once it is ready, and started again at once."""

    def __init__(
        self,
        name: str,
        module: Sequence[str],
        *,
        folder: Path,
        environment: Mapping[str, str],
        ready: bytes,
    ) -> None:
        environment = dict(os.environ) | {"PYTHONPATH": str(ROOT)} | dict(environment)
        command = [sys.executable, "-m", *module]
        self._child = Child(Program(name, command, environment), folder)
        self._ready = ready
        self._log_from = 0
        self._is_ready = False
        self.started_at = 0.0

    def start(self) -> None:
        self._child.start()
        self._log_from = self._child.log_path.stat().st_size
        self._is_ready, self.started_at = False, time.monotonic()

    def is_ready(self) -> bool:
        """Tell whether it has said so since it was last started."""
        if not self._is_ready:
            with self._child.log_path.open("rb") as log:
                log.seek(self._log_from)
                self._is_ready = self._ready in log.read()
        return self._is_ready

    def log(self) -> bytes:
        """Read all that it has said, in every life."""
        return self._child.log_path.read_bytes()

    def has_ended(self) -> bool:
        return not self._child.is_running()

    def send(self, how: signal.Signals) -> None:
        assert self._child.pid is not None
        os.kill(self._child.pid, how)

    def kill(self) -> None:
        """End it without a word (SIGKILL); a frozen one too."""
        self._child.stop(signal.SIGKILL)


class Watch:
    """Counts open and ended jobs in the database, from a thread of its own, through every crash."""

    def __init__(self, database_url: str, counting: str) -> None:
        self.open = 0
        self.ended = 0
        self._url = database_url
        self._counting = counting
        self._stopping = Event()
        self._thread = Thread(target=lambda: asyncio.run(self._count()), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    @property
    def is_over(self) -> bool:
        """Tell whether the storm has been ended, and nothing more will come of any call."""
        return self._stopping.is_set()

    async def _count(self) -> None:
        while not self._stopping.is_set():
            try:
                connection = await asyncpg.connect(self._url)
                while not self._stopping.is_set():
                    self.open, self.ended = await connection.fetchrow(self._counting)
                    await asyncio.sleep(COUNT_EVERY_S)
                await connection.close()
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                await asyncio.sleep(COUNT_EVERY_S)


@dataclass(slots=True)
class Storm:
    """So many of each disaster over so many jobs; `happened` tells how many there were."""

    services: Embedded
    watch: Watch
    workers: Sequence[Victim]
    gateways: Sequence[Victim]
    jobs: int
    wanted: Mapping[str, int]
    chance: random.Random
    happened: Counter[str] = field(default_factory=Counter)
    starts_s: list[float] = field(default_factory=list)
    last_at: float = 0.0
    told_at: float = 0.0

    def rage(self, is_calling: Callable[[], bool], *, seconds_max: float) -> None:
        """Go on until nobody calls and every job has ended; then keep still.

        Raises:
            TimeoutError: jobs are left after `seconds_max`.
        """
        give_up_at = time.monotonic() + seconds_max
        for victim in (*self.workers, *self.gateways):
            victim.start()
        starting = set(self.workers)
        while is_calling() or self.watch.ended < self.jobs or self.watch.open or self._due():
            if time.monotonic() > give_up_at:
                raise TimeoutError(f"{self.watch.ended} of {self.jobs} jobs ended: {self.happened}")
            self._tend(starting)
            self._tell()
            for disaster in self._due():
                self._strike(disaster, starting)
            time.sleep(LOOK_S)
        while time.monotonic() < self.last_at + STILL_S:
            self._tend(starting)
            time.sleep(LOOK_S)

    def end(self) -> None:
        for victim in (*self.workers, *self.gateways):
            victim.kill()

    def _due(self) -> list[str]:
        share = min(1.0, self.watch.ended / (LULL_SHARE * self.jobs))
        due = [what for what, count in self.wanted.items() if self.happened[what] < share * count]
        self.chance.shuffle(due)
        return due

    def _strike(self, disaster: str, starting: set[Victim]) -> None:
        time.sleep(self.chance.uniform(0, 2 * LOOK_S))  # anywhere in a job, not just at its end
        if disaster == "postgres":
            self.services.restart_postgres("immediate")
        elif disaster == "flush":
            self._flush()
        else:
            victims = self.gateways if disaster == "gateway" else self.workers
            ready = [victim for victim in victims if victim.is_ready()]
            if not ready:
                return
            victim = self.chance.choice(ready)
            victim.kill()
            victim.start()
            if disaster == "worker":
                starting.add(victim)
        self.happened[disaster] += 1
        self.last_at = time.monotonic()

    def _tell(self) -> None:
        if time.monotonic() > self.told_at + TELL_EVERY_S:
            self.told_at = time.monotonic()
            print(f"  {self.watch.ended} ended, {self.watch.open} open, {dict(self.happened)}")
            sys.stdout.flush()

    def _flush(self) -> None:
        with redis.Redis.from_url(self.services.redis_url) as valkey:
            valkey.flushall()

    def _tend(self, starting: set[Victim]) -> None:
        for victim in (*self.workers, *self.gateways):
            if victim.has_ended():  # by itself, which nothing here should bring about
                self.happened["ended by itself"] += 1
                victim.kill()
                victim.start()
        for victim in [victim for victim in starting if victim.is_ready()]:
            starting.remove(victim)
            self.starts_s.append(time.monotonic() - victim.started_at)


def print_table(rows: Mapping[str, int]) -> None:
    for what, count in rows.items():
        print(f"  {count:>8,}  {what}")
    sys.stdout.flush()
