"""What the books need beside the calls: accounts whose time has come, and a look at every rule.

Runs in each worker. Accounts are advanced by whoever finds them first, a second time is no harm;
the rules are asked by one worker at a time, a minute after the last answer, whoever gave it.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

import structlog

from billing import invariant_history, invariants, periods
from billing.db import SessionFactory, transact
from billing.invariants import TITLES, Finding
from gateway.transactions import is_away

BATCH_MAX: Final = 100
CHECK_EVERY: Final = timedelta(minutes=1)
WHOLE_AGAIN_S: Final = 3600.0
"""After a whole check that failed, by taking too long for one."""
STUCK_PAUSE_S: Final = 60.0
"""After an account could not be advanced, or the rules not be asked."""

log = structlog.get_logger()


class Bookkeeper:
    """Keeps the books of every account."""

    def __init__(self, sessions: SessionFactory) -> None:
        self._sessions = sessions
        self._stuck_until: dict[UUID, float] = {}
        self._whole_again_at = math.inf

    async def advance_due(self) -> int:
        """Play what time alone has made due, one short transaction for each account."""
        now = time.monotonic()
        self._stuck_until = {id_: end for id_, end in self._stuck_until.items() if end > now}
        async with self._sessions.begin() as db:
            # Those that are stuck are the most overdue: they must not fill the batch.
            due = await periods.due_accounts(db, limit=BATCH_MAX + len(self._stuck_until))
        waiting = [account_id for account_id in due if account_id not in self._stuck_until]
        return sum([await self._advance(account_id) for account_id in waiting])

    async def _advance(self, account_id: UUID) -> bool:
        try:
            await transact(self._sessions, lambda db: periods.advance(db, account_id))
        except Exception as exc:
            if is_away(exc):
                raise
            self._stuck_until[account_id] = time.monotonic() + STUCK_PAUSE_S
            log.exception("account.not_advanced", account_id=str(account_id))
            return False
        return True

    async def check(self, *, every: timedelta = CHECK_EVERY) -> bool:
        """Ask every rule, unless that was done within `every` or is being done.

        What was written since the last time is asked of; the first time in a day (UTC), everything
        is, afterwards and in a transaction of its own. Where that fails it is tried each hour.

        Returns:
            Whether the rules were asked.
        """
        async with self._sessions.begin() as db:
            last = await invariant_history.last_run(db)
        if last is not None and last.age < every:
            return False
        if last is not None and not await self._ask(every, is_full=False):
            return False
        if last is None or last.is_of_an_earlier_day or time.monotonic() > self._whole_again_at:
            self._whole_again_at = time.monotonic() + WHOLE_AGAIN_S
            await self._ask(timedelta(0), is_full=True)
            self._whole_again_at = math.inf  # done, or another worker is at it
        return True

    async def check_everything(self) -> bool:
        """Ask every rule of all the books; False where somebody asks at this moment."""
        return await self._ask(timedelta(0), is_full=True)

    async def _ask(self, every: timedelta, *, is_full: bool) -> bool:
        async with self._sessions.begin() as db:
            if not await invariant_history.may_check(db):
                return False
            last = await invariant_history.last_run(db)  # again: now nobody else asks
            if last is not None and last.age < every:
                return False
            window = None if is_full or last is None else last.window
            findings = await invariants.run_and_record(db, window=window)
            if is_full:
                await invariant_history.forget(db)
        _tell(findings)
        if is_full:
            log.info("invariants.checked_all", ms=sum(finding.elapsed_ms for finding in findings))
        return True

    async def advance_forever(self, pause_s: float) -> None:
        """Advance what is due every `pause_s`, whatever happens; end by being cancelled."""
        await _forever(self.advance_due, pause_s, "accounts.advance_failed")

    async def check_forever(self, pause_s: float) -> None:
        """Look every `pause_s` whether the rules are to be asked; end by being cancelled."""
        await _forever(self.check, pause_s, "invariants.failed")


def _tell(findings: list[Finding]) -> None:
    for finding in findings:
        if not finding.is_ok:
            log.error(
                "invariant.breached",
                rule=finding.name,
                title=TITLES[finding.name],
                count=finding.count,
                sample=list(finding.sample),
            )


async def _forever(work: Callable[[], Awaitable[Any]], pause_s: float, failed: str) -> None:
    next_pause_s = pause_s
    while True:
        await asyncio.sleep(next_pause_s)
        try:
            await work()
        except Exception as exc:
            # A bug fails again at once; Postgres may be back at once.
            next_pause_s = pause_s if is_away(exc) else max(pause_s, STUCK_PAUSE_S)
            log.warning(failed, exc_info=None if is_away(exc) else exc)
        else:
            next_pause_s = pause_s
