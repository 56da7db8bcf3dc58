"""Customers whose calls the dashboard shows: real pictures, real weights, over HTTP."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from httpx import AsyncClient
from sqlalchemy import text, update

from billing.db import SessionFactory
from billing.tables import Account
from gateway.app import House
from tests.conftest import encoded_photograph
from tests.gateway.web import Customer, open_account

CODIA = "/v1/open/remove_bg"
REVID = "/paid/image/remove/background"


@dataclass(frozen=True, slots=True)
class Caller:
    """A customer of a served app."""

    address: str
    house: House
    customer: Customer
    name: str

    @property
    def account_id(self) -> UUID:
        return self.customer.account_id

    async def call(self, picture: bytes | None = None) -> int:
        """Have a picture cut out while waiting; tells the status."""
        files = {"image": ("p.jpg", picture or encoded_photograph("coffee"))}
        async with AsyncClient(base_url=self.address, timeout=60) as client:
            answer = await client.post(CODIA, files=files, headers=self.customer.bearer)
        return answer.status_code

    async def submit(self, picture: bytes | None = None, **fields: str) -> UUID:
        """Submit a picture and give the job's id; somebody has to work on it."""
        files = {"file": ("p.jpg", picture or encoded_photograph("coffee"))}
        fields = {"model": "cutout-lite", **fields}
        async with AsyncClient(base_url=self.address, timeout=60) as client:
            answer = await client.post(
                REVID, files=files, data=fields, headers=self.customer.x_api_key
            )
        return UUID(answer.json()["task_id"])


async def new_caller(served: str, house: House, name: str, **key: Any) -> Caller:
    """Open an account called `name`, with a key."""
    customer = await open_account(house.settings, house.sessions, **key)
    async with house.sessions.begin() as db:
        await db.execute(update(Account).where(Account.id == customer.account_id).values(name=name))
    return Caller(served, house, customer, name)


async def asked(sessions: SessionFactory, query: str, **values: Any) -> Any:
    """Ask the database one number, past all of our own queries."""
    async with sessions() as db:
        return (await db.execute(text(query), values)).scalar_one()
