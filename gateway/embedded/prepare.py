"""Bring the database up to date and find or make the demo account: run once by each `cutout up`.

A process of its own, so that the supervisor stays small. Reads what an earlier run knew on standard
input and writes what the next one should know, `{"account_id": …, "api_key": …}`.
"""

import asyncio
import json
import sys
from typing import Final

from billing.accounts import create_account
from billing.db import SessionFactory, make_engine, make_sessions
from billing.errors import BillingError
from billing.keys import KeyHasher, authenticate, create_key
from gateway.embedded.stack import (
    DEMO_BURST,
    DEMO_CONCURRENCY_MAX,
    DEMO_PLAN,
    DEMO_RATE_PER_MINUTE,
)
from gateway.settings import Settings, read_settings
from migrations.run import upgrade

ACTOR: Final = "cutout up"


async def prepare(settings: Settings, known: dict[str, str]) -> dict[str, str]:
    """Check what is known of the demo account, or make another one with its first key."""
    engine = make_engine(str(settings.database_url))
    try:
        sessions = make_sessions(engine)
        hasher = KeyHasher(settings.peppers)
        if known and await _still_works(sessions, hasher, known["api_key"]):
            return known
        async with sessions.begin() as db:
            account = await create_account(db, name="Demo", plan=DEMO_PLAN, actor=ACTOR)
            _, plaintext = await create_key(
                db,
                hasher,
                account_id=account.id,
                env="live",
                name="demo",
                rate_per_minute=DEMO_RATE_PER_MINUTE,
                burst=DEMO_BURST,
                concurrency_max=DEMO_CONCURRENCY_MAX,
                actor=ACTOR,
            )
            return {"account_id": str(account.id), "api_key": plaintext}
    finally:
        await engine.dispose()


async def _still_works(sessions: SessionFactory, hasher: KeyHasher, plaintext: str) -> bool:
    try:
        async with sessions.begin() as db:
            await authenticate(db, hasher, plaintext)
    except BillingError:
        return False
    return True


def main() -> None:
    settings = read_settings()
    upgrade(str(settings.database_owner_url))
    print(json.dumps(asyncio.run(prepare(settings, json.load(sys.stdin)))))  # noqa: T201 - the answer


if __name__ == "__main__":
    main()
