"""The people who run the place: what each may do, and how they are let in.

Passwords are argon2id. Too many attempts that failed close the door for a while, to one address
first, so that a stranger who knows an email cannot keep its owner out from elsewhere.
"""

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import delete, func, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from billing import audit
from billing.staff_tables import AdminSession, AdminUser, SignInAttempt
from gateway.web.refusals import ActRefusedError, FormError

ROLES: Final = ("viewer", "support", "finance", "owner")
"""Each may do what those before it may."""
PASSWORD_LENGTH_MIN: Final = 12
PASSWORD_LENGTH_MAX: Final = 256
WINDOW: Final = timedelta(minutes=15)
FAILURES_MAX: Final = 5
"""Of one email from one address, within the window."""
FAILURES_OF_ADDRESS_MAX: Final = 20
FAILURES_OF_EMAIL_MAX: Final = 50
KEPT: Final = timedelta(days=30)
HASHES_AT_ONCE_MAX: Final = 2
"""Each takes 64 MiB and a core."""

AT_THE_DOOR_MAX: Final = 4
"""Who is looked at, at once: each holds a connection for as long as the hash takes."""

HASHER: Final = PasswordHasher()
_hashing = asyncio.Semaphore(HASHES_AT_ONCE_MAX)
at_the_door = asyncio.Semaphore(AT_THE_DOOR_MAX)
"""The others wait before they take a connection that calls need."""


@dataclass(frozen=True, slots=True)
class Staff:
    """Who is signed in."""

    admin_user_id: UUID
    email: str
    role: str
    is_totp_on: bool
    form_word: str

    @property
    def actor(self) -> str:
        """The name in the audit trail."""
        return f"staff:{self.email}"

    def may(self, role: str) -> bool:
        return ROLES.index(self.role) >= ROLES.index(role)


async def create_staff(
    db: AsyncSession, *, email: str, password: str, role: str, actor: str
) -> AdminUser:
    """Let somebody in from now on.

    Raises:
        FormError: the email, the role or the password cannot be taken.
        ActRefusedError: somebody has this email already.
    """
    email = normal_email(email)
    if role not in ROLES:
        raise FormError(f"A role is one of {', '.join(ROLES)}.")
    check_password(password)
    if await db.scalar(select(AdminUser.id).where(AdminUser.email == email)):
        raise ActRefusedError(f"{email} can sign in already.")
    user = AdminUser(email=email, password_hash=await hashed(password), role=role)
    db.add(user)
    await db.flush()
    await audit.record(
        db,
        actor=actor,
        action="admin.created",
        object_name=f"admin:{email}",
        after={"role": role},
    )
    return user


async def set_password(db: AsyncSession, user: AdminUser, password: str, *, actor: str) -> None:
    """Change a password; every browser that is signed in has to sign in anew.

    Raises:
        FormError: the password cannot be taken.
    """
    check_password(password)
    user.password_hash = await hashed(password)
    await end_sessions(db, user.id)
    await audit.record(
        db, actor=actor, action="admin.password_changed", object_name=f"admin:{user.email}"
    )


async def disable_staff(db: AsyncSession, user: AdminUser, *, actor: str, reason: str) -> None:
    """Let somebody in no longer, and end what they have open."""
    await db.execute(
        update(AdminUser).where(AdminUser.id == user.id).values(disabled_at=func.clock_timestamp())
    )
    await end_sessions(db, user.id)
    await audit.record(
        db,
        actor=actor,
        action="admin.disabled",
        object_name=f"admin:{user.email}",
        reason=reason,
    )


async def find_staff(db: AsyncSession, email: str) -> AdminUser | None:
    return await db.scalar(select(AdminUser).where(AdminUser.email == normal_email(email)))


async def end_sessions(db: AsyncSession, admin_user_id: UUID) -> None:
    rows = await db.scalars(
        select(AdminSession).where(AdminSession.admin_user_id == admin_user_id).with_for_update()
    )
    for row in rows:
        await db.delete(row)


async def is_password_of(user: AdminUser | None, password: str) -> bool:
    """Check a password; where there is no such person it takes as long."""
    known = user.password_hash if user is not None and user.disabled_at is None else _DECOY
    async with _hashing:
        fits = await asyncio.to_thread(_fits, known, password[:PASSWORD_LENGTH_MAX])
    return fits and known is not _DECOY


async def hashed(password: str) -> str:
    async with _hashing:
        return await asyncio.to_thread(HASHER.hash, password)


def check_password(password: str) -> None:
    if not PASSWORD_LENGTH_MIN <= len(password) <= PASSWORD_LENGTH_MAX:
        raise FormError(f"A password has at least {PASSWORD_LENGTH_MIN} characters.")


def normal_email(email: str) -> str:
    """Write an email as it is kept.

    Raises:
        FormError: it is none.
    """
    email = email.strip().lower()
    name, at, host = email.partition("@")
    if not (name and at and host) or len(email) > 254 or any(c.isspace() for c in email):  # noqa: PLR2004 - RFC 5321
        raise FormError("An email looks like name@example.com.")
    return email


async def wait_for_attempt(db: AsyncSession, email: str, address: str) -> timedelta | None:
    """Count what failed of late and tell how long the door stays closed; None while it is open.

    Holds a lock for the transaction's rest, so that attempts of one email come one by one.
    """
    await db.execute(
        text("SELECT pg_advisory_xact_lock(hashtextextended(:email, 5))"), {"email": email}
    )
    recent = SignInAttempt.at > func.clock_timestamp() - WINDOW
    failed = recent & ~SignInAttempt.is_ok
    limits = (
        ((SignInAttempt.email == email) & (SignInAttempt.address == address), FAILURES_MAX),
        (SignInAttempt.address == address, FAILURES_OF_ADDRESS_MAX),
        (SignInAttempt.email == email, FAILURES_OF_EMAIL_MAX),
    )
    now = await db.scalar(select(func.clock_timestamp()))
    waits = []
    for whose, failures_max in limits:
        nth = (
            select(SignInAttempt.at)
            .where(failed, whose)
            .order_by(SignInAttempt.at.desc())
            .offset(failures_max - 1)
            .limit(1)
        )
        if (at := await db.scalar(nth)) is not None and now is not None:
            waits.append(at + WINDOW - now)
    return max(waits, default=None)


async def note_attempt(db: AsyncSession, email: str, address: str, *, is_ok: bool) -> None:
    """Write an attempt down, and forget those of long ago, whoever they were of."""
    db.add(SignInAttempt(email=email, address=address, is_ok=is_ok))
    is_old = SignInAttempt.at < func.clock_timestamp() - KEPT
    await db.execute(
        delete(SignInAttempt).where(is_old).execution_options(synchronize_session=False)
    )
    await db.flush()


def _fits(known: str, password: str) -> bool:
    try:
        return HASHER.verify(known, password)
    except (VerificationError, InvalidHashError):
        return False


_DECOY: Final = HASHER.hash("nobody has this password")
