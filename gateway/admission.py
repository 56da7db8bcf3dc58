"""How much is taken on at once: places that are refused at once, then slots that are waited for.

A place is held from the header's inspection to the answer and is counted in requests, bytes and
pixels. A slot is the right to be in the model: priority first, standard at least every tenth turn,
and within a class the accounts take turns.
"""

import asyncio
import math
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, Literal
from uuid import UUID

from gateway.errors import OverloadedError
from gateway.settings import Settings

QueueClass = Literal["priority", "standard"]
PRIORITY_TURNS_MAX: Final = 9
"""Turns that priority may take in a row while standard waits."""
FIRST_SERVICE_S: Final = 1.0
"""Taken for a cutout's time until one was measured."""
EWMA_WEIGHT: Final = 0.2


class Admission:
    """The gateway's own queue. One event loop; nothing here blocks."""

    def __init__(self, settings: Settings) -> None:
        self._slots = settings.inference_slots
        self._requests_max = settings.queue_length_max + settings.inference_slots
        self._bytes_max = settings.queue_bytes_max
        self._pixels_max = settings.queue_pixels_max
        self._deadline_s = settings.inference_deadline.total_seconds()
        self._placed: dict[str, int] = {"priority": 0, "standard": 0}
        self._placed_bytes = 0
        self._placed_pixels = 0
        self._running: dict[str, int] = {"priority": 0, "standard": 0}
        self._lanes: dict[str, _Lane] = {"priority": _Lane(), "standard": _Lane()}
        self._priority_turns = 0
        self.service_s = FIRST_SERVICE_S

    @property
    def placed_count(self) -> int:
        return sum(self._placed.values())

    @property
    def running_count(self) -> int:
        return sum(self._running.values())

    @property
    def waiting_count(self) -> int:
        return sum(len(lane) for lane in self._lanes.values())

    def predicted_wait_s(self, queue_class: QueueClass) -> float:
        """Tell how long a request that came now would wait for a slot."""
        ahead = self._placed[queue_class]
        if queue_class == "standard":
            ahead += self._placed["priority"]
        else:
            ahead += self._running["standard"]
        return max(0, ahead - self._slots + 1) * self.service_s / self._slots

    @asynccontextmanager
    async def place(
        self, source_bytes: int, pixels: int, queue_class: QueueClass
    ) -> AsyncIterator[None]:
        """Hold a place in the queue; what one account may have at once is the ledger's to say.

        Raises:
            OverloadedError: there is none, or its turn would come after the deadline.
        """
        self._refuse_if_full(source_bytes, pixels, queue_class)
        self._placed[queue_class] += 1
        self._placed_bytes += source_bytes
        self._placed_pixels += pixels
        try:
            yield
        finally:
            self._placed[queue_class] -= 1
            self._placed_bytes -= source_bytes
            self._placed_pixels -= pixels

    def _refuse_if_full(self, source_bytes: int, pixels: int, queue_class: QueueClass) -> None:
        wait_s = self.predicted_wait_s(queue_class)
        if wait_s > self._deadline_s:
            raise OverloadedError(math.ceil(wait_s - self._deadline_s))
        is_full = (
            self.placed_count + 1 > _room(self._requests_max, queue_class)
            or self._placed_bytes + source_bytes > _room(self._bytes_max, queue_class)
            or self._placed_pixels + pixels > _room(self._pixels_max, queue_class)
        )
        if is_full and self.placed_count:  # what is too much for an empty queue never fits
            raise OverloadedError(max(1, math.ceil(self.service_s / self._slots)))

    @asynccontextmanager
    async def slot(self, queue_class: QueueClass, account_id: UUID) -> AsyncIterator[None]:
        """Wait for the right to be in the model, and hold it."""
        await self._enter(queue_class, account_id)
        started_at = time.monotonic()
        try:
            yield
        finally:
            took_s = time.monotonic() - started_at
            self.service_s += EWMA_WEIGHT * (took_s - self.service_s)
            self._leave(queue_class)

    async def _enter(self, queue_class: QueueClass, account_id: UUID) -> None:
        if self.running_count < self._slots:  # then nobody waits
            self._running[queue_class] += 1
            return
        turn = asyncio.get_running_loop().create_future()
        lane = self._lanes[queue_class]
        lane.push(account_id, turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._leave(queue_class)  # the turn came in the same moment: pass it on
            else:
                lane.remove(account_id, turn)
            raise

    def _leave(self, queue_class: QueueClass) -> None:
        """Give a slot back, and to whoever is next and still there."""
        self._running[queue_class] -= 1
        while (next_class := self._next_class()) is not None:
            turn = self._lanes[next_class].pop()
            if turn.done():  # cancelled, and its owner has not yet woken to leave the lane
                continue
            is_overtaking = next_class == "priority" and bool(self._lanes["standard"])
            self._priority_turns = self._priority_turns + 1 if is_overtaking else 0
            self._running[next_class] += 1
            turn.set_result(None)
            return

    def _next_class(self) -> QueueClass | None:
        if self._lanes["priority"] and (
            not self._lanes["standard"] or self._priority_turns < PRIORITY_TURNS_MAX
        ):
            return "priority"
        return "standard" if self._lanes["standard"] else None


def _room(limit: int, queue_class: QueueClass) -> int:
    """Standard leaves a tenth of the queue to priority: a crowd must not shut it out."""
    return limit if queue_class == "priority" else limit - limit // 10


class _Lane:
    """Those who wait in one class: each account in its own order, the accounts in turn."""

    def __init__(self) -> None:
        self._accounts: OrderedDict[UUID, deque[asyncio.Future[None]]] = OrderedDict()

    def __len__(self) -> int:
        return sum(len(turns) for turns in self._accounts.values())

    def __bool__(self) -> bool:
        return bool(self._accounts)

    def push(self, account_id: UUID, turn: asyncio.Future[None]) -> None:
        self._accounts.setdefault(account_id, deque()).append(turn)

    def pop(self) -> asyncio.Future[None]:
        account_id, turns = next(iter(self._accounts.items()))
        turn = turns.popleft()
        self._accounts.move_to_end(account_id)
        if not turns:
            del self._accounts[account_id]
        return turn

    def remove(self, account_id: UUID, turn: asyncio.Future[None]) -> None:
        turns = self._accounts.get(account_id, deque())
        if turn in turns:
            turns.remove(turn)
        if not turns:
            self._accounts.pop(account_id, None)
