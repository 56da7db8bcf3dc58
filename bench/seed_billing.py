"""10,000 accounts and 1,000,000 ledger entries of the last 90 days, in about two minutes.

    python -m bench.seed_billing --data-dir .cutout-seed
    python -m bench.seed_billing --database-url postgresql://owner:…@127.0.0.1/empty

The first keeps an embedded Postgres in that folder (`cutout up --data-dir` takes it over), and
prints its URL while `--stay` is given; the second fills a database that has no accounts yet, as
the role that owns it. With `--accounts` fewer, with `--seed` others, and with `--until` the same to
the microsecond. The lives are drawn in memory (`seed_lives.py`), written by COPY, and then every
invariant is asked; a breach is an error.

Keys are of random bytes: nobody can call with them. Results and sources are in no storage.
"""

import argparse
import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import asyncpg

from bench.seed_lives import Life, new_life
from bench.seed_rows import Tables
from billing.db import make_engine, make_sessions
from billing.invariants import run_and_record
from billing.plans import ensure_plans
from gateway.embedded.services import Embedded
from migrations.run import upgrade

ACCOUNTS: Final = 10_000
DAYS: Final = 90
SEED: Final = 20261120


@contextmanager
def served(asked: argparse.Namespace) -> Iterator[str]:
    """Give the owner's URL of the database to fill."""
    if asked.database_url:
        yield asked.database_url
        return
    asked.data_dir.mkdir(parents=True, exist_ok=True)
    asked.data_dir.chmod(0o711)
    with Embedded(asked.data_dir) as embedded:
        yield embedded.database_owner_url
        if asked.stay:
            print(f"owner        {embedded.database_owner_url}")
            print(f"application  {embedded.database_url}\nCtrl-C ends it.", flush=True)
            while True:
                time.sleep(3600)


def draw(asked: argparse.Namespace) -> list[Life]:
    until = asked.until or datetime.now(UTC)
    since = until - timedelta(days=DAYS)
    lives = [new_life(asked.seed, n, since=since, until=until) for n in range(asked.accounts)]
    return sorted(lives, key=lambda life: life.opened_at)


async def fill(url: str, lives: list[Life]) -> None:
    """Write all rows in one transaction; the database's own checks hold for them too."""
    engine = make_engine(url)
    try:
        async with make_sessions(engine).begin() as db:
            await ensure_plans(db)
    finally:
        await engine.dispose()
    connection: Any = await asyncpg.connect(url, server_settings={"statement_timeout": "0"})
    try:
        if await connection.fetchval("SELECT EXISTS (SELECT FROM account)"):
            raise SystemExit("this database has accounts already")
        plans = await connection.fetch("SELECT plan, id FROM plan_version WHERE version = 1")
        tables = Tables({row["plan"]: row["id"] for row in plans})
        tables.add_all(lives)
        async with connection.transaction():
            for name, columns, rows in tables:
                await connection.copy_records_to_table(name, records=rows, columns=columns)
            for table, column in (("ledger_txn", "id"), ("credit_grant", "seq")):
                await connection.execute(
                    "SELECT setval(pg_get_serial_sequence($1, $2), $3)",
                    *(table, column, tables.last_of[table]),
                )
            seq, digest = tables.audit_head
            await connection.execute("UPDATE audit_head SET seq = $1, hash = $2", seq, digest)
        await connection.execute("VACUUM ANALYZE")
    finally:
        await connection.close()


async def check(url: str) -> list[str]:
    """Ask every invariant of all that was written; tell the breaches."""
    engine = make_engine(url, server_settings={"statement_timeout": "0"})
    try:
        async with make_sessions(engine).begin() as db:
            findings = await run_and_record(db)
    finally:
        await engine.dispose()
    for finding in findings:
        print(f"{finding.name:4} {finding.count:6,} breaches  {finding.elapsed_ms:7,} ms")
    return [f"{finding.name}: {finding.sample}" for finding in findings if not finding.is_ok]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--database-url", help="of an empty database, for its owner")
    where.add_argument("--data-dir", type=Path, help="of an embedded one, made if missing")
    parser.add_argument("--accounts", type=int, default=ACCOUNTS)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--until", type=datetime.fromisoformat, help="ISO 8601 with a zone")
    parser.add_argument("--stay", action="store_true", help="serve the embedded database on")
    asked = parser.parse_args()
    with served(asked) as url:
        upgrade(url)
        started = time.monotonic()
        lives = draw(asked)
        drawn_s = time.monotonic() - started
        asyncio.run(fill(url, lives))
        filled_s = time.monotonic() - started - drawn_s
        entries = sum(len(txn.lines) for life in lives for txn in life.books.txns)
        calls = sum(len(life.calls) for life in lives)
        print(f"{len(lives):,} accounts, {entries:,} ledger entries, {calls:,} jobs;")
        print(f"drawn in {drawn_s:.0f} s, written in {filled_s:.0f} s")
        if breaches := asyncio.run(check(url)):
            raise SystemExit("\n".join(breaches))


if __name__ == "__main__":
    main()
