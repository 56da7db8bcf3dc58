"""The way in: size, key, rate, and, before anything of a body is read, means."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from billing import ledger
from billing.db import SessionFactory, transact
from billing.errors import AccountSuspendedError, BillingError
from billing.ledger import Balance
from billing.posting import read_balance
from billing.pricing import price_of
from gateway.auth import Authenticator, Caller
from gateway.dialects.facts import facts_of
from gateway.dialects.forms import AnyRequest
from gateway.dialects.means import Means
from gateway.errors import (
    InvalidRequestError,
    JobNotFoundError,
    LimitState,
    MissingKeyError,
    SourceTooLargeError,
)
from gateway.limits import Limits
from gateway.tables import IdempotencyRecord
from gateway.transactions import persist

log = structlog.get_logger()

AS_BEARER: Final = '"Authorization: Bearer KEY"'
AS_X_API_KEY: Final = '"x-api-key: KEY"'
ACTIVE: Final = "active"
IDEMPOTENCY_KEY_MAX: Final = 255
PATIENCE: Final = timedelta(seconds=2)
"""How long a call waits for a Postgres that is away before it is refused."""


@dataclass(frozen=True, slots=True)
class Door:
    """Who may come in. One for all dialects: they differ in where the key stands."""

    authenticator: Authenticator
    limits: Limits
    sessions: SessionFactory
    body_bytes_max: int
    upload_bytes_max: int

    async def enter(
        self, request: AnyRequest, plaintext: str | None, *, scope: str, send_as: str
    ) -> Caller:
        """Let the owner of `plaintext` in, one call of its rate the poorer.

        Args:
            request: whose address, size and request id count.
            plaintext: the API key, wherever the dialect keeps it.
            scope: what the key must be good for.
            send_as: how the dialect wants the key, for whoever sent none there.

        Raises:
            SourceTooLargeError: the body says by its length that it will be refused.
            RateLimitedError: the key's rate is used up, or the address keeps guessing at keys.
            MissingKeyError, UnknownKeyError, KeyRevokedError, KeyAddressError, KeyScopeError: no.
        """
        if (request.content_length or 0) > self.body_bytes_max:
            raise SourceTooLargeError(self.upload_bytes_max)
        facts = facts_of(request)
        address = address_of(request)
        if not plaintext:
            await self.take_address(request)
            raise MissingKeyError(send_as)
        try:
            caller = await self.authenticator.caller_for(
                plaintext, address, request_id=facts.request_id
            )
        except BillingError:
            await self.take_address(request)
            raise
        facts.is_authenticated = True
        structlog.contextvars.bind_contextvars(account_id=str(caller.key.account_id))
        facts.limit = await self._take(caller)
        caller.key.require(scope)
        return caller

    async def take_address(self, request: AnyRequest) -> None:
        """Count one call that brought nothing to be known by.

        Raises:
            RateLimitedError: this address sent too many of them.
        """
        await self.limits.take_address(address_of(request))

    async def _take(self, caller: Caller) -> LimitState:
        return await self.limits.take(
            str(caller.key.api_key_id),
            rate_per_minute=caller.key.rate_per_minute,
            burst=caller.key.burst,
        )

    async def _look(self, caller: Caller) -> LimitState:
        return await self.limits.look(
            str(caller.key.api_key_id),
            rate_per_minute=caller.key.rate_per_minute,
            burst=caller.key.burst,
        )

    async def owner_of(self, request: AnyRequest, plaintext: str | None) -> UUID | None:
        """Tell whose key was sent along, where one was; one that lets nobody in finds nothing.

        It costs nothing of the key's rate, whose state the answer tells.

        Raises:
            JobNotFoundError: the key is not good.
        """
        if not plaintext:
            return None
        try:
            caller = await self.authenticator.caller_for(plaintext, address_of(request))
        except BillingError:
            raise JobNotFoundError from None
        facts = facts_of(request)
        if facts.limit is None:
            facts.limit = await self._look(caller)
        return caller.key.account_id

    async def check_means(
        self, request: AnyRequest, caller: Caller, idempotency_key: str | None
    ) -> None:
        """Refuse early what the hold would refuse later, before a body is read or a URL fetched.

        A retry under a known Idempotency-Key passes: its answer may have been paid for already.

        Raises:
            AccountSuspendedError: the account may ask for nothing new.
            InsufficientCreditsError: the key cannot pay for one cutout now.
        """
        if caller.key.account_status != ACTIVE:
            raise AccountSuspendedError(caller.key.account_status)
        price, account_id = price_of(caller.key.env), caller.key.account_id
        if price == 0:
            return

        async def work(db: AsyncSession) -> tuple[Means, bool]:
            means = await Means.read(db, caller.key, await read_balance(db, account_id))
            if means.refusal_of(price) is None:
                return means, True
            record = (account_id, caller.key.env, idempotency_key)
            if idempotency_key and await db.get(IdempotencyRecord, record) is not None:
                return means, True
            # Credits may have become due since the account was last looked at.
            balance = await ledger.balance_of(db, account_id)
            return await Means.read(db, caller.key, balance), False

        means, may_pass = await persist(self.sessions, work, patience=PATIENCE)
        facts_of(request).remaining_credits = means.remaining
        if not may_pass and (refusal := means.refusal_of(price)):
            raise refusal

    async def remaining(self, caller: Caller, balance: Balance) -> int | None:
        """Tell what the key can spend, the account having `balance`; None where nobody can say.

        Asked for an answer that has been paid for, which nothing here may spoil or hold up.
        """
        if not caller.key.has_budget:
            return balance.available

        async def work(db: AsyncSession) -> Means:
            return await Means.read(db, caller.key, balance)

        try:
            return (await transact(self.sessions, work)).remaining
        except Exception:
            log.warning("budget.unread", exc_info=True)
            return None


def address_of(request: AnyRequest) -> str:
    """The peer's address; behind a proxy the server has put the forwarded one in its place."""
    return request.client.host if request.client else "unknown"


def bearer_of(request: AnyRequest) -> str | None:
    """Read the key of `Authorization: Bearer KEY`."""
    kind, _, key = request.headers.get("authorization", "").partition(" ")
    return key.strip() if kind.lower() == "bearer" else None


def idempotency_key_of(request: AnyRequest) -> str | None:
    """Read the `Idempotency-Key`, if one was sent.

    Raises:
        InvalidRequestError: it is too long, or not plain text.
    """
    key = request.headers.get("idempotency-key", "").strip()
    if len(key) > IDEMPOTENCY_KEY_MAX:
        raise InvalidRequestError(
            f"Idempotency-Key is longer than {IDEMPOTENCY_KEY_MAX} characters"
        )
    if not key.isprintable() or not key.isascii():
        raise InvalidRequestError("Idempotency-Key must be printable ASCII")
    return key or None
