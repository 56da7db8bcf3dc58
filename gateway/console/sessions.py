"""Browsers signed in by an API key, which they end with. The key's text is kept nowhere."""

from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from billing.db import SessionFactory
from billing.errors import BillingError
from billing.keys import KeyFacts, KeyHasher
from billing.readmission import readmit
from billing.staff_tables import ConsoleSession
from billing.tables import Account, ApiKey
from gateway.console.visitor import Visitor
from gateway.settings import Settings
from gateway.web.cookies import SessionCookie, form_word_of
from gateway.web.sessions import BrowserSessions


@dataclass(frozen=True, slots=True)
class ConsoleSessions(BrowserSessions[ConsoleSession]):
    """The sessions, and who stands behind them."""

    hasher: KeyHasher

    @classmethod
    def from_settings(cls, settings: Settings, sessions: SessionFactory) -> "ConsoleSessions":
        return cls(
            sessions=sessions,
            table=ConsoleSession,
            idle=settings.sign_in_idle,
            lifetime=settings.sign_in_lifetime,
            cookie=SessionCookie("cutout_console", is_secure=settings.has_tls),
            hasher=KeyHasher(settings.peppers),
        )

    async def open(self, db: AsyncSession, key: KeyFacts) -> str:
        """Sign the key's holder in and return the secret for the cookie."""
        return await self.begin(db, api_key_id=key.api_key_id)

    async def find(self, secret: str, *, address: str, is_used: bool) -> Visitor | None:
        """Tell who holds `secret`, if that session lives and its key lets `address` in, now."""
        async with self.sessions.begin() as db:
            session = await self.living(db, secret, is_used=is_used)
            if session is None:
                return None
            try:
                key = await readmit(db, self.hasher, session.api_key_id, address=address)
            except BillingError:
                return None
            # The row was read just now: this asks for nothing.
            api_key = await db.get_one(ApiKey, key.api_key_id)
            account = await db.get_one(Account, key.account_id)
            return Visitor(key, api_key, account.name, form_word_of(secret))
