"""The database: one declarative base, engines with time limits, transactions that retry.

Nothing in `billing` commits. A caller opens a transaction with `sessions.begin()` or, where two
writers may meet, with `transact`, which runs the whole of its work again when Postgres says that
it lost a race. The caller's ids (a job's, a top-up's reference) are chosen before `transact` is
entered, so that a second run means the same operation and not another one.
"""

import asyncio
import random
import select
import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, ClassVar, Final, TypeVar
from uuid import UUID

from sqlalchemy import BigInteger, DateTime, MetaData, Text, Uuid, event
from sqlalchemy.exc import DBAPIError, InvalidatePoolError
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.pool import ConnectionPoolEntry

T = TypeVar("T")
SessionFactory = async_sessionmaker[AsyncSession]

RETRIED_STATES: Final = frozenset({"40001", "40P01"})  # serialization failure, deadlock
ATTEMPTS_MAX: Final = 6
BACKOFF_S: Final = 0.01

CONNECTIONS_MAX: Final = 15
POOL_TIMEOUT_S: Final = 2.0
"""For a connection of the pool: who waits for longer had better be told to come back."""
PING_AFTER_S: Final = 5.0
"""A connection that lay idle for longer is asked whether it lives before it is used."""

# A money transaction takes milliseconds. One that takes seconds is a fault, and must give its
# locks back rather than keep an account waiting.
SERVER_SETTINGS: Final = {
    "statement_timeout": "5000",
    "lock_timeout": "3000",
    "idle_in_transaction_session_timeout": "15000",
    "timezone": "UTC",
}


class Base(DeclarativeBase):
    """What every table of the project derives from, the gateway's too."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        int: BigInteger,
        str: Text,
        UUID: Uuid,
        datetime: DateTime(timezone=True),
    }


def make_engine(
    url: str, *, server_settings: dict[str, str] | None = None, **options: Any
) -> AsyncEngine:
    """Open a pool whose every connection carries the time limits; `options` go to SQLAlchemy."""
    settings = SERVER_SETTINGS | (server_settings or {})
    if "poolclass" not in options:
        # Without overflow: a connection that comes and goes costs more than one that stays.
        pool = {"pool_size": CONNECTIONS_MAX, "max_overflow": 0, "pool_timeout": POOL_TIMEOUT_S}
        options = pool | options
    options.setdefault("hide_parameters", True)  # they may be hashes of keys; errors get logged
    engine = create_async_engine(
        async_url(url), connect_args={"server_settings": settings}, **options
    )
    _look_before_use(engine)
    return engine


def _look_before_use(engine: AsyncEngine) -> None:
    """Hand no dead connection out, and lose no time over it.

    SQLAlchemy's own `pool_pre_ping` asks each time, which takes three round trips, half as many
    again as a hold. Of a connection in use a moment ago the socket knows whether it was closed; the
    driver learns it only when its loop comes round, so the socket is looked at as well.
    """
    dialect = engine.dialect

    @event.listens_for(engine.sync_engine, "checkin")
    def note(_: object, entry: ConnectionPoolEntry) -> None:
        entry.info["idle_since"] = time.monotonic()

    @event.listens_for(engine.sync_engine, "checkout")
    def look(connection: Any, entry: ConnectionPoolEntry, _: object) -> None:
        now = time.monotonic()
        if connection.driver_connection.is_closed():
            raise InvalidatePoolError
        is_stale = now - entry.info.get("idle_since", now) > PING_AFTER_S
        if is_stale or _has_unread(connection.driver_connection):
            try:
                dialect.do_ping(connection)
            except dialect.loaded_dbapi.Error as exc:
                raise InvalidatePoolError from exc


def _has_unread(driver_connection: Any) -> bool:
    """Say whether the server sent what nobody asked for: as a rule that it is going."""
    transport = driver_connection._transport  # noqa: SLF001 - asyncpg shows no socket
    poll = select.poll()
    poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
    return bool(poll.poll(0))


def async_url(url: str) -> str:
    """Name the driver in a URL that names only the database."""
    scheme, _, rest = url.partition("://")
    return f"postgresql+asyncpg://{rest}" if scheme in {"postgres", "postgresql"} else url


def make_sessions(engine: AsyncEngine) -> SessionFactory:
    return async_sessionmaker(engine, expire_on_commit=False)


async def transact(sessions: SessionFactory, work: Callable[[AsyncSession], Awaitable[T]]) -> T:
    """Run `work` in one transaction, again from its start while it loses races.

    Raises whatever `work` raises, with everything rolled back.
    """
    for attempt in range(1, ATTEMPTS_MAX):
        try:
            async with sessions.begin() as db:
                return await work(db)
        except DBAPIError as exc:
            if sqlstate_of(exc) not in RETRIED_STATES:
                raise
        # Full jitter: two that met once should not meet again.
        await asyncio.sleep(random.uniform(0, BACKOFF_S * 2**attempt))  # noqa: S311 - no secret
    async with sessions.begin() as db:
        return await work(db)


def sqlstate_of(exc: DBAPIError) -> str | None:
    """Postgres' own five-letter code for what went wrong."""
    return getattr(exc.orig, "sqlstate", None)
