"""The pool hands out no connection that is known to be dead, and asks the living nothing."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from billing import db as database
from billing.db import make_engine, make_sessions

PID = text("SELECT pg_backend_pid()")
END = text("SELECT pg_terminate_backend(:pid, 5000)")
STATEMENTS = text("SELECT state, query FROM pg_stat_activity WHERE pid = :pid")


async def test_a_transaction_never_meets_a_connection_that_was_closed(
    database_url: str, owner_engine: AsyncEngine
) -> None:
    engine = make_engine(database_url, pool_size=2)
    sessions = make_sessions(engine)
    async with sessions.begin() as first, sessions.begin() as second:
        pids = {await first.scalar(PID), await second.scalar(PID)}
    async with owner_engine.connect() as connection:
        for pid in pids:
            assert await connection.scalar(END, {"pid": pid})
    await asyncio.sleep(0.1)  # until the sockets tell

    async with sessions.begin() as first, sessions.begin() as second:
        fresh = {await first.scalar(PID), await second.scalar(PID)}

    assert len(fresh) == 2
    assert not fresh & pids
    await engine.dispose()


async def end_elsewhere(owner_url: str, pid: int) -> None:
    connection = await asyncpg.connect(owner_url.replace("postgresql+asyncpg", "postgresql"))
    assert await connection.fetchval("SELECT pg_terminate_backend($1, 5000)", pid)
    await connection.close()


async def test_nor_does_it_meet_one_that_was_closed_while_the_loop_was_busy(
    database_url: str, database_owner_url: str
) -> None:
    engine = make_engine(database_url, pool_size=1)
    sessions = make_sessions(engine)
    async with sessions.begin() as db:
        pid = await db.scalar(PID)
    with ThreadPoolExecutor(1) as thread:  # this loop does nothing, and hears nothing, meanwhile
        thread.submit(asyncio.run, end_elsewhere(database_owner_url, pid)).result()

    async with sessions.begin() as db:
        assert await db.scalar(PID) != pid
    await engine.dispose()


@pytest.mark.parametrize(("idle_s", "is_asked"), [(3600.0, False), (0.0, True)])
async def test_only_a_connection_that_lay_idle_is_asked_whether_it_lives(
    database_url: str,
    owner_engine: AsyncEngine,
    monkeypatch: pytest.MonkeyPatch,
    idle_s: float,
    is_asked: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    monkeypatch.setattr(database, "PING_AFTER_S", idle_s)
    engine = make_engine(database_url, pool_size=1)
    async with engine.begin() as connection:
        pid = await connection.scalar(PID)
    async with engine.connect(), owner_engine.connect() as onlooker:  # taken, and not yet used
        last = (await onlooker.execute(STATEMENTS, {"pid": pid})).one()
    assert last.state == "idle"
    assert last.query == ("ROLLBACK;" if is_asked else "COMMIT;")
    await engine.dispose()
