"""Acts on credits: grant, adjust, refund, void, extend."""

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from billing import credits as books
from billing.errors import InvalidOperationError
from billing.extensions import extend_grant
from billing.portfolio import grant_of
from billing.tables import Hold
from gateway.dashboard.act_forms import Act, Deed, Facts, Field, Values
from gateway.web.refusals import MissingPageError

SOURCES: Final = (("topup", "Top-up, which was paid for"), ("promo", "Promotion, spent first"))
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
    job_id = deed.values["job"]
    hold = await db.get(Hold, job_id, populate_existing=True)
    if hold is None or hold.account_id != deed.account_id:
        raise InvalidOperationError("this account has no such job")
    if hold.state != "captured" or not hold.amount:
        raise InvalidOperationError("the job was not charged: there is nothing to refund")
    await books.refund(db, job_id, actor=deed.actor, reason=deed.reason)


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
    ),
    Act(
        "refund",
        "Refund a job",
        "finance",
        _refund,
        "The job was refunded.",
        (Field("job", "Job", "id", hint="Its id. Each job is refunded once, whole."),),
        explains="The charge comes back as a new grant, which lives for at least 30 days.",
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
        describe=_describe_grant,
    ),
)
