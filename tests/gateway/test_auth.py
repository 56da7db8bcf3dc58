"""Callers are found on a real Postgres, remembered for five seconds and never by their key."""

import asyncio
import time
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine

from billing.accounts import create_account
from billing.db import SessionFactory, make_engine, make_sessions
from billing.errors import KeyAddressError, KeyRevokedError, UnknownKeyError
from billing.keys import KeyHasher, create_key, revoke_key
from gateway import auth
from gateway.auth import LOOKUPS_MAX, Authenticator
from gateway.errors import MissingKeyError, OverloadedError

HASHER = KeyHasher({1: "pepper-of-the-tests-and-nobody-else"})
HOME, AWAY = "198.51.100.7", "203.0.113.9"


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def authenticator(committed_sessions: SessionFactory, clock: Clock) -> Authenticator:
    return Authenticator(committed_sessions, HASHER, clock=clock)


@pytest.fixture
def statements(engine: AsyncEngine) -> Iterator[list[str]]:
    """What is asked of Postgres."""
    asked: list[str] = []

    def listen(*args: Any) -> None:
        asked.append(args[2])

    event.listen(engine.sync_engine, "before_cursor_execute", listen)
    yield asked
    event.remove(engine.sync_engine, "before_cursor_execute", listen)


async def new_key(sessions: SessionFactory, **options: Any) -> tuple[UUID, str]:
    async with sessions.begin() as db:
        account = await create_account(db, name=uuid4().hex, plan="free", actor="test")
        key, plaintext = await create_key(
            db, HASHER, account_id=account.id, env="live", actor="test", **options
        )
        return key.id, plaintext


@pytest.fixture
async def key(committed_sessions: SessionFactory) -> tuple[UUID, str]:
    return await new_key(committed_sessions)


async def test_a_key_names_its_caller(authenticator: Authenticator, key: tuple[UUID, str]) -> None:
    caller = await authenticator.caller_for(key[1], HOME, request_id="r1")
    assert (caller.key.api_key_id, caller.address, caller.request_id) == (key[0], HOME, "r1")
    assert caller.key.plan == "free"


@pytest.mark.parametrize("plaintext", [None, ""])
async def test_no_key_is_told_apart_from_a_wrong_one(
    authenticator: Authenticator, plaintext: str | None
) -> None:
    with pytest.raises(MissingKeyError):
        await authenticator.caller_for(plaintext, HOME)


async def test_a_mistyped_key_is_refused_without_a_look_up(
    authenticator: Authenticator, key: tuple[UUID, str], statements: list[str]
) -> None:
    last = "0" if key[1][-1] != "0" else "1"
    for wrong in (key[1][:-1] + last, key[1][:-1], "cg_live_", "x" * 54, "cg_live_" + "ü" * 46):
        with pytest.raises(UnknownKeyError):
            await authenticator.caller_for(wrong, HOME)
    assert statements == []


async def test_a_caller_is_remembered_for_five_seconds(
    authenticator: Authenticator, key: tuple[UUID, str], statements: list[str], clock: Clock
) -> None:
    await authenticator.caller_for(key[1], HOME)
    count = len(statements)
    assert count
    for _ in range(20):
        clock.now += 0.2499
        await authenticator.caller_for(key[1], HOME)
    assert len(statements) == count
    clock.now += 0.01
    await authenticator.caller_for(key[1], HOME)
    assert len(statements) > count


async def test_a_revoked_key_is_refused_everywhere_within_five_seconds(
    committed_sessions: SessionFactory, key: tuple[UUID, str], clock: Clock
) -> None:
    gateways = [Authenticator(committed_sessions, HASHER, clock=clock) for _ in range(3)]
    for gateway in gateways:
        await gateway.caller_for(key[1], HOME)
        clock.now += 1
    async with committed_sessions.begin() as db:
        await revoke_key(db, key[0], actor="test", reason="lost")
    clock.now += 4
    for gateway in gateways[:2]:
        with pytest.raises(KeyRevokedError):
            await gateway.caller_for(key[1], HOME)
    clock.now += 1
    with pytest.raises(KeyRevokedError):
        await gateways[2].caller_for(key[1], HOME)


async def test_a_refusal_is_not_remembered(
    authenticator: Authenticator, committed_sessions: SessionFactory
) -> None:
    _, plaintext = await new_key(committed_sessions, ip_allow=[HOME])
    with pytest.raises(KeyAddressError):
        await authenticator.caller_for(plaintext, AWAY)
    await authenticator.caller_for(plaintext, HOME)
    with pytest.raises(KeyAddressError):  # known at home, which says nothing about elsewhere
        await authenticator.caller_for(plaintext, AWAY)


async def test_many_calls_of_a_new_key_cost_few_look_ups(
    authenticator: Authenticator, key: tuple[UUID, str], statements: list[str]
) -> None:
    await asyncio.gather(*(authenticator.caller_for(key[1], HOME) for _ in range(100)))
    assert sum("FROM api_key JOIN" in statement for statement in statements) <= LOOKUPS_MAX


async def test_what_is_remembered_has_no_key_in_it(
    authenticator: Authenticator, key: tuple[UUID, str]
) -> None:
    await authenticator.caller_for(key[1], HOME)
    [(digest, remembered)] = authenticator._remembered.items()
    assert len(digest) == 32
    assert key[1] not in repr((digest, remembered, vars(authenticator)))
    assert key[1].encode() not in digest


async def test_memory_is_bounded(
    authenticator: Authenticator,
    committed_sessions: SessionFactory,
    monkeypatch: pytest.MonkeyPatch,
    statements: list[str],
) -> None:
    monkeypatch.setattr(auth, "REMEMBERED_MAX", 2)
    _, plaintext = await new_key(committed_sessions)
    for host in range(5):
        await authenticator.caller_for(plaintext, f"198.51.100.{host}")
    assert len(authenticator._remembered) == 2
    statements.clear()
    await authenticator.caller_for(plaintext, "198.51.100.4")
    assert statements == []


async def test_while_postgres_is_away_callers_are_told_so_within_seconds(
    key: tuple[UUID, str],
) -> None:
    engine = make_engine("postgresql://nobody:nothing@127.0.0.1:1/nothing")
    authenticator = Authenticator(make_sessions(engine), HASHER)
    started_at = time.monotonic()
    outcomes = await asyncio.gather(
        *(authenticator.caller_for(key[1], f"198.51.100.{host}") for host in range(40)),
        return_exceptions=True,
    )
    assert time.monotonic() - started_at < 4
    assert {type(outcome) for outcome in outcomes} == {OverloadedError}
    await engine.dispose()
