"""How Postgres finds the rows of the hot path, on books of some size.

python -m bench.proofs.explain
"""

import asyncio
from typing import Final
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from bench.proofs.ground import connected, database, open_funded
from billing import ledger

ACCOUNTS: Final = 100
GRANTS: Final = 8
HOLDS: Final = 5

OFF: Final = ("enable_seqscan", "enable_bitmapscan")
"""As `place_hold` has it."""

HOT: Final = {
    "the mutex": "SELECT * FROM credit_account WHERE account_id = :account_id FOR UPDATE",
    "is it open, has the key a budget?": "SELECT status, (SELECT budget_credits FROM api_key"
    " WHERE id = :job_id AND account_id = :account_id) FROM account WHERE id = :account_id",
    "the burn-down": "SELECT id, remaining FROM credit_grant WHERE account_id = :account_id"
    " AND closed_at IS NULL AND remaining > 0"
    " ORDER BY priority, expires_at NULLS LAST, effective_at, seq",
    "the hold": "SELECT * FROM hold WHERE job_id = :job_id FOR NO KEY UPDATE",
    "its slices": "SELECT grant_id, amount FROM hold_slice WHERE job_id = :job_id ORDER BY line",
    "was it done?": "SELECT id FROM ledger_txn WHERE account_id = :account_id"
    " AND op = 'capture' AND ref = :ref",
    "what is due": "SELECT account_id FROM credit_account WHERE next_due_at <= now()"
    " ORDER BY next_due_at LIMIT 100",
}


async def fill(db: AsyncSession, account_id: UUID) -> UUID:
    for n in range(GRANTS):
        await ledger.grant_credits(
            db,
            account_id,
            amount=100,
            source="promo",
            ref=str(n),
            actor="proof",
            reason="x",
            priority=n % 3,
        )
    job_id = account_id
    for n in range(HOLDS):
        job_id = UUID(int=account_id.int ^ n)
        await ledger.place_hold(
            db, account_id=account_id, job_id=job_id, amount=25, concurrency_max=None
        )
    return job_id


async def explain(db: AsyncSession, account_id: UUID, job_id: UUID) -> None:
    for name in OFF:
        await db.execute(text(f"SET LOCAL {name} = off"))
    arguments = {"account_id": account_id, "job_id": job_id, "ref": str(job_id)}
    for name, statement in HOT.items():
        used = {key: value for key, value in arguments.items() if f":{key}" in statement}
        plan = await db.scalars(text(f"EXPLAIN (ANALYZE, COSTS OFF) {statement}"), used)
        print(f"-- {name}\n{statement}")
        print("\n".join(f"   {line}" for line in plan), end="\n\n")


def main() -> None:
    with (
        database(is_durable=False) as url,
        asyncio.Runner() as runner,
        connected(url, runner) as sessions,
    ):

        async def work() -> None:
            for _ in range(ACCOUNTS):
                account_id = await open_funded(sessions, 1000)
                async with sessions.begin() as db:
                    job_id = await fill(db, account_id)
            async with sessions.begin() as db:
                await explain(db, account_id, job_id)

        runner.run(work())


if __name__ == "__main__":
    main()
