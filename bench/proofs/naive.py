"""The control of the kill storm: a worker as it is often written, which charges twice.

    python -m bench.proofs.naive PICTURE

It takes a job for a few seconds, makes the cutout, deducts the price, then marks the job done in a
second transaction; a job whose time is over is delivered again. Each step is right by itself.
"""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any, Final

import asyncpg

from core import Segmenter, cut_out, load_segmenter

READY: Final = b"naive.ready"
PAUSE_S: Final = 0.2
PRICE: Final = 25

TABLES: Final = """
CREATE SCHEMA naive;
CREATE TABLE naive.account (id int PRIMARY KEY, credits bigint NOT NULL);
CREATE TABLE naive.job (
    id int PRIMARY KEY, account_id int NOT NULL, state text NOT NULL DEFAULT 'queued',
    until timestamptz, deliveries int NOT NULL DEFAULT 0);
CREATE TABLE naive.charge (id int GENERATED ALWAYS AS IDENTITY, job_id int NOT NULL);
INSERT INTO naive.account SELECT n, 0 FROM generate_series(0, 19) n;
CREATE INDEX ON naive.job (id) WHERE state <> 'done';
"""
FILL: Final = "INSERT INTO naive.job SELECT n, n % 20 FROM generate_series(1, $1) n"
COUNT: Final = """
SELECT count(*) FILTER (WHERE state <> 'done'), count(*) FILTER (WHERE state = 'done')
FROM naive.job
"""
CLAIM: Final = """
UPDATE naive.job SET state = 'taken', until = now() + interval '4 s',
    deliveries = deliveries + 1
WHERE id = (
    SELECT id FROM naive.job
    WHERE state = 'queued' OR (state = 'taken' AND until < now())
    ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING id, account_id
"""
CHARGES: Final = """
SELECT count(*) AS "jobs done",
       count(*) FILTER (WHERE deliveries > 1) AS "jobs delivered again",
       (SELECT count(*) FROM naive.charge) AS "charges",
       (SELECT count(*) - count(DISTINCT job_id) FROM naive.charge) AS "double charges",
       (SELECT -sum(credits) FROM naive.account) AS "credits charged"
FROM naive.job WHERE state = 'done'
"""
DEDUCT: Final = "UPDATE naive.account SET credits = credits - $2 WHERE id = $1"
CHARGE: Final = "INSERT INTO naive.charge (job_id) VALUES ($1)"
MARK: Final = "UPDATE naive.job SET state = 'done' WHERE id = $1"


async def work_forever(database_url: str, picture: bytes, segmenter: Segmenter) -> None:
    while True:
        try:
            connection = await asyncpg.connect(database_url)
            while True:
                if not await do_one(connection, picture, segmenter):
                    await asyncio.sleep(PAUSE_S)
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            await asyncio.sleep(PAUSE_S)  # whatever was in work will be delivered again


async def do_one(connection: Any, picture: bytes, segmenter: Segmenter) -> bool:
    job = await connection.fetchrow(CLAIM)
    if job is None:
        return False
    cut_out(picture, segmenter)
    async with connection.transaction():
        await connection.execute(DEDUCT, job["account_id"], PRICE)
        await connection.execute(CHARGE, job["id"])
    await connection.execute(MARK, job["id"])
    return True


def main() -> None:
    segmenter = load_segmenter("cutout-lite", None)
    picture = Path(sys.argv[1]).read_bytes()
    cut_out(picture, segmenter)
    print(READY.decode(), flush=True)
    asyncio.run(work_forever(os.environ["NAIVE_DATABASE_URL"], picture, segmenter))


if __name__ == "__main__":
    main()
