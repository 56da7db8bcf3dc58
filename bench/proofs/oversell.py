"""A thousand callers, each for 25 credits, at once, on 10,000 credits: 400 get them. Each round.

    python -m bench.proofs.oversell [--rounds 20]

Every round has a new account, and asks every invariant of it afterwards.
"""

import argparse
import asyncio
import time
from collections import Counter
from uuid import UUID, uuid4

from sqlalchemy import text

from bench.proofs.ground import breaches, connected, database, open_funded
from billing import ledger
from billing.db import SessionFactory, transact
from billing.errors import InsufficientCreditsError

CALLERS = 1000
PRICE = 25
CREDITS = 10_000


async def one_round(sessions: SessionFactory) -> Counter[str]:
    account_id = await open_funded(sessions, CREDITS)

    async def call() -> str:
        job_id: UUID = uuid4()
        try:
            await transact(
                sessions,
                lambda db: ledger.place_hold(
                    db, account_id=account_id, job_id=job_id, amount=PRICE, concurrency_max=None
                ),
            )
        except InsufficientCreditsError:
            return "refused"
        return "held"

    answers = Counter(await asyncio.gather(*(call() for _ in range(CALLERS))))
    async with sessions.begin() as db:
        count = text("SELECT count(*), sum(amount) FROM hold WHERE account_id = :account_id")
        held, amount = (await db.execute(count, {"account_id": account_id})).one()
    assert (held, amount) == (CREDITS // PRICE, CREDITS), (held, amount)
    assert answers == {"held": CREDITS // PRICE, "refused": CALLERS - CREDITS // PRICE}, answers
    assert await breaches(sessions, account_id) == []
    return answers


def prove(url: str, *, rounds: int) -> None:
    with asyncio.Runner() as runner, connected(url, runner) as sessions:
        started = time.monotonic()
        seen = Counter(str(dict(runner.run(one_round(sessions)))) for _ in range(rounds))
        took_s = time.monotonic() - started
    print(f"oversell: {rounds} rounds of {CALLERS} callers, {took_s:.0f} s; answers: {dict(seen)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    asked = parser.parse_args()
    with database() as url:
        prove(url, rounds=asked.rounds)


if __name__ == "__main__":
    main()
