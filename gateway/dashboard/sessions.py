"""Signed-in browsers of the staff: opened, found again, ended by idleness, age, or a click."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from sqlalchemy import ColumnElement, delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from billing.db import SessionFactory
from billing.staff_tables import AdminSession, AdminUser
from gateway.dashboard.staff import Staff
from gateway.settings import Settings
from gateway.web.cookies import SessionCookie, form_word_of, hash_of, new_secret

TOUCHED_EVERY: Final = timedelta(minutes=1)
"""A page a second need not be a write a second."""


@dataclass(frozen=True, slots=True)
class StaffSessions:
    """The sessions, and the cookie they live in."""

    sessions: SessionFactory
    idle: timedelta
    lifetime: timedelta
    cookie: SessionCookie

    @classmethod
    def from_settings(cls, settings: Settings, sessions: SessionFactory) -> "StaffSessions":
        return cls(
            sessions=sessions,
            idle=settings.sign_in_idle,
            lifetime=settings.sign_in_lifetime,
            cookie=SessionCookie("cutout_admin", is_secure=settings.has_tls),
        )

    async def open(self, db: AsyncSession, user: AdminUser) -> str:
        """Sign `user` in and return the secret for the cookie; forget sessions that have ended."""
        await db.execute(delete(AdminSession).where(self._has_ended()))
        secret = new_secret()
        expires_at = await db.scalar(select(func.clock_timestamp() + self.lifetime))
        db.add(AdminSession(id_hash=hash_of(secret), admin_user_id=user.id, expires_at=expires_at))
        await db.flush()
        return secret

    async def find(self, secret: str) -> Staff | None:
        """Tell who holds `secret`, if that session still lives."""
        async with self.sessions.begin() as db:
            is_stale = AdminSession.last_seen_at < func.clock_timestamp() - TOUCHED_EVERY
            row = (
                await db.execute(
                    select(AdminUser, is_stale)
                    .join(AdminSession, AdminSession.admin_user_id == AdminUser.id)
                    .where(AdminSession.id_hash == hash_of(secret), ~self._has_ended())
                    .where(AdminUser.disabled_at.is_(None))
                )
            ).one_or_none()
            if row is None:
                return None
            user, needs_touch = row
            if needs_touch:
                await db.execute(
                    update(AdminSession)
                    .where(AdminSession.id_hash == hash_of(secret))
                    .values(last_seen_at=func.clock_timestamp())
                )
            return Staff(user.id, user.email, user.role, user.is_totp_on, form_word_of(secret))

    async def close(self, secret: str) -> None:
        async with self.sessions.begin() as db:
            await db.execute(delete(AdminSession).where(AdminSession.id_hash == hash_of(secret)))

    def _has_ended(self) -> ColumnElement[bool]:
        now = func.clock_timestamp()
        return (AdminSession.expires_at <= now) | (AdminSession.last_seen_at <= now - self.idle)
