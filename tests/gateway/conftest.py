"""The whole app over ASGI, on this loop, on the real stack; customers with keys; a working hand."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from io import BytesIO
from typing import Any

import pytest
from httpx import AsyncClient
from litestar import Litestar
from PIL import Image
from playwright.async_api import Browser

from billing.db import SessionFactory
from billing.ledger import balance_of
from billing.posting import Balance
from gateway import jobs
from gateway.app import House, create_app
from gateway.settings import Settings
from tests.conftest import encoded_photograph
from tests.gateway.faces import PHONE, Visit, launched, new_context, new_staff, served_app
from tests.gateway.web import (
    PUBLIC_URL,
    Customer,
    MakeClient,
    NewCustomer,
    ReadBalance,
    WorkOff,
    living,
    open_account,
)
from tests.gateway.workshop import Workshop


@pytest.fixture
def settings(make_settings: Callable[..., Settings]) -> Settings:
    return make_settings(public_url=PUBLIC_URL, default_model="cutout-lite")


@pytest.fixture
def app(settings: Settings) -> Litestar:
    return create_app(settings)


@pytest.fixture
def house(app: Litestar) -> House:
    house: House = app.state.house
    return house


@pytest.fixture
async def client(app: Litestar) -> AsyncIterator[AsyncClient]:
    async with living(app) as client:
        yield client


@pytest.fixture
async def make_client(
    make_settings: Callable[..., Settings],
) -> AsyncIterator[MakeClient]:
    """Bring up an app with settings of its own, and a customer of it."""
    async with AsyncExitStack() as stack:

        async def make(
            *, key: dict[str, Any] | None = None, **overrides: Any
        ) -> tuple[AsyncClient, Customer]:
            settings = make_settings(**({"public_url": PUBLIC_URL} | overrides))
            app = create_app(settings)
            client = await stack.enter_async_context(living(app))
            return client, await open_account(settings, app.state.house.sessions, **(key or {}))

        yield make


@pytest.fixture
async def served(app: Litestar) -> AsyncIterator[str]:
    """Give the address of the app, served on a free port of this machine."""
    async with served_app(app) as address:
        yield address


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    """Give the one Chromium of this run; each visit has a context of its own."""
    async with launched() as browser:
        yield browser


@pytest.fixture
async def visit(browser: Browser, served: str) -> AsyncIterator[Visit]:
    """Visit the app at a desk; fails on any complaint, refused content, or foreign request."""
    context = await new_context(browser)
    visit = Visit(await context.new_page(), served)
    visit.listen()
    yield visit
    await context.close()
    visit.check()


@pytest.fixture
async def phone_visit(browser: Browser, served: str) -> AsyncIterator[Visit]:
    """Visit the same on a telephone."""
    context = await new_context(browser, PHONE)
    visit = Visit(await context.new_page(), served)
    visit.listen()
    yield visit
    await context.close()
    visit.check()


@pytest.fixture
def signed_in(house: House, visit: Visit) -> Callable[[str], Awaitable[str]]:
    """Sign the visit in with a role; gives the email."""

    async def sign_in(role: str) -> str:
        email = await new_staff(house.sessions, role)
        await visit.sign_in(email)
        await visit.page.get_by_role("button", name="Sign out").wait_for(state="attached")
        return email

    return sign_in


@pytest.fixture
def new_customer(house: House, client: AsyncClient) -> NewCustomer:
    del client  # it closes what the house has opened
    return partial(open_account, house.settings, house.sessions)


@pytest.fixture
async def customer(new_customer: NewCustomer) -> Customer:
    """A customer of the free plan: 250 credits."""
    return await new_customer()


@pytest.fixture
def balance(house: House) -> ReadBalance:
    async def read(customer: Customer) -> Balance:
        async with house.sessions.begin() as db:
            return await balance_of(db, customer.account_id)

    return read


@pytest.fixture
def work(house: House) -> WorkOff:
    """Do what a worker does, until no job waits; tells how many it did."""

    async def work_off() -> int:
        count = 0
        while True:
            async with house.sessions.begin() as db:
                job = await jobs.claim(db, lease=house.settings.lease)
            if job is None:
                return count
            await house.cutouts.work(job.id, job.attempt)
            count += 1

    return work_off


@pytest.fixture
async def open_workshop(
    make_settings: Callable[..., Settings], committed_sessions: SessionFactory
) -> AsyncIterator[Callable[..., Awaitable[Workshop]]]:
    """Give what opens the use case without HTTP, with settings of the test's own."""
    opened: list[Workshop] = []

    async def open_one(**overrides: object) -> Workshop:
        workshop = Workshop.build(make_settings(**overrides), committed_sessions)
        await workshop.clear_queue()
        opened.append(workshop)
        return workshop

    yield open_one
    for workshop in opened:
        await workshop.close()


@pytest.fixture
async def workshop(open_workshop: Callable[..., Awaitable[Workshop]]) -> Workshop:
    """Give the use case without HTTP; the queue is empty."""
    return await open_workshop()


@pytest.fixture(scope="session")
def big_picture() -> bytes:
    """Give a photograph that takes most of a second, so that a test can come in between."""
    buffer = BytesIO()
    with Image.open(BytesIO(encoded_photograph("astronaut"))) as photograph:
        photograph.resize((2000, 2000)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()
