"""The ledger's tables. Credits are BIGINT, money is minor units, times are timestamptz in UTC.

What can be said as a constraint is said here, so that a bug is an IntegrityError and not a wrong
balance. What needs a trigger or a function is in migrations/sql/0001_ledger.sql.
"""

from datetime import datetime, timedelta
from uuid import UUID, uuid4

from sqlalchemy import (
    CheckConstraint,
    Enum,
    ForeignKey,
    Identity,
    Index,
    Integer,
    Interval,
    LargeBinary,
    SmallInteger,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from billing.db import Base

NOW = text("clock_timestamp()")

# Enumerations of the database's own, not CHECKs: a CHECK is parsed anew by every statement that
# writes the row, and these rows are written twice for every cutout.
GRANT_SOURCE = Enum(
    *("plan", "rollover", "topup", "promo", "adjustment", "refund"), name="grant_source"
)
GRANT_END = Enum("expired", "rolled", "voided", "exhausted", name="grant_end")
HOLD_STATE = Enum("held", "captured", "released", "expired", name="hold_state")
LEDGER_OP = Enum(
    *("grant", "hold", "capture", "release", "expire", "rollover", "adjust", "refund", "void"),
    name="ledger_op",
)
BUCKET = Enum("issued", "available", "held", "consumed", "expired", name="bucket")


class Plan(Base):
    """A name on the price list; what it gives is in its versions."""

    __tablename__ = "plan"

    code: Mapped[str] = mapped_column(primary_key=True)
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)


class PlanVersion(Base):
    """What a plan gives. Never changed: an edit is a new version, and old customers keep theirs."""

    __tablename__ = "plan_version"
    __table_args__ = (
        UniqueConstraint("plan", "version"),
        CheckConstraint("version >= 1", name="version_positive"),
        CheckConstraint("monthly_credits >= 0", name="credits_not_negative"),
        CheckConstraint("price_minor >= 0", name="price_not_negative"),
        CheckConstraint(
            "rollover_cap >= 0 AND rollover_periods >= 0", name="rollover_not_negative"
        ),
        CheckConstraint("rate_per_minute > 0 AND burst > 0", name="rate_positive"),
        CheckConstraint("concurrency_max > 0", name="concurrency_positive"),
        CheckConstraint("queue_class IN ('standard', 'priority')", name="queue_known"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    plan: Mapped[str] = mapped_column(ForeignKey("plan.code"))
    version: Mapped[int] = mapped_column(Integer)
    monthly_credits: Mapped[int]
    price_minor: Mapped[int]
    currency: Mapped[str]
    rollover_cap: Mapped[int]
    rollover_periods: Mapped[int] = mapped_column(Integer)
    rate_per_minute: Mapped[int] = mapped_column(Integer)
    burst: Mapped[int] = mapped_column(Integer)
    concurrency_max: Mapped[int] = mapped_column(Integer)
    queue_class: Mapped[str]
    result_ttl: Mapped[timedelta] = mapped_column(Interval)
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)


class Account(Base):
    """Who pays. Active, then perhaps suspended and active again, in the end closed."""

    __tablename__ = "account"
    __table_args__ = (
        CheckConstraint("status IN ('active', 'suspended', 'closed')", name="status_known"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    name: Mapped[str]
    status: Mapped[str] = mapped_column(server_default="active")
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)


class Subscription(Base):
    """Which plan version an account is on, and the period it is in. One is live per account."""

    __tablename__ = "subscription"
    __table_args__ = (
        CheckConstraint("period_start < period_end", name="period_forward"),
        Index(
            *("uq_subscription_live", "account_id"),
            unique=True,
            postgresql_where=text("ended_at IS NULL"),
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    account_id: Mapped[UUID] = mapped_column(ForeignKey("account.id"))
    plan_version_id: Mapped[UUID] = mapped_column(ForeignKey("plan_version.id"))
    next_plan_version_id: Mapped[UUID | None] = mapped_column(ForeignKey("plan_version.id"))
    anchor_at: Mapped[datetime]
    period_start: Mapped[datetime]
    period_end: Mapped[datetime]
    ended_at: Mapped[datetime | None]


class BillingPeriod(Base):
    """One period of one account: opened by its plan grant, closed once."""

    __tablename__ = "billing_period"
    __table_args__ = (
        CheckConstraint("period_start < period_end", name="period_forward"),
        CheckConstraint("rolled_in >= 0 AND rolled_in <= rollover_cap", name="rolled_within_cap"),
    )

    account_id: Mapped[UUID] = mapped_column(ForeignKey("account.id"), primary_key=True)
    period_start: Mapped[datetime] = mapped_column(primary_key=True)
    period_end: Mapped[datetime]
    plan_version_id: Mapped[UUID] = mapped_column(ForeignKey("plan_version.id"))
    rolled_in: Mapped[int] = mapped_column(server_default="0")
    """Credits carried into this period, a late release included."""
    rollover_cap: Mapped[int] = mapped_column(server_default="0")
    """The most that may be carried into it: the cap of the plan it came from."""
    consumed_before: Mapped[int] = mapped_column(server_default="0")
    """What the account had consumed in all when the period began."""
    closed_at: Mapped[datetime | None]


class UsageAlert(Base):
    """A threshold of a period's credits that was crossed, so that it is told once."""

    __tablename__ = "usage_alert"

    account_id: Mapped[UUID] = mapped_column(ForeignKey("account.id"), primary_key=True)
    period_start: Mapped[datetime] = mapped_column(primary_key=True)
    percent: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    at: Mapped[datetime] = mapped_column(server_default=NOW)


class CreditAccount(Base):
    """An account's balances: the projection of its entries, and the mutex of all who write them."""

    __tablename__ = "credit_account"
    __table_args__ = (
        CheckConstraint("credit_limit >= 0", name="limit_not_negative"),
        CheckConstraint("available >= -credit_limit", name="available_within_limit"),
        CheckConstraint("held >= 0", name="held_not_negative"),
        CheckConstraint("consumed >= 0", name="consumed_not_negative"),
        CheckConstraint("expired >= 0", name="expired_not_negative"),
        CheckConstraint("open_holds >= 0", name="open_holds_not_negative"),
        # The sweeper's only query.
        Index("ix_credit_account_next_due_at", "next_due_at"),
        # Each hold and capture updates this row: room on its page keeps the update off the index.
        {"postgresql_with": {"fillfactor": "50"}},
    )

    account_id: Mapped[UUID] = mapped_column(ForeignKey("account.id"), primary_key=True)
    available: Mapped[int] = mapped_column(server_default="0")
    held: Mapped[int] = mapped_column(server_default="0")
    consumed: Mapped[int] = mapped_column(server_default="0")
    expired: Mapped[int] = mapped_column(server_default="0")
    credit_limit: Mapped[int] = mapped_column(server_default="0")
    open_holds: Mapped[int] = mapped_column(Integer, server_default="0")
    account_seq: Mapped[int] = mapped_column(server_default="0")
    last_hash: Mapped[bytes] = mapped_column(LargeBinary, server_default=text("''::bytea"))
    advanced_at: Mapped[datetime]
    """No operation is dated before this: an account's time never runs backwards."""
    next_due_at: Mapped[datetime | None]
    """When the next grant begins or expires, or the period ends; before that nothing is due."""


class CreditGrant(Base):
    """Credits given. Scheduled, then open, then closed: expired, rolled, voided or exhausted."""

    __tablename__ = "credit_grant"
    __table_args__ = (
        CheckConstraint("amount > 0", name="amount_positive"),
        CheckConstraint(
            "remaining >= 0 AND held >= 0 AND remaining + held <= amount", name="parts_of_amount"
        ),
        CheckConstraint("priority BETWEEN 0 AND 100", name="priority_in_range"),
        CheckConstraint("expires_at > effective_at", name="expires_after_it_begins"),
        CheckConstraint("(closed_at IS NULL) = (closed_reason IS NULL)", name="closed_with_reason"),
        CheckConstraint("closed_at IS NULL OR remaining = 0", name="closed_is_empty"),
        # The burn-down. `remaining` is left out, so that spending does not touch the index.
        Index(
            "ix_credit_grant_burn_down",
            "account_id",
            "priority",
            "expires_at",
            "effective_at",
            "seq",
            postgresql_where=text("closed_at IS NULL"),
        ),
        # What was given on which day, for the overview; none of it changes once it has begun.
        Index(
            *("ix_credit_grant_activated_at", "activated_at"),
            postgresql_include=["source", "amount"],
        ),
        {"postgresql_with": {"fillfactor": "50"}},
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    seq: Mapped[int] = mapped_column(Identity(always=True))
    """The order in which grants were written down: who pays first among equals."""
    account_id: Mapped[UUID] = mapped_column(ForeignKey("account.id"))
    source: Mapped[str] = mapped_column(GRANT_SOURCE)
    ref: Mapped[str]
    parent_id: Mapped[UUID | None] = mapped_column(ForeignKey("credit_grant.id"))
    generation: Mapped[int] = mapped_column(Integer, server_default="0")
    amount: Mapped[int]
    remaining: Mapped[int] = mapped_column(server_default="0")
    held: Mapped[int] = mapped_column(server_default="0")
    priority: Mapped[int] = mapped_column(SmallInteger)
    period_start: Mapped[datetime | None]
    """The period that a plan or rollover grant belongs to."""
    effective_at: Mapped[datetime]
    expires_at: Mapped[datetime | None]
    activated_at: Mapped[datetime | None]
    closed_at: Mapped[datetime | None]
    closed_reason: Mapped[str | None] = mapped_column(GRANT_END)
    actor: Mapped[str]
    reason: Mapped[str] = mapped_column(server_default="")
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)


class LedgerTxn(Base):
    """One operation on one account; its entries sum to zero. Never changed.

    It and its entries are written by three functions alone (docs/adr/0019), which see to it that
    account and grants are there: no foreign keys, which would be looked up again at every hold.
    """

    __tablename__ = "ledger_txn"
    __table_args__ = (
        UniqueConstraint("account_id", "op", "ref"),
        UniqueConstraint("account_id", "account_seq"),
        # For the invariants of the last minutes; costs next to nothing to keep.
        Index("ix_ledger_txn_created_at", "created_at", postgresql_using="brin"),
        # Partial, so that holds and captures, which reverse nothing, do not pay for it.
        Index(
            "uq_ledger_txn_reverses",
            "reverses",
            unique=True,
            postgresql_where=text("reverses IS NOT NULL"),
        ),
    )

    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    account_id: Mapped[UUID]
    account_seq: Mapped[int]
    op: Mapped[str] = mapped_column(LEDGER_OP)
    ref: Mapped[str]
    actor: Mapped[str]
    reason: Mapped[str]
    reverses: Mapped[int | None] = mapped_column(ForeignKey("ledger_txn.id"))
    effective_at: Mapped[datetime]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    prev_hash: Mapped[bytes] = mapped_column(LargeBinary)
    hash: Mapped[bytes] = mapped_column(LargeBinary)


class LedgerEntry(Base):
    """One line of a transaction: an amount into (or, negative, out of) a bucket. Never changed."""

    __tablename__ = "ledger_entry"
    __table_args__ = (
        CheckConstraint("amount <> 0", name="amount_not_zero"),
        # Credits that ended, for the overview; holds and captures write none of them.
        Index(
            *("ix_ledger_entry_ended", "txn_id"),
            postgresql_include=["bucket", "amount"],
            postgresql_where=text("amount > 0 AND bucket IN ('issued', 'expired')"),
        ),
    )

    txn_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    line: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    bucket: Mapped[str] = mapped_column(BUCKET)
    grant_id: Mapped[UUID | None]
    """None for what is drawn on the credit limit."""
    amount: Mapped[int]
    balance_after: Mapped[int]


class Hold(Base):
    """Credits set aside for one job. It leaves `held` once, to `captured` or `released`."""

    __tablename__ = "hold"
    __table_args__ = (
        CheckConstraint("amount >= 0", name="amount_not_negative"),
        CheckConstraint("(state = 'held') = (settled_at IS NULL)", name="settled_with_time"),
        Index(
            "ix_hold_account_id_settled_at",
            *("account_id", "settled_at"),
            postgresql_where=text("settled_at IS NOT NULL"),
        ),
        Index("ix_hold_open", "account_id", postgresql_where=text("state = 'held'")),
        # What was used when and by whom, for the overview.
        Index(
            *("ix_hold_settled_at", "settled_at"),
            postgresql_include=["account_id", "state", "amount"],
            postgresql_where=text("settled_at IS NOT NULL"),
        ),
    )

    job_id: Mapped[UUID] = mapped_column(primary_key=True)
    account_id: Mapped[UUID] = mapped_column(ForeignKey("credit_account.account_id"))
    api_key_id: Mapped[UUID | None]
    """No foreign key: the job has one, and a check here would write to the key's row each time."""
    amount: Mapped[int]
    state: Mapped[str] = mapped_column(HOLD_STATE, server_default="held")
    txn_id: Mapped[int | None]
    """The transaction that captured or released it; None while open, and for an amount of 0."""
    placed_at: Mapped[datetime]
    settled_at: Mapped[datetime | None]


class HoldSlice(Base):
    """The part of a hold that one grant pays; no grant where the credit limit does."""

    __tablename__ = "hold_slice"
    __table_args__ = (CheckConstraint("amount > 0", name="amount_positive"),)

    job_id: Mapped[UUID] = mapped_column(ForeignKey("hold.job_id"), primary_key=True)
    line: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    grant_id: Mapped[UUID | None]
    amount: Mapped[int]


class ApiKey(Base):
    """What authenticates. Its text is shown once and kept only as an HMAC."""

    __tablename__ = "api_key"
    __table_args__ = (
        CheckConstraint("env IN ('live', 'test', 'enterprise')", name="env_known"),
        CheckConstraint("queue_class IN ('standard', 'priority')", name="queue_known"),
        CheckConstraint("rate_per_minute > 0", name="rate_positive"),
        CheckConstraint("burst > 0", name="burst_positive"),
        CheckConstraint("concurrency_max > 0", name="concurrency_positive"),
        CheckConstraint("budget_credits >= 0", name="budget_not_negative"),
        Index("ix_api_key_account_id", "account_id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    account_id: Mapped[UUID] = mapped_column(ForeignKey("account.id"))
    key_id: Mapped[str] = mapped_column(unique=True)
    env: Mapped[str]
    name: Mapped[str] = mapped_column(server_default="")
    key_hash: Mapped[bytes] = mapped_column(LargeBinary)
    pepper_version: Mapped[int] = mapped_column(Integer)
    last4: Mapped[str]
    scopes: Mapped[list[str]] = mapped_column(ARRAY(Text))
    rate_per_minute: Mapped[int | None] = mapped_column(Integer)
    burst: Mapped[int | None] = mapped_column(Integer)
    concurrency_max: Mapped[int | None] = mapped_column(Integer)
    queue_class: Mapped[str | None]
    ip_allow: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    budget_credits: Mapped[int | None]
    """The most this key may hold and capture in one period of its account."""
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    last_used_at: Mapped[datetime | None]
    expires_at: Mapped[datetime | None]
    grace_until: Mapped[datetime | None]
    """Set when the key is rotated: the old text works until then."""
    revoked_at: Mapped[datetime | None]
    rotated_from: Mapped[UUID | None] = mapped_column(ForeignKey("api_key.id"))
    root_id: Mapped[UUID | None] = mapped_column(ForeignKey("api_key.id"))
    """The first key of its rotations, on which the budget of all is booked; None for that one."""


class KeyBudget(Base):
    """What a key with a budget, and what it was rotated to, has held and captured in one period."""

    __tablename__ = "key_budget"
    __table_args__ = (
        CheckConstraint("used >= 0", name="used_not_negative"),
        {"postgresql_with": {"fillfactor": "50"}},
    )

    api_key_id: Mapped[UUID] = mapped_column(ForeignKey("api_key.id"), primary_key=True)
    period_start: Mapped[datetime] = mapped_column(primary_key=True)
    used: Mapped[int]
