"""Which grant pays first: priority, then soonest expiry, then oldest. Pure.

Oldest is by the time it began, and by the order of writing where that is the same too.
`place_hold` in migrations/sql says the same as an ORDER BY; a test holds the two together.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final, Protocol
from uuid import UUID

NEVER: Final = datetime.max.replace(tzinfo=UTC)


class Payer(Protocol):
    """A grant, as the burn-down sees it."""

    @property
    def id(self) -> UUID: ...
    @property
    def seq(self) -> int: ...
    @property
    def priority(self) -> int: ...
    @property
    def effective_at(self) -> datetime: ...
    @property
    def expires_at(self) -> datetime | None: ...
    @property
    def remaining(self) -> int: ...


def burn_down_key(grant: Payer) -> tuple[int, datetime, datetime, int]:
    """Sort by this, and the first pays first."""
    return grant.priority, grant.expires_at or NEVER, grant.effective_at, grant.seq


def split(amount: int, grants: Iterable[Payer]) -> list[tuple[UUID | None, int]]:
    """Share `amount` out over `grants` in burn-down order; what they lack is nobody's (None)."""
    parts: list[tuple[UUID | None, int]] = []
    for grant in sorted(grants, key=burn_down_key):
        if amount == 0:
            break
        if part := min(amount, grant.remaining):
            parts.append((grant.id, part))
            amount -= part
    if amount:
        parts.append((None, amount))
    return parts
