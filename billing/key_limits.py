"""A key's own limits: set and taken away again. None stands for what the account's plan says."""

from dataclasses import asdict, dataclass
from typing import Final
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from billing import audit
from billing.errors import InvalidOperationError
from billing.tables import ApiKey

QUEUE_CLASSES = frozenset({"standard", "priority"})
COUNT_MAX: Final = 1_000_000
"""Of calls a minute, of a burst and of jobs at once: more than any installation can do."""


@dataclass(frozen=True, slots=True)
class KeyLimits:
    """How much a key may: calls a minute and at once, its queue, its budget of a period."""

    rate_per_minute: int | None
    burst: int | None
    concurrency_max: int | None
    queue_class: str | None
    budget_credits: int | None

    @classmethod
    def of(cls, key: ApiKey) -> "KeyLimits":
        return cls(**{name: getattr(key, name) for name in cls.__slots__})


async def set_key_limits(
    db: AsyncSession, api_key_id: UUID, limits: KeyLimits, *, actor: str, reason: str
) -> None:
    """Replace all limits of a key. Gateways that know it take them up within seconds.

    Raises:
        InvalidOperationError: there is no such key, it is revoked, or a limit makes no sense.
    """
    counts = (limits.rate_per_minute, limits.burst, limits.concurrency_max)
    if any(count is not None and not 1 <= count <= COUNT_MAX for count in counts):
        raise InvalidOperationError(
            f"a rate, a burst and a number at once are at least 1 and at most {COUNT_MAX:,}"
        )
    if limits.budget_credits is not None and limits.budget_credits < 0:
        raise InvalidOperationError("a budget cannot be below zero")
    if limits.queue_class not in {None, *QUEUE_CLASSES}:
        raise InvalidOperationError(f"there is no queue {limits.queue_class!r}")
    key = await db.scalar(
        select(ApiKey)
        .where(ApiKey.id == api_key_id)
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    if key is None or key.revoked_at is not None:
        raise InvalidOperationError("there is no such key, or it is revoked")
    before = KeyLimits.of(key)
    if limits == before:
        raise InvalidOperationError("the key has these limits already")
    for name, limit in asdict(limits).items():
        setattr(key, name, limit)
    await db.flush()
    await audit.record(
        db,
        actor=actor,
        action="key.set_limits",
        object_name=f"key {key.key_id}",
        account_id=key.account_id,
        reason=reason,
        before=asdict(before),
        after=asdict(limits),
    )
