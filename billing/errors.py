"""What billing can raise. Facts, no HTTP.

BillingError
├── AccountNotFoundError
├── AccountSuspendedError        suspended or closed
├── InsufficientCreditsError     fewer available than the hold needs
│   └── KeyBudgetError           enough on the account, not in the key's own budget
├── TooManyAtOnceError           as many open holds as the limit allows
├── HoldNotOpenError             the hold was already captured, released, or never placed
├── UnknownKeyError              malformed, or no such key
├── KeyRevokedError              revoked, or past its expiry
├── KeyAddressError              the key is not to be used from this address
├── KeyScopeError                the key lacks a scope
├── DuplicateOperationError      the same operation was posted before under this reference
└── InvalidOperationError        the operation would break a rule of the ledger
"""

from datetime import datetime
from uuid import UUID


class BillingError(Exception):
    """Anything the ledger or the keys refuse."""


class AccountNotFoundError(BillingError):
    """There is no account of this id."""

    def __init__(self, account_id: UUID) -> None:
        super().__init__(f"no account {account_id}")
        self.account_id = account_id


class AccountSuspendedError(BillingError):
    """The account is suspended or closed: nothing new is accepted."""

    def __init__(self, status: str) -> None:
        super().__init__(f"account is {status}")
        self.status = status


class InsufficientCreditsError(BillingError):
    """The account has fewer available credits than the hold needs."""

    def __init__(self, *, needed: int, available: int, renews_at: datetime | None = None) -> None:
        super().__init__(f"needs {needed} credits, {available} available")
        self.needed = needed
        self.available = available
        self.renews_at = renews_at


class KeyBudgetError(InsufficientCreditsError):
    """The API key has spent the budget of its own that it has for this period."""


class TooManyAtOnceError(BillingError):
    """The account or key has as many open jobs as it may."""

    def __init__(self, concurrency_max: int) -> None:
        super().__init__(f"{concurrency_max} open jobs, no more allowed")
        self.concurrency_max = concurrency_max


class HoldNotOpenError(BillingError):
    """The hold of this job is not open: settled before, or never placed."""

    def __init__(self, job_id: UUID, state: str | None) -> None:
        super().__init__(f"hold of job {job_id} is {state or 'missing'}")
        self.job_id = job_id
        self.state = state


class UnknownKeyError(BillingError):
    """The API key is malformed or nobody's."""


class KeyRevokedError(BillingError):
    """The API key was revoked, or its time is over."""


class KeyAddressError(BillingError):
    """The API key is restricted to other addresses."""


class KeyScopeError(BillingError):
    """The API key lacks the scope that this call needs."""

    def __init__(self, scope: str) -> None:
        super().__init__(f"scope missing: {scope}")
        self.scope = scope


class DuplicateOperationError(BillingError):
    """The same operation was posted before under this reference."""

    def __init__(self, op: str, ref: str) -> None:
        super().__init__(f"{op} {ref} was already posted")
        self.op = op
        self.ref = ref


class InvalidOperationError(BillingError):
    """The operation would break a rule of the ledger."""
