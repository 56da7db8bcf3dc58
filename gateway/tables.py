"""The gateway's tables: jobs, the bells still to be rung, idempotency records, webhooks.

Credits are the ledger's (`billing/tables.py`); a job and its hold share their id. All times are the
database's. The database states the invariants, so that a bug is an error and not a wrong bill.
"""

from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    Identity,
    Index,
    Integer,
    Interval,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

import billing.tables  # noqa: F401  # the foreign keys below name its tables
from billing.db import Base

QUEUED: Final = "queued"
PROCESSING: Final = "processing"
SUCCEEDED: Final = "succeeded"
FAILED: Final = "failed"
CANCELED: Final = "canceled"
ENDED: Final = (SUCCEEDED, FAILED, CANCELED)

PENDING: Final = "pending"
DELIVERED: Final = "delivered"

PRIORITY: Final = "priority"
STANDARD: Final = "standard"

NOW: Final = text("now()")


class Fence(NamedTuple):
    """Which attempt at which job: who changes a running job has to name both."""

    job_id: UUID
    attempt: int


class Job(Base):
    """One cutout to be made.

    `queued` (asynchronous only) -> `processing` -> `succeeded` | `failed` | `canceled`; a lost or
    handed-back attempt goes from `processing` to `queued` with the next `attempt`, which is the
    fence: only the holder of the present attempt may end the job. A request that waits for its
    answer begins in `processing`.
    """

    __tablename__ = "job"
    __table_args__ = (
        CheckConstraint(
            "state IN ('queued', 'processing', 'succeeded', 'failed', 'canceled')",
            name="state_known",
        ),
        CheckConstraint("queue_class IN ('priority', 'standard')", name="queue_class_known"),
        CheckConstraint(
            "(state = 'processing') = (lease_until IS NOT NULL)", name="lease_while_processing"
        ),
        CheckConstraint(
            "(state IN ('succeeded', 'failed', 'canceled')) = (finished_at IS NOT NULL)",
            name="finished_when_ended",
        ),
        CheckConstraint("(state = 'succeeded') = (result_key IS NOT NULL)", name="result_if_good"),
        CheckConstraint("(state = 'failed') = (error_code IS NOT NULL)", name="error_if_failed"),
        CheckConstraint(
            "charged_credits = CASE WHEN state = 'succeeded' THEN price_credits ELSE 0 END",
            name="charged_if_good",
        ),
        CheckConstraint("price_credits >= 0", name="price_not_negative"),
        CheckConstraint("attempt >= 1", name="attempt_from_one"),
        CheckConstraint("progress BETWEEN 0 AND 100", name="progress_percent"),
        CheckConstraint("confidence BETWEEN 0 AND 1", name="confidence_share"),
        # The claim: whose turn it is, and that account's oldest job.
        Index(
            "ix_job_queued",
            "queue_class",
            "account_id",
            "created_at",
            postgresql_where=text("state = 'queued'"),
        ),
        # The sweeper: lost leases, missed deadlines, leftovers in storage, expired results.
        Index(
            "ix_job_processing",
            "lease_until",
            "account_id",
            postgresql_where=text("state = 'processing'"),
        ),
        Index(
            "ix_job_deadline",
            "deadline_at",
            postgresql_where=text("state IN ('queued', 'processing')"),
        ),
        Index(
            "ix_job_untidy",
            "finished_at",
            postgresql_where=text("finished_at IS NOT NULL AND NOT is_tidy"),
        ),
        Index(
            "ix_job_result_expires_at",
            "result_expires_at",
            postgresql_where=text("state = 'succeeded' AND purged_at IS NULL"),
        ),
        # The dashboard: the newest first, of all or of one account; calls and their times by day.
        Index("ix_job_created_at", "created_at", "id"),
        Index("ix_job_account_id_created_at", "account_id", "created_at"),
        Index(
            *("ix_job_error_code_created_at", "error_code", "created_at"),
            postgresql_where=text("state = 'failed'"),
        ),
        Index(
            "ix_job_finished_at",
            "finished_at",
            postgresql_include=["state", "created_at", "started_at"],
            postgresql_where=text("finished_at IS NOT NULL"),
        ),
        # The retention: a job comes in once storage holds nothing of it.
        Index(
            "ix_job_in_full",
            "finished_at",
            postgresql_where=text(
                "is_tidy AND NOT is_brief AND (state <> 'succeeded' OR purged_at IS NOT NULL)"
            ),
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    account_id: Mapped[UUID] = mapped_column(ForeignKey("account.id"))
    api_key_id: Mapped[UUID] = mapped_column(ForeignKey("api_key.id"))
    request_id: Mapped[str]
    dialect: Mapped[str]
    env: Mapped[str]
    queue_class: Mapped[str]
    is_async: Mapped[bool]
    """Nobody waits at the other end of a connection: it may be run again after a crash."""
    webhook_url: Mapped[str | None]

    state: Mapped[str]
    attempt: Mapped[int] = mapped_column(Integer, server_default=text("1"))
    lease_until: Mapped[datetime | None]
    available_at: Mapped[datetime] = mapped_column(server_default=NOW)
    """Not to be claimed before: the pause after an attempt that storage failed."""
    deadline_at: Mapped[datetime]
    """Past it the sweeper fails the job and its hold goes back, whoever works on it."""
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    stage: Mapped[str | None]
    progress: Mapped[int] = mapped_column(Integer, server_default=text("0"))

    model_asked: Mapped[str]
    options: Mapped[dict[str, Any]] = mapped_column(JSONB)
    source_key: Mapped[str | None]
    background_key: Mapped[str | None]
    """The customer's own background image, where one came with the request."""
    source_bytes: Mapped[int]

    price_credits: Mapped[int]
    charged_credits: Mapped[int] = mapped_column(server_default=text("0"))

    model_ran: Mapped[str | None]
    result_key: Mapped[str | None]
    result_bytes: Mapped[int | None]
    result_ttl: Mapped[timedelta] = mapped_column(Interval)
    result_expires_at: Mapped[datetime | None]
    purged_at: Mapped[datetime | None]
    is_tidy: Mapped[bool] = mapped_column(server_default=text("false"))
    """Storage holds nothing of this job any more but its result, and the upload kept with it."""
    is_brief: Mapped[bool] = mapped_column(server_default=text("false"))
    """It is old, and what only its making needed is forgotten (`retention.py`)."""
    extension: Mapped[str | None]
    media_type: Mapped[str | None]
    width_px: Mapped[int | None] = mapped_column(Integer)
    height_px: Mapped[int | None] = mapped_column(Integer)
    confidence: Mapped[float | None]
    reasons: Mapped[list[str]] = mapped_column(JSONB, server_default=text("'[]'"))
    warnings: Mapped[list[str]] = mapped_column(JSONB, server_default=text("'[]'"))
    refinement: Mapped[str | None]
    stages_ms: Mapped[dict[str, float]] = mapped_column(JSONB, server_default=text("'{}'"))

    error_code: Mapped[str | None]
    """A Problem's stable code; never an exception's own message."""
    error_kind: Mapped[str | None]
    """The exception's class, where it is one of the known refusals."""
    error_facts: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default=text("'{}'"))
    """What the exception carries and a customer may read, such as the format's name."""

    @property
    def fence(self) -> Fence:
        return Fence(self.id, self.attempt)

    @property
    def has_ended(self) -> bool:
        return self.state in ENDED


class Outbox(Base):
    """A bell to be rung for a queued attempt; written with it, deleted once rung or claimed."""

    __tablename__ = "outbox"

    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    job_id: Mapped[UUID] = mapped_column(ForeignKey("job.id"), index=True)
    attempt: Mapped[int] = mapped_column(Integer)
    queue_class: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)


class IdempotencyRecord(Base):
    """The one job that an account's Idempotency-Key stands for, until it expires.

    The answer is the job's own row. A request that failed while its caller waited leaves no record:
    it cost nothing, and the retry is a new attempt.
    """

    __tablename__ = "idempotency_record"

    account_id: Mapped[UUID] = mapped_column(ForeignKey("account.id"), primary_key=True)
    env: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    fingerprint: Mapped[str]
    """Dialect and SHA-256 of the request's body."""
    job_id: Mapped[UUID] = mapped_column(index=True)
    """No foreign key: the claim is made before the job is inserted, in the same transaction."""
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    expires_at: Mapped[datetime] = mapped_column(index=True)


class WebhookEndpoint(Base):
    """What an account has set for its webhooks; one without a row has set nothing.

    The secret itself is in no table: it is derived (`signing.py`).
    """

    __tablename__ = "webhook_endpoint"
    __table_args__ = (CheckConstraint("secret_version >= 1", name="secret_version_from_one"),)

    account_id: Mapped[UUID] = mapped_column(ForeignKey("account.id"), primary_key=True)
    secret_version: Mapped[int] = mapped_column(Integer, server_default=text("1"))
    former_secret_until: Mapped[datetime | None]
    """Until then each delivery is signed with the secret before the present one too."""
    alert_url: Mapped[str | None]
    """Where alerts of the account's credits go."""


class WebhookDelivery(Base):
    """An event to be told: written by the transaction that made it true, delivered afterwards.

    `pending` -> `delivered` | `failed`; a replay makes it `pending` again, under the same id.
    """

    __tablename__ = "webhook_delivery"
    __table_args__ = (
        CheckConstraint("state IN ('pending', 'delivered', 'failed')", name="state_known"),
        CheckConstraint(
            "(state = 'pending') = (finished_at IS NULL)", name="finished_when_not_pending"
        ),
        CheckConstraint("attempt >= tries AND tries >= 0", name="tries_are_attempts"),
        Index(
            "ix_webhook_delivery_due",
            "next_attempt_at",
            postgresql_where=text("state = 'pending'"),
        ),
        Index("ix_webhook_delivery_account_id_created_at", "account_id", "created_at"),
        # The retention, and what went well of late.
        Index(
            "ix_webhook_delivery_finished_at",
            "finished_at",
            postgresql_where=text("finished_at IS NOT NULL"),
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    """The receiver's `webhook-id`, the same at every attempt."""
    account_id: Mapped[UUID] = mapped_column(ForeignKey("account.id"))
    job_id: Mapped[UUID | None] = mapped_column(ForeignKey("job.id"), unique=True)
    """A job ends once, so it is told once; None for what concerns the account."""
    kind: Mapped[str]
    url: Mapped[str]
    facts: Mapped[dict[str, Any]] = mapped_column(JSONB)
    """What is told; a download link is added when it is sent."""
    state: Mapped[str] = mapped_column(server_default=text("'pending'"))
    attempt: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    """The number of the last attempt, which is the fence."""
    tries: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    """Attempts since it was written or replayed: what the pauses grow by."""
    next_attempt_at: Mapped[datetime] = mapped_column(server_default=NOW)
    """While an attempt is under way: when another may be made, its own having been lost."""
    pending_since: Mapped[datetime] = mapped_column(server_default=NOW)
    """When it was written or replayed: from then on it is tried for a day."""
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    finished_at: Mapped[datetime | None]


class WebhookAttempt(Base):
    """One attempt at a delivery, noted before it is made; of the answer only its status is kept."""

    __tablename__ = "webhook_attempt"
    __table_args__ = (Index("ix_webhook_attempt_at", "at"),)

    delivery_id: Mapped[UUID] = mapped_column(ForeignKey("webhook_delivery.id"), primary_key=True)
    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    at: Mapped[datetime] = mapped_column(server_default=text("clock_timestamp()"))
    ms: Mapped[int | None] = mapped_column(Integer)
    status: Mapped[int | None] = mapped_column(Integer)
    outcome: Mapped[str | None]
    """None: it was begun, and whoever made it never came back to say how it went."""


class RefusalCount(Base):
    """Calls for cutouts that were refused before they became a job, by hour (UTC)."""

    __tablename__ = "refusal_count"
    __table_args__ = (CheckConstraint("calls > 0", name="calls_positive"),)

    hour: Mapped[datetime] = mapped_column(primary_key=True)
    dialect: Mapped[str] = mapped_column(primary_key=True)
    code: Mapped[str] = mapped_column(primary_key=True)
    calls: Mapped[int]
