"""The whole app over ASGI, on this loop, on the real stack; customers with keys; a working hand."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from typing import Any
from uuid import UUID

import pytest
from httpx import ASGITransport, AsyncClient
from litestar import Litestar
from PIL import Image

from billing.accounts import create_account
from billing.db import SessionFactory
from billing.keys import KeyHasher, create_key
from billing.ledger import balance_of
from billing.posting import Balance
from gateway import jobs
from gateway.app import House, create_app
from gateway.settings import Settings
from tests.conftest import encoded_photograph
from tests.gateway.workshop import Workshop

PUBLIC_URL = "https://cutout.test"


@dataclass(frozen=True, slots=True)
class Customer:
    account_id: UUID
    key: str

    @property
    def bearer(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}

    @property
    def x_api_key(self) -> dict[str, str]:
        return {"x-api-key": self.key}


@pytest.fixture
def settings(make_settings: Callable[..., Settings]) -> Settings:
    return make_settings(public_url=PUBLIC_URL, default_model="cutout-lite")


@asynccontextmanager
async def living(app: Litestar) -> AsyncIterator[AsyncClient]:
    """Bring `app` up, and speak to it on this test's own loop, where its connections live.

    Its lifespan is in a task of its own: pytest sets a fixture up in one task and tears it down in
    another, which a task group inside refuses.
    """
    started, ending = asyncio.Event(), asyncio.Event()

    async def live() -> None:
        async with app.lifespan():
            started.set()
            await ending.wait()

    life = asyncio.create_task(live())
    starting = asyncio.create_task(started.wait())
    await asyncio.wait([life, starting], return_when=asyncio.FIRST_COMPLETED)
    transport = ASGITransport(app)  # type: ignore[arg-type]  # two spellings of ASGI
    async with AsyncClient(transport=transport, base_url="http://gateway") as client:
        yield client
    ending.set()
    await life


async def open_account(
    house: House, *, plan: str = "free", env: str = "live", **key: Any
) -> Customer:
    """Open an account with a key of its own: tests really commit, and share nothing."""
    peppers = house.settings.key_peppers
    hasher = KeyHasher({version: text.get_secret_value() for version, text in peppers.items()})
    async with house.sessions.begin() as db:
        account = await create_account(db, name="Ada", plan=plan, actor="test")
        _, plaintext = await create_key(
            db, hasher, account_id=account.id, env=env, actor="test", **key
        )
        return Customer(account.id, plaintext)


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
) -> AsyncIterator[Callable[..., Awaitable[tuple[AsyncClient, Customer]]]]:
    """Bring up an app with settings of its own, and a customer of it."""
    async with AsyncExitStack() as stack:

        async def make(
            *, key: dict[str, Any] | None = None, **overrides: Any
        ) -> tuple[AsyncClient, Customer]:
            app = create_app(make_settings(**({"public_url": PUBLIC_URL} | overrides)))
            client = await stack.enter_async_context(living(app))
            return client, await open_account(app.state.house, **(key or {}))

        yield make


@pytest.fixture
def new_customer(house: House) -> Callable[..., Awaitable[Customer]]:
    return partial(open_account, house)


@pytest.fixture
async def customer(new_customer: Callable[..., Awaitable[Customer]]) -> Customer:
    """A customer of the free plan: 250 credits."""
    return await new_customer()


@pytest.fixture
def balance(house: House) -> Callable[[Customer], Awaitable[Balance]]:
    async def read(customer: Customer) -> Balance:
        async with house.sessions.begin() as db:
            return await balance_of(db, customer.account_id)

    return read


@pytest.fixture
def work(house: House) -> Callable[[], Awaitable[int]]:
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
