"""Accounts: opened with a subscription and its first grant, suspended, resumed, closed."""

from datetime import datetime
from typing import Final
from uuid import UUID, uuid4

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from billing import audit
from billing.errors import AccountNotFoundError, InvalidOperationError
from billing.grants import refresh_due
from billing.periods import advance, begin_period, live_subscription
from billing.plans import current_version, ensure_plans
from billing.posting import lock_account, move, open_grants, post
from billing.tables import Account, CreditAccount, Subscription

NAME_LENGTH_MAX: Final = 80


async def create_account(
    db: AsyncSession,
    *,
    name: str,
    plan: str,
    credit_limit: int = 0,
    account_id: UUID | None = None,
    actor: str,
    reason: str = "",
    at: datetime | None = None,
) -> Account:
    """Open an account on a plan; its first period begins now.

    Raises:
        InvalidOperationError: there is no such plan, the limit is below zero, or the name blank
            or too long.
    """
    if not name.strip():
        raise InvalidOperationError("an account needs a name")
    if len(name) > NAME_LENGTH_MAX:
        raise InvalidOperationError(f"a name has at most {NAME_LENGTH_MAX} characters")
    if credit_limit < 0:
        raise InvalidOperationError("a credit limit cannot be below zero")
    await ensure_plans(db)
    version = await current_version(db, plan)
    now = at or (await db.execute(select(func.clock_timestamp()))).scalar_one()
    account = Account(id=account_id or uuid4(), name=name, status="active")
    db.add(account)
    await db.flush()
    db.add(CreditAccount(account_id=account.id, credit_limit=credit_limit, advanced_at=now))
    subscription = Subscription(
        account_id=account.id,
        plan_version_id=version.id,
        anchor_at=now,
        period_start=now,
        period_end=now,
    )
    await begin_period(db, subscription, at=now)
    db.add(subscription)
    await refresh_due(db, account.id)
    await audit.record(
        db,
        actor=actor,
        action="account.create",
        object_name=f"account {account.id}",
        account_id=account.id,
        reason=reason,
        after={"name": name, "plan": plan, "credit_limit": credit_limit},
    )
    return account


async def find_account(db: AsyncSession, account_id: UUID) -> Account:
    account = await db.get(Account, account_id, populate_existing=True)
    if account is None:
        raise AccountNotFoundError(account_id)
    return account


async def list_accounts(db: AsyncSession) -> list[Account]:
    """List all accounts, oldest first."""
    return list(await db.scalars(select(Account).order_by(Account.created_at, Account.id)))


async def suspend_account(db: AsyncSession, account_id: UUID, *, actor: str, reason: str) -> None:
    """Accept nothing new; what is running may finish, and time goes on."""
    await _set_status(db, account_id, "suspended", {"active"}, actor=actor, reason=reason)


async def resume_account(db: AsyncSession, account_id: UUID, *, actor: str, reason: str) -> None:
    await _set_status(db, account_id, "active", {"suspended"}, actor=actor, reason=reason)


async def close_account(
    db: AsyncSession,
    account_id: UUID,
    *,
    actor: str,
    reason: str,
    at: datetime | None = None,
) -> None:
    """End the subscription and void what is left; what is running may finish. For ever."""
    moment = await advance(db, account_id, at=at)
    await _set_status(db, account_id, "closed", {"active", "suspended"}, actor=actor, reason=reason)
    subscription = await live_subscription(db, account_id)
    if subscription is not None:
        subscription.ended_at = moment
    for grant in await open_grants(db, account_id):
        if grant.remaining:
            await post(
                db,
                account_id,
                op="void",
                ref=str(grant.id),
                actor=actor,
                reason=reason,
                at=moment,
                entries=move("available", "issued", grant.id, grant.remaining),
            )
        grant.closed_at, grant.closed_reason = moment, "voided"
    await refresh_due(db, account_id)


async def set_credit_limit(
    db: AsyncSession,
    account_id: UUID,
    credit_limit: int,
    *,
    actor: str,
    reason: str,
    at: datetime | None = None,
) -> None:
    """Let an account draw up to `credit_limit` credits beyond what it was granted.

    Raises:
        InvalidOperationError: it has drawn more than that already.
    """
    await advance(db, account_id, at=at)
    books = await lock_account(db, account_id)
    if credit_limit < 0 or books.available < -credit_limit:
        raise InvalidOperationError("the account has drawn more than the new limit")
    before = books.credit_limit
    books.credit_limit = credit_limit
    await db.flush()
    await audit.record(
        db,
        actor=actor,
        action="account.set_credit_limit",
        object_name=f"account {account_id}",
        account_id=account_id,
        reason=reason,
        before={"credit_limit": before},
        after={"credit_limit": credit_limit},
    )


async def _set_status(
    db: AsyncSession, account_id: UUID, status: str, froms: set[str], *, actor: str, reason: str
) -> None:
    await lock_account(db, account_id)  # no hold is being placed while the answer changes
    account = await find_account(db, account_id)
    before = account.status
    if before not in froms:
        raise InvalidOperationError(f"a {before} account cannot become {status}")
    await db.execute(update(Account).where(Account.id == account_id).values(status=status))
    await audit.record(
        db,
        actor=actor,
        action=f"account.{status}",
        object_name=f"account {account_id}",
        account_id=account_id,
        reason=reason,
        before={"status": before},
        after={"status": status},
    )
