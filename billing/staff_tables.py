"""The tables of those who run the place: who signs in, what they did, whether all is well."""

from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from billing.db import Base
from billing.tables import NOW


class AdminUser(Base):
    """Who may sign in to the dashboard."""

    __tablename__ = "admin_user"
    __table_args__ = (
        CheckConstraint("role IN ('viewer', 'support', 'finance', 'owner')", name="role_known"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    email: Mapped[str] = mapped_column(unique=True)
    password_hash: Mapped[str]
    role: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    disabled_at: Mapped[datetime | None]
    is_totp_on: Mapped[bool] = mapped_column(server_default=text("false"))
    """Whether signing in asks for a one-time code too."""
    totp_version: Mapped[int] = mapped_column(Integer, server_default=text("1"))
    """A new version makes a new secret: it is derived from this and the installation's own."""
    totp_last_step: Mapped[int] = mapped_column(server_default=text("0"))
    """The half minute whose code was used last: a code is good once."""


class SignInAttempt(Base):
    """Somebody tried to sign in; too many that failed close the door for a while."""

    __tablename__ = "sign_in_attempt"
    __table_args__ = (
        Index("ix_sign_in_attempt_email_at", "email", "at"),
        Index("ix_sign_in_attempt_address_at", "address", "at"),
    )

    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    email: Mapped[str]
    address: Mapped[str]
    at: Mapped[datetime] = mapped_column(server_default=NOW)
    is_ok: Mapped[bool]


class ConsoleSession(Base):
    """A browser signed in by an API key, which it ends with."""

    __tablename__ = "console_session"

    id_hash: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    api_key_id: Mapped[UUID] = mapped_column(ForeignKey("api_key.id"))
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    last_seen_at: Mapped[datetime] = mapped_column(server_default=NOW)
    expires_at: Mapped[datetime]


class AccountNote(Base):
    """What somebody wanted the others to know of an account."""

    __tablename__ = "account_note"
    __table_args__ = (Index("ix_account_note_account_id_at", "account_id", "at"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    account_id: Mapped[UUID] = mapped_column(ForeignKey("account.id"))
    at: Mapped[datetime] = mapped_column(server_default=NOW)
    actor: Mapped[str]
    body: Mapped[str]


class AdminAct(Base):
    """An act of a person that was done, under the id that its form was made with."""

    __tablename__ = "admin_act"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(server_default=NOW)
    actor: Mapped[str]
    action: Mapped[str]


class AdminSession(Base):
    """A signed-in browser, known by the hash of its cookie."""

    __tablename__ = "admin_session"

    id_hash: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    admin_user_id: Mapped[UUID] = mapped_column(ForeignKey("admin_user.id"))
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    last_seen_at: Mapped[datetime] = mapped_column(server_default=NOW)
    expires_at: Mapped[datetime]


class AuditHead(Base):
    """The end of the audit chain, one row; whoever appends locks it."""

    __tablename__ = "audit_head"
    __table_args__ = (CheckConstraint("id = 1", name="only_one"),)

    id: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    seq: Mapped[int]
    hash: Mapped[bytes] = mapped_column(LargeBinary)


class AuditEvent(Base):
    """One administrative act, in the transaction that did it, chained to the one before."""

    __tablename__ = "audit_event"
    __table_args__ = (
        Index("ix_audit_event_account_id", "account_id"),
        Index("ix_audit_event_action_seq", "action", "seq"),
    )

    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    at: Mapped[datetime]
    actor: Mapped[str]
    action: Mapped[str]
    object: Mapped[str]
    account_id: Mapped[UUID | None] = mapped_column(ForeignKey("account.id"))
    reason: Mapped[str]
    before: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    after: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    request_id: Mapped[str | None]
    prev_hash: Mapped[bytes] = mapped_column(LargeBinary)
    hash: Mapped[bytes] = mapped_column(LargeBinary)


class InvariantRun(Base):
    """One invariant, checked once."""

    __tablename__ = "invariant_run"
    __table_args__ = (Index("ix_invariant_run_started_at", "started_at"),)

    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    name: Mapped[str]
    started_at: Mapped[datetime] = mapped_column(server_default=NOW)
    is_ok: Mapped[bool]
    count: Mapped[int]
    sample: Mapped[list[Any]] = mapped_column(JSONB)
    elapsed_ms: Mapped[int] = mapped_column(Integer)
