"""Transactions that outlive a short absence of Postgres: a restart, a fail-over, a full pool."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from datetime import timedelta
from typing import Any, Final, TypeVar

import asyncpg
import structlog
from sqlalchemy.exc import DBAPIError, InterfaceError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncSession

from billing.db import SessionFactory, sqlstate_of, transact
from gateway.errors import OverloadedError

log = structlog.get_logger()

T = TypeVar("T")

# Shutting down, starting up, crashed; no connection to be had; a lock or a statement timed out.
AWAY_STATES: Final = frozenset({"57P01", "57P02", "57P03", "53300", "55P03", "57014"})
CONNECTION_CLASS: Final = "08"
PAUSE_S: Final = 0.05
PAUSE_S_MAX: Final = 1.0
RETRY_AFTER_S: Final = 5


async def persist(
    sessions: SessionFactory,
    work: Callable[[AsyncSession], Awaitable[T]],
    *,
    patience: timedelta,
) -> T:
    """Run `work` in one transaction; while Postgres is away, again, for at most `patience`.

    A commit may have happened although its answer was lost, so `work` may meet what it did itself:
    it has to recognise its own ids.

    Raises:
        OverloadedError: Postgres is away for longer.
    """
    give_up_at = time.monotonic() + patience.total_seconds()
    pause_s = PAUSE_S
    while True:
        try:
            return await transact(sessions, work)
        except Exception as exc:
            if not is_away(exc):
                raise
            if time.monotonic() + pause_s > give_up_at:
                state = sqlstate_of(exc) if isinstance(exc, DBAPIError) else None
                log.warning("postgres.away", reason=type(exc).__name__, sqlstate=state)
                raise OverloadedError(RETRY_AFTER_S) from exc
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, PAUSE_S_MAX)


def is_away(exc: BaseException) -> bool:
    """Tell whether it is Postgres that failed, and not the statement: it may work later."""
    if isinstance(exc, DBAPIError):
        state = sqlstate_of(exc) or ""
        is_lost = exc.connection_invalidated or isinstance(exc, InterfaceError)
        return is_lost or _is_away_state(state)
    if isinstance(exc, asyncpg.PostgresError):  # raised while connecting
        return _is_away_state(exc.sqlstate or "")
    return isinstance(exc, OSError | PoolTimeoutError | asyncpg.InterfaceError)


def _is_away_state(state: str) -> bool:
    return state in AWAY_STATES or state.startswith(CONNECTION_CLASS)


class Finishing:
    """Work that must not be torn: it goes on to its end although its caller is cancelled."""

    def __init__(self) -> None:
        self._unfinished: set[asyncio.Task[Any]] = set()

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Await `work`; a cancellation is passed on only once it has ended."""
        task = asyncio.create_task(work)
        self._unfinished.add(task)
        task.add_done_callback(self._unfinished.discard)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            await asyncio.wait([task])
            if not task.cancelled():
                task.exception()  # seen; what is raised is the cancellation
            raise

    async def close(self) -> None:
        """Wait for what is left of callers that were cancelled more than once."""
        if self._unfinished:
            await asyncio.wait(self._unfinished)
