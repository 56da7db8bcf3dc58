"""Acts on credits: grant, adjust, refund, void, extend."""

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from billing import credits as books
from billing.errors import DuplicateOperationError, InvalidOperationError
from billing.extensions import extend_grant
from billing.portfolio import grant_of
from billing.tables import Hold
from gateway.dashboard.act_forms import Act, Deed, Facts, Field, Values
from gateway.web.refusals import MissingPageError

SOURCES: Final = (("topup", "Top-up, which was paid for"), ("promo", "Promotion, spent first"))
ID_DIGITS: Final = 32
GRANT: Final = Field("grant", "Grant", "fixed")


async def _grant(db: AsyncSession, deed: Deed) -> None:
    await books.grant_credits(
        db,
        deed.account_id,
        amount=deed.values["credits"],
        source=deed.values["source"],
        ref=str(deed.act_id),
        expires_at=deed.values["until"],
        actor=deed.actor,
        reason=deed.reason,
    )


async def _adjust(db: AsyncSession, deed: Deed) -> None:
    await books.adjust(
        db,
        deed.account_id,
        amount=deed.values["credits"],
        ref=str(deed.act_id),
        actor=deed.actor,
        reason=deed.reason,
    )


async def _refund(db: AsyncSession, deed: Deed) -> None:
    hold = await _own_hold(db, deed.account_id, deed.values["job"])
    if hold.state != "captured" or not hold.amount:
        raise InvalidOperationError("the job was not charged: there is nothing to refund")
    try:
        await books.refund(db, hold.job_id, actor=deed.actor, reason=deed.reason)
    except DuplicateOperationError:
        raise InvalidOperationError("the job was refunded already") from None


async def _own_hold(db: AsyncSession, account_id: UUID, digits: str) -> Hold:
    """Find what was held for the account's only job whose id begins with these digits."""
    first, last = UUID(digits.ljust(ID_DIGITS, "0")), UUID(digits.ljust(ID_DIGITS, "f"))
    found = await db.scalars(
        select(Hold)
        .where(Hold.job_id.between(first, last), Hold.account_id == account_id)
        .limit(2)
        .execution_options(populate_existing=True)
    )
    holds = list(found)
    if not holds:
        raise InvalidOperationError("this account has no such job")
    if len(holds) > 1:
        raise InvalidOperationError("two jobs of this account begin so: give more of the id")
    return holds[0]


async def _void(db: AsyncSession, deed: Deed) -> None:
    await _own_grant(db, deed.account_id, deed.values)
    await books.void_grant(db, deed.values["grant"], actor=deed.actor, reason=deed.reason)


async def _extend(db: AsyncSession, deed: Deed) -> None:
    await _own_grant(db, deed.account_id, deed.values)
    await extend_grant(
        db,
        deed.values["grant"],
        expires_at=deed.values["until"],
        actor=deed.actor,
        reason=deed.reason,
    )


async def _own_grant(db: AsyncSession, account_id: UUID, values: Values) -> Any:
    grant = await grant_of(db, account_id, values["grant"])
    if grant is None:
        raise MissingPageError
    return grant


async def _describe_grant(db: AsyncSession, account_id: UUID, values: Values) -> Facts:
    grant = await _own_grant(db, account_id, values)
    return (
        ("Grant", grant.id),
        ("Given as", f"{grant.source}{f': {grant.reason}' if grant.reason else ''}"),
        ("Left", f"{grant.remaining:,} of {grant.amount:,} credits"),
        ("Held of it", f"{grant.held:,}"),
        ("Ends", grant.expires_at or "never"),
    )


CREDIT_ACTS: Final[Sequence[Act]] = (
    Act(
        "grant",
        "Grant credits",
        "finance",
        _grant,
        "The credits were granted.",
        (
            Field("credits", "Credits", "number", smallest=1),
            Field("source", "Given as", "choice", choices=SOURCES),
            Field(
                *("until", "Valid until the end of", "date"),
                hint="A day, UTC. Left empty, they never end.",
                is_required=False,
            ),
        ),
        is_reason_told=True,
    ),
    Act(
        "adjust",
        "Adjust the balance",
        "finance",
        _adjust,
        "The balance was adjusted.",
        (
            Field(
                *("credits", "Credits", "number"),
                hint="Below zero, they are taken: −100. Never below the credit limit.",
            ),
        ),
        explains="For corrections. Credits that somebody bought or was promised are a grant.",
        is_reason_told=True,
    ),
    Act(
        "refund",
        "Refund a job",
        "finance",
        _refund,
        "The job was refunded.",
        (
            Field(
                *("job", "Job", "id"),
                hint="Its id, or the first 8 characters of it. Each job is refunded once, whole.",
            ),
        ),
        explains="The charge comes back as a new grant, which lives for at least 30 days.",
        is_reason_told=True,
    ),
    Act(
        "void",
        "Void a grant",
        "finance",
        _void,
        "The grant is void.",
        (GRANT,),
        explains="What is left of it is taken back, as if it had never been given. What open jobs"
        " hold of it stays held.",
        is_danger=True,
        is_reason_told=True,
        describe=_describe_grant,
    ),
    Act(
        "extend",
        "Extend a grant",
        "finance",
        _extend,
        "The credits live longer now.",
        (
            GRANT,
            Field(
                *("until", "Valid until the end of", "date"),
                hint="A day, UTC, later than now. Left empty, they never end.",
                is_required=False,
            ),
        ),
        explains="What is left of it moves to a new grant. A plan's credits become an adjustment:"
        " the period's end no longer touches them.",
        is_reason_told=True,
        describe=_describe_grant,
    ),
)
