"""Signed-in browsers of the staff."""

from sqlalchemy.ext.asyncio import AsyncSession

from billing.db import SessionFactory
from billing.staff_tables import AdminSession, AdminUser
from gateway.dashboard.staff import Staff
from gateway.settings import Settings
from gateway.web.cookies import SessionCookie, form_word_of
from gateway.web.sessions import BrowserSessions


class StaffSessions(BrowserSessions[AdminSession]):
    """The sessions, and who stands behind them."""

    @classmethod
    def from_settings(cls, settings: Settings, sessions: SessionFactory) -> "StaffSessions":
        return cls(
            sessions=sessions,
            table=AdminSession,
            idle=settings.sign_in_idle,
            lifetime=settings.sign_in_lifetime,
            cookie=SessionCookie("cutout_admin", is_secure=settings.has_tls),
        )

    async def open(self, db: AsyncSession, user: AdminUser) -> str:
        """Sign `user` in and return the secret for the cookie."""
        return await self.begin(db, admin_user_id=user.id)

    async def find(self, secret: str, *, is_used: bool = True) -> Staff | None:
        """Tell who holds `secret`, if that session still lives."""
        async with self.sessions.begin() as db:
            session = await self.living(db, secret, is_used=is_used)
            if session is None:
                return None
            user = await db.get_one(AdminUser, session.admin_user_id)
            if user.disabled_at is not None:
                return None
            return Staff(user.id, user.email, user.role, user.is_totp_on, form_word_of(secret))
