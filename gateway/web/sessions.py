"""Signed-in browsers: opened, found again, ended by idleness, age, or a click.

What the dashboard's sessions and the console's have in common; each has a table of its own, and
says who stands behind one of its rows.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Generic, TypeVar
from uuid import UUID

from sqlalchemy import ColumnElement, delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from billing.db import SessionFactory
from billing.staff_tables import AdminSession, ConsoleSession
from gateway.web.cookies import SessionCookie, hash_of, new_secret

TOUCHED_EVERY: Final = timedelta(minutes=1)
"""A page a second need not be a write a second."""

Row = TypeVar("Row", AdminSession, ConsoleSession)


@dataclass(frozen=True, slots=True)
class BrowserSessions(Generic[Row]):
    """The sessions of one table, and the cookie they live in."""

    sessions: SessionFactory
    table: type[Row]
    idle: timedelta
    lifetime: timedelta
    cookie: SessionCookie

    async def begin(self, db: AsyncSession, **whose: UUID) -> str:
        """Open a session and return the secret for its cookie; forget those that have ended."""
        await db.execute(delete(self.table).where(self._has_ended()))
        secret = new_secret()
        expires_at = await db.scalar(select(func.clock_timestamp() + self.lifetime))
        db.add(self.table(id_hash=hash_of(secret), expires_at=expires_at, **whose))
        await db.flush()
        return secret

    async def living(self, db: AsyncSession, secret: str, *, is_used: bool = True) -> Row | None:
        """Find the session of `secret`, if it still lives, and keep it awake where it `is_used`."""
        is_stale = self.table.last_seen_at < func.clock_timestamp() - TOUCHED_EVERY
        chosen = select(self.table, is_stale.label("is_stale")).where(
            self.table.id_hash == hash_of(secret), ~self._has_ended()
        )
        found = (await db.execute(chosen)).one_or_none()
        if found is None:
            return None
        row: Row = found[0]
        if is_used and found.is_stale:
            await db.execute(
                update(self.table)
                .where(self.table.id_hash == row.id_hash)
                .values(last_seen_at=func.clock_timestamp())
                .execution_options(synchronize_session=False)
            )
        return row

    async def close(self, secret: str) -> None:
        async with self.sessions.begin() as db:
            await db.execute(delete(self.table).where(self.table.id_hash == hash_of(secret)))

    def _has_ended(self) -> ColumnElement[bool]:
        now = func.clock_timestamp()
        return (self.table.expires_at <= now) | (self.table.last_seen_at <= now - self.idle)
