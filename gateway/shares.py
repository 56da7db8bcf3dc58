"""So many of a thing at once in one gateway, and of them at most a quarter for one account.

An account past its share waits for its own to end; it takes nothing from the others meanwhile.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final
from uuid import UUID
from weakref import WeakValueDictionary

from gateway.errors import OverloadedError

PART: Final = 4
PATIENCE_S: Final = 10.0
RETRY_AFTER_S: Final = 1


class Shares:
    """Counts what is under way: downloads, or uploads."""

    def __init__(self, count_max: int, *, patience_s: float = PATIENCE_S) -> None:
        self._count_max = count_max
        self._share_max = max(1, count_max // PART)
        self._patience_s = patience_s
        self._count = 0
        self._shares: WeakValueDictionary[UUID | None, asyncio.Semaphore] = WeakValueDictionary()

    @asynccontextmanager
    async def one(self, account_id: UUID | None) -> AsyncIterator[None]:
        """Count one of `account_id`'s until the block ends.

        Raises:
            OverloadedError: all are taken, or the account's own share is, and stays so.
        """
        self._refuse_if_full()  # at once, and not after a wait
        share = self._share_of(account_id)
        try:
            async with asyncio.timeout(self._patience_s):
                await share.acquire()
        except TimeoutError:
            raise OverloadedError(RETRY_AFTER_S) from None
        try:
            self._refuse_if_full()
            self._count += 1
            try:
                yield
            finally:
                self._count -= 1
        finally:
            share.release()

    def _refuse_if_full(self) -> None:
        if self._count >= self._count_max:
            raise OverloadedError(RETRY_AFTER_S)

    def _share_of(self, account_id: UUID | None) -> asyncio.Semaphore:
        """Find the share of an account; it is forgotten with the last who holds or wants of it."""
        share = self._shares.get(account_id)
        if share is None:
            share = self._shares[account_id] = asyncio.Semaphore(self._share_max)
        return share
