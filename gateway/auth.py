"""API key -> Caller, remembered for at most 5 s: revocation is in force everywhere by then."""

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from sqlalchemy.ext.asyncio import AsyncSession

from billing.db import SessionFactory
from billing.keys import KeyFacts, KeyHasher, authenticate, key_id_from
from gateway.errors import MissingKeyError, OverloadedError
from gateway.transactions import RETRY_AFTER_S, persist

REMEMBERED_S: Final = 5.0
PATIENCE: Final = timedelta(seconds=2)
"""How long a caller waits for a look-up: its turn, and a Postgres that is away."""
REMEMBERED_MAX: Final = 10_000
LOOKUPS_MAX: Final = 8
"""Look-ups at once, so that made-up keys cannot take every connection to the database."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls: the key and its facts, from where, and in which request."""

    key: KeyFacts
    request_id: str
    address: str


class Authenticator:
    """Finds the caller of a key. What it remembers is keyed by a digest, never by the key."""

    def __init__(
        self,
        sessions: SessionFactory,
        hasher: KeyHasher,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sessions = sessions
        self._hasher = hasher
        self._clock = clock
        self._lookups = asyncio.Semaphore(LOOKUPS_MAX)
        self._remembered: OrderedDict[bytes, tuple[float, KeyFacts]] = OrderedDict()

    async def caller_for(
        self, plaintext: str | None, address: str, *, request_id: str = ""
    ) -> Caller:
        """Find who calls with `plaintext` from `address`.

        Raises:
            MissingKeyError: no key was sent.
            UnknownKeyError, KeyRevokedError, KeyAddressError: it does not let this caller in.
            OverloadedError: Postgres is away.
        """
        if not plaintext:
            raise MissingKeyError
        digest = hashlib.sha256(f"{address}|{plaintext}".encode()).digest()
        facts = self._recall(digest)
        if facts is None:
            key_id_from(plaintext)  # a typo does not wait for a look-up
            facts = await self._wait_for_look_up(digest, plaintext, address)
        return Caller(facts, request_id, address)

    async def _wait_for_look_up(self, digest: bytes, plaintext: str, address: str) -> KeyFacts:
        try:
            async with asyncio.timeout(PATIENCE.total_seconds()), self._lookups:
                return self._recall(digest) or await self._look_up(digest, plaintext, address)
        except TimeoutError as exc:
            raise OverloadedError(RETRY_AFTER_S) from exc

    def _recall(self, digest: bytes) -> KeyFacts | None:
        at, facts = self._remembered.get(digest, (0.0, None))
        if facts is None or self._clock() - at >= REMEMBERED_S:
            return None
        return facts

    async def _look_up(self, digest: bytes, plaintext: str, address: str) -> KeyFacts:
        asked_at = self._clock()  # before the look-up: its answer is no younger than that

        async def work(db: AsyncSession) -> KeyFacts:
            return await authenticate(db, self._hasher, plaintext, address=address)

        facts = await persist(self._sessions, work, patience=PATIENCE)
        self._remembered[digest] = (asked_at, facts)
        self._remembered.move_to_end(digest)
        if len(self._remembered) > REMEMBERED_MAX:
            self._remembered.popitem(last=False)
        return facts
