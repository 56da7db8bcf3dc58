"""Bring the database up to date and find or make the demo account: run once by each `cutout up`.

A process of its own, so that the supervisor stays small. Reads what an earlier run knew on standard
input and writes what the next one should know: the demo account with its key, and the first owner
of the dashboard with a password, which is empty once the owner has chosen another.
"""

import asyncio
import json
import secrets
import sys
from typing import Final
from uuid import UUID

from billing.accounts import create_account
from billing.db import SessionFactory, make_engine, make_sessions
from billing.errors import BillingError
from billing.keys import KeyHasher, authenticate, create_key
from gateway.dashboard.staff import create_staff, find_staff, is_password_of
from gateway.embedded.stack import (
    DEMO_BURST,
    DEMO_CONCURRENCY_MAX,
    DEMO_PLAN,
    DEMO_RATE_PER_MINUTE,
    PLAYGROUND_BUDGET_CREDITS,
    PLAYGROUND_BURST,
    PLAYGROUND_CONCURRENCY_MAX,
    PLAYGROUND_RATE_PER_MINUTE,
)
from gateway.settings import Settings, read_settings
from migrations.run import upgrade

ACTOR: Final = "cutout up"
OWNER: Final = "owner@localhost"
OWNER_PASSWORD_BYTES: Final = 12


async def prepare(settings: Settings, known: dict[str, str]) -> dict[str, str]:
    """Check what is known of the demo account, or make another one with its first key."""
    engine = make_engine(str(settings.database_url))
    try:
        sessions = make_sessions(engine)
        hasher = KeyHasher(settings.peppers)
        owner = await _first_owner(sessions, known)
        if known and await _still_works(sessions, hasher, known["api_key"]):
            return known | owner | await _playground_key(sessions, hasher, known)
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
            known = {"account_id": str(account.id), "api_key": plaintext}
        return known | owner | await _playground_key(sessions, hasher, known)
    finally:
        await engine.dispose()


async def _playground_key(
    sessions: SessionFactory, hasher: KeyHasher, known: dict[str, str]
) -> dict[str, str]:
    """Keep the key behind the page at `/`, or make the demo account one with small limits."""
    plaintext = known.get("playground_key", "")
    if not plaintext or not await _still_works(sessions, hasher, plaintext):
        async with sessions.begin() as db:
            _, plaintext = await create_key(
                db,
                hasher,
                account_id=UUID(known["account_id"]),
                env="live",
                name="playground",
                scopes=["cutout"],
                rate_per_minute=PLAYGROUND_RATE_PER_MINUTE,
                burst=PLAYGROUND_BURST,
                concurrency_max=PLAYGROUND_CONCURRENCY_MAX,
                budget_credits=PLAYGROUND_BUDGET_CREDITS,
                actor=ACTOR,
            )
    return {"playground_key": plaintext}


async def _first_owner(sessions: SessionFactory, known: dict[str, str]) -> dict[str, str]:
    """Make the dashboard's first owner, or tell whether the password that we know still fits."""
    async with sessions.begin() as db:
        user = await find_staff(db, OWNER)
        password = known.get("admin_password", "")
        if user is None:
            password = secrets.token_urlsafe(OWNER_PASSWORD_BYTES)
            await create_staff(db, email=OWNER, password=password, role="owner", actor=ACTOR)
        elif not await is_password_of(user, password):
            password = ""
    return {"admin_email": OWNER, "admin_password": password}


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
