"""An account's keys as they are listed: those that live, those that have ended, and how many.

Keys are never deleted, so an account that renews its keys by a script has thousands that have ended
beside the few that live. Each list takes no more than it is asked for.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy import ARRAY, Uuid, any_, func, literal, select
from sqlalchemy.ext.asyncio import AsyncSession

from billing.keys import end_of
from billing.tables import ApiKey

LIVING_MAX: Final = 200
"""Listed of those that live; whoever has more is told how many."""
# As `keys.end_of` has it: the first of its ends; `least` passes over those that are null.
ENDS_AT: Final = func.least(ApiKey.revoked_at, ApiKey.expires_at, ApiKey.grace_until)
HAS_ENDED: Final = func.coalesce(func.clock_timestamp() >= ENDS_AT, False)


@dataclass(frozen=True, slots=True)
class KeyCounts:
    """How many keys an account has."""

    living: int
    ended: int


@dataclass(frozen=True, slots=True)
class KeyLine:
    """A key as it is listed; whether it lives is what the list was cut by, the database's clock."""

    key: ApiKey
    is_living: bool

    @property
    def end(self) -> datetime | None:
        """When it ended, or will."""
        return end_of(self.key)

    @property
    def state(self) -> str:
        """Say how it stands, or what ended it: active, rotated, revoked, expired."""
        if self.is_living:
            return "active" if self.key.grace_until is None else "rotated"
        return "revoked" if self.key.revoked_at == self.end else "expired"


async def count_keys(db: AsyncSession, account_id: UUID) -> KeyCounts:
    ended = func.count().filter(HAS_ENDED)
    counted = select((func.count() - ended).label("living"), ended.label("ended"))
    row = (await db.execute(counted.where(ApiKey.account_id == account_id))).one()
    return KeyCounts(living=row.living, ended=row.ended)


async def living_keys(db: AsyncSession, account_id: UUID) -> list[KeyLine]:
    """List the keys that work, the last used first, and `LIVING_MAX` at most."""
    mine = select(ApiKey).where(ApiKey.account_id == account_id, ~HAS_ENDED)
    last_used = func.coalesce(ApiKey.last_used_at, ApiKey.created_at)
    used_last = mine.order_by(last_used.desc(), ApiKey.id).limit(LIVING_MAX)
    return [KeyLine(key, is_living=True) for key in await db.scalars(used_last)]


async def ended_keys(
    db: AsyncSession, account_id: UUID, *, rows_max: int, rows_passed: int = 0
) -> list[KeyLine]:
    """List keys that work no more, the last ended first, past the first `rows_passed`."""
    mine = select(ApiKey).where(ApiKey.account_id == account_id, HAS_ENDED)
    newest = mine.order_by(ENDS_AT.desc(), ApiKey.id).limit(rows_max).offset(rows_passed)
    return [KeyLine(key, is_living=False) for key in await db.scalars(newest)]


async def keys_among(
    db: AsyncSession, account_id: UUID, ids: Collection[UUID | None]
) -> dict[UUID, ApiKey]:
    """Find those of the account's keys that `ids` name, by id."""
    named = literal([one for one in set(ids) if one is not None], ARRAY(Uuid()))
    mine = select(ApiKey).where(ApiKey.account_id == account_id, ApiKey.id == any_(named))
    return {key.id: key for key in await db.scalars(mine)}
