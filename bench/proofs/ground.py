"""What every proof stands on: a migrated Postgres of its own, and a way to speak to it."""

import asyncio
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from billing import accounts, ledger
from billing.db import SessionFactory, make_engine, make_sessions
from billing.invariants import Finding, check_all
from gateway.embedded.services import Embedded
from migrations.run import upgrade
from tests.billing.machine_plans import ensure_machine_plans

BARE = "machine-bare"
"""A plan without credits: what an account of a proof has is what the proof gave it."""
CONNECTIONS = 40


@contextmanager
def database(*, is_durable: bool = True) -> Iterator[str]:
    """Start a server in a folder of its own and give the URL that `cutout up` gives its gateway."""
    with tempfile.TemporaryDirectory(prefix="cutout-proof-") as folder:
        Path(folder).chmod(0o711)
        with Embedded(Path(folder), is_durable=is_durable) as embedded:
            upgrade(embedded.database_owner_url)
            yield embedded.database_socket_url


@contextmanager
def connected(url: str, runner: asyncio.Runner) -> Iterator[SessionFactory]:
    """Open a pool on the runner's loop. Proofs queue for the lock longer than callers would."""
    engine = make_engine(
        url,
        server_settings={"lock_timeout": "60000", "statement_timeout": "60000"},
        pool_size=CONNECTIONS,
        max_overflow=0,
        pool_timeout=120,
    )
    sessions = make_sessions(engine)
    runner.run(ensure_machine_plans(sessions))
    try:
        yield sessions
    finally:
        runner.run(engine.dispose())


async def open_funded(
    sessions: SessionFactory, credits_: int, *, at: datetime | None = None
) -> UUID:
    """Open an account that has exactly `credits_`, for ever."""

    async def work(db: AsyncSession) -> UUID:
        account = await accounts.create_account(db, name="proof", plan=BARE, actor="proof", at=at)
        await ledger.grant_credits(
            db,
            account.id,
            amount=credits_,
            source="topup",
            ref="all",
            actor="proof",
            reason="proof",
            at=at,
        )
        return account.id

    async with sessions.begin() as db:
        return await work(db)


async def breaches(sessions: SessionFactory, account_id: UUID | None = None) -> list[Finding]:
    """Ask every invariant, of one account or of all."""
    async with sessions.begin() as db:
        return [f for f in await check_all(db, account_id=account_id) if not f.is_ok]
