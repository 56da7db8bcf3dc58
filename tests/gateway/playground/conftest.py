"""The playground as a visitor meets it: served, with a worker's hand behind it and a demo key."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from playwright.async_api import Browser

from billing.db import SessionFactory
from gateway.app import House
from gateway.settings import Settings
from tests.gateway.faces import PHONE, Visit, new_context
from tests.gateway.playground.bench import Bench
from tests.gateway.web import PUBLIC_URL, WorkOff, open_account

LOOK_S = 0.05


@pytest.fixture
def demo_limits() -> dict[str, Any] | None:
    """Give the limits of the key behind the page; None puts no key there."""
    return {}


@pytest.fixture
async def settings(
    make_settings: Callable[..., Settings],
    committed_sessions: SessionFactory,
    demo_limits: dict[str, Any] | None,
) -> Settings:
    known: dict[str, Any] = {"public_url": PUBLIC_URL, "default_model": "cutout-lite"}
    if demo_limits is None:
        return make_settings(**known)
    plain = make_settings(**known)
    demo = await open_account(plain, committed_sessions, plan="growth", **demo_limits)
    return make_settings(**known, playground_key=demo.key)


@pytest.fixture
async def hand(house: House, work: WorkOff) -> AsyncIterator[None]:
    """Work as a worker does; nobody of this address has asked for anything yet."""
    await house.redis.flushdb()

    async def go_on() -> None:
        while True:
            await work()
            await asyncio.sleep(LOOK_S)

    working = asyncio.create_task(go_on())
    yield
    working.cancel()
    await asyncio.wait([working])


@pytest.fixture
async def bench(visit: Visit, hand: None) -> Bench:
    """Open the page at a desk."""
    del hand
    await visit.open("/")
    return Bench(visit)


@pytest.fixture
async def phone_bench(phone_visit: Visit, hand: None) -> Bench:
    """Open the same on a telephone."""
    del hand
    await phone_visit.open("/")
    return Bench(phone_visit)


@pytest.fixture
async def touched_bench(browser: Browser, served: str, hand: None) -> AsyncIterator[Bench]:
    """Open it where fingers do what a mouse does, and motion is unwelcome."""
    del hand
    context = await new_context(browser, PHONE, has_touch=True, reduced_motion="reduce")
    visit = Visit(await context.new_page(), served)
    visit.listen()
    await visit.open("/")
    yield Bench(visit)
    await context.close()
    visit.check()
