"""What the service stands on, in numbers: Postgres, Redis, storage."""

import asyncio
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, cast
from urllib.parse import unquote, urlsplit

from alembic.script import ScriptDirectory
from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from billing.db import SessionFactory

REDIS_DEADLINE_S: Final = 1.0
TABLES_SHOWN_MAX: Final = 8

DATABASE: Final = text(
    """
    SELECT current_setting('server_version') AS version,
        pg_postmaster_start_time() AS started_at,
        pg_database_size(current_database()) AS size_bytes,
        (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()) AS connections,
        (SELECT count(*) FROM pg_stat_activity
         WHERE datname = current_database() AND state = 'active') AS active,
        CAST(current_setting('max_connections') AS int) AS connections_max,
        (SELECT version_num FROM alembic_version) AS migration,
        CAST(current_setting('fsync') AS bool) AND current_setting('synchronous_commit') <> 'off'
            AS is_durable
    """
)
TABLES: Final = text(
    """
    SELECT c.relname AS name, pg_total_relation_size(c.oid) AS size_bytes,
        nullif(c.reltuples, -1)::bigint AS rows_about
    FROM pg_class c
    WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace
    ORDER BY size_bytes DESC LIMIT :rows_max
    """
)
KEPT: Final = text(
    """
    SELECT count(*) AS results, coalesce(sum(result_bytes), 0)::bigint AS result_bytes
    FROM job WHERE state = 'succeeded' AND purged_at IS NULL
    """
)


@dataclass(frozen=True, slots=True)
class DatabaseFacts:
    """How Postgres stands."""

    server: Any
    tables: Sequence[Any]
    head: str
    """The migration that this code is written for."""

    @property
    def is_up_to_date(self) -> bool:
        return bool(self.server.migration == self.head)


@dataclass(frozen=True, slots=True)
class RedisFacts:
    """How Redis, or Valkey, stands."""

    name: str
    version: str
    uptime_s: int
    clients: int
    memory_bytes: int
    keys: int


@dataclass(frozen=True, slots=True)
class StorageFacts:
    """Where sources and results lie, and how much room there is."""

    place: str
    results: int
    result_bytes: int
    free_bytes: int | None
    """None where the place has no end that could be asked for."""
    whole_bytes: int | None


async def database_facts(db: AsyncSession) -> DatabaseFacts:
    server = (await db.execute(DATABASE)).one()
    tables = (await db.execute(TABLES, {"rows_max": TABLES_SHOWN_MAX})).all()
    return DatabaseFacts(server, tables, await asyncio.to_thread(migration_head))


async def redis_facts(redis: Redis) -> RedisFacts | None:
    """Ask Redis about itself; None where it is away."""
    try:
        async with asyncio.timeout(REDIS_DEADLINE_S):
            told: dict[str, Any] = await redis.info()
            keys = await cast("Any", redis.dbsize())
    except (RedisError, OSError, TimeoutError):
        return None
    is_valkey = "valkey_version" in told
    return RedisFacts(
        name="Valkey" if is_valkey else "Redis",
        version=str(told["valkey_version" if is_valkey else "redis_version"]),
        uptime_s=int(told["uptime_in_seconds"]),
        clients=int(told["connected_clients"]),
        memory_bytes=int(told["used_memory"]),
        keys=int(keys),
    )


async def storage_facts(sessions: SessionFactory, storage_url: str) -> StorageFacts:
    """Add up what jobs say is kept; a folder is asked for its disk's room too."""
    async with sessions() as db:
        kept = (await db.execute(KEPT)).one()
    url = urlsplit(storage_url)
    place, room = f"{url.scheme}://{url.netloc.rpartition('@')[2]}{url.path}", None
    if url.scheme == "file":
        room = await asyncio.to_thread(_room, Path(unquote(url.path)))
    free, whole = room or (None, None)
    return StorageFacts(place, kept.results, kept.result_bytes, free, whole)


def _room(folder: Path) -> tuple[int, int] | None:
    try:
        usage = shutil.disk_usage(folder)
    except OSError:
        return None
    return usage.free, usage.total


@cache
def migration_head() -> str:
    """Find the newest migration that this code brings."""
    head = ScriptDirectory(str(files("migrations"))).get_current_head()
    return head or "none"
