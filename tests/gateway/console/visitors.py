"""Customers at their console: over HTTP, as behind TLS, and in a browser."""

import re
from dataclasses import dataclass
from typing import Any

from httpx import URL, AsyncClient, Response
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from billing.accounts import create_account
from billing.keys import KeyHasher, create_key, key_id_from
from billing.tables import ApiKey
from gateway.app import House
from gateway.tables import Job
from tests.conftest import encoded_photograph
from tests.gateway.faces import Visit
from tests.gateway.web import Customer

SIGN_IN = "/console/sign-in"
COOKIE = "__Host-cutout_console"
ALL = ("cutout", "read", "admin")
WORD = re.compile(r'name="form_word" value="([0-9a-f]{64})"')


@dataclass(frozen=True, slots=True)
class Guest:
    """A browser without a screen, signed in with a key."""

    client: AsyncClient
    customer: Customer
    word: str

    async def get(self, path: str) -> Response:
        return await self.client.get(path)

    async def send(self, path: str, **fields: Any) -> Response:
        return await self.client.post(path, data={"form_word": self.word} | fields)


async def new_key(house: House, account_id: Any, **key: Any) -> str:
    """Make a key of an account that is there; gives its text."""
    async with house.sessions.begin() as db:
        _, plaintext = await create_key(
            db,
            KeyHasher(house.settings.peppers),
            account_id=account_id,
            actor="test",
            **({"env": "live", "scopes": ALL} | key),
        )
    return plaintext


async def new_customer(house: House, *, plan: str = "free", **key: Any) -> Customer:
    """Open an account with a key that may do everything, unless told otherwise."""
    async with house.sessions.begin() as db:
        account = await create_account(db, name="Ada", plan=plan, actor="test")
    return Customer(account.id, await new_key(house, account.id, **key))


async def signed_in(client: AsyncClient, customer: Customer) -> Guest:
    """Sign in over HTTP alone."""
    client.base_url = URL("https://gateway")
    client.cookies.clear()
    answer = await client.post(SIGN_IN, data={"key": customer.key})
    assert answer.status_code == 303, answer.text
    page = await client.get("/console/limits")
    word = WORD.search(page.text)
    return Guest(client, customer, word[1] if word else "")


async def come_in(visit: Visit, customer: Customer) -> None:
    """Sign in as a person does."""
    await visit.open(SIGN_IN)
    await visit.page.get_by_label("API key").fill(customer.key)
    await visit.page.get_by_role("button", name="Sign in").click()
    await visit.page.get_by_role("button", name="Sign out").wait_for()


async def make_cutout(client: AsyncClient, customer: Customer, **fields: str) -> None:
    """Make a real cutout with the customer's key."""
    answer = await client.post(
        "/v1/open/remove_bg",
        headers=customer.bearer,
        files={"image": ("p.jpg", encoded_photograph("coffee"))},
        data=fields,
    )
    assert answer.status_code == 200, answer.text


async def key_row(db: AsyncSession, plaintext: str) -> ApiKey:
    chosen = select(ApiKey).where(ApiKey.key_id == key_id_from(plaintext))
    return (await db.scalars(chosen.execution_options(populate_existing=True))).one()


async def jobs_of(house: House, customer: Customer) -> list[Job]:
    chosen = select(Job).where(Job.account_id == customer.account_id).order_by(Job.created_at)
    async with house.sessions() as db:
        return list(await db.scalars(chosen))
