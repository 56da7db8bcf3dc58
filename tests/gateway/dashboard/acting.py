"""Somebody who acts in a browser, and what the database says of it afterwards."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from playwright.async_api import Page, expect
from sqlalchemy import select

from billing.accounts import create_account
from billing.invariants import check_account
from billing.keys import KeyHasher, create_key
from billing.ledger import capture, place_hold
from billing.posting import Balance, read_balance
from billing.staff_tables import AuditEvent
from billing.tables import Account, ApiKey, CreditGrant
from gateway.app import House
from tests.gateway.faces import Visit

REASON = "a test wants it"


@dataclass(frozen=True, slots=True)
class Actor:
    """A signed-in person, one account, and the database behind both."""

    visit: Visit
    house: House
    email: str
    account_id: UUID

    @property
    def page(self) -> Page:
        return self.visit.page

    @property
    def here(self) -> str:
        return f"/admin/accounts/{self.account_id}"

    async def ask(self, path: str, said: Mapping[str, str], *, reason: str = REASON) -> None:
        """Fill an act's form in and have its effect shown. Choices are given by their value."""
        await self.visit.open(path if path.startswith("/") else f"{self.here}/acts/{path}")
        for label, value in said.items():
            field = self.page.get_by_label(label, exact=False).first
            if await field.evaluate("one => one.tagName") == "SELECT":
                await field.select_option(value)
            else:
                await field.fill(value)
        await self.page.get_by_label("Reason").fill(reason)
        await self.page.get_by_role("button", name="Show what it does").click()

    async def confirm(self) -> None:
        await self.page.get_by_role("button", name="Yes:").click()

    async def act(self, path: str, **said: str) -> None:
        """Do an act from its form to its end; labels are written with _ for each space."""
        await self.ask(path, {label.replace("_", " "): value for label, value in said.items()})
        await self.confirm()

    async def told(self, words: str) -> None:
        await expect(self.page.get_by_role("status")).to_contain_text(words)

    async def effect(self) -> dict[str, tuple[str, str]]:
        """Read off the confirmation what changes, and from what to what."""
        rows = self.page.locator("table.effect tbody tr")
        found = {}
        for row in range(await rows.count()):
            cells = await rows.nth(row).locator("th, td").all_inner_texts()
            found[cells[0]] = (cells[1], cells[2])
        return found

    async def balance(self) -> Balance:
        async with self.house.sessions() as db:
            return await read_balance(db, self.account_id)

    async def account(self) -> Account:
        async with self.house.sessions() as db:
            return await db.get_one(Account, self.account_id)

    async def grants(self, **said: Any) -> list[CreditGrant]:
        """Read the account's grants of which so much is true, oldest first."""
        chosen = select(CreditGrant).where(CreditGrant.account_id == self.account_id)
        async with self.house.sessions() as db:
            found = await db.scalars(chosen.filter_by(**said).order_by(CreditGrant.seq))
            return list(found)

    async def keys(self) -> list[ApiKey]:
        async with self.house.sessions() as db:
            mine = select(ApiKey).where(ApiKey.account_id == self.account_id)
            return list(await db.scalars(mine.order_by(ApiKey.created_at)))

    async def events(self, action: str) -> list[AuditEvent]:
        async with self.house.sessions() as db:
            mine = select(AuditEvent).where(
                AuditEvent.account_id == self.account_id, AuditEvent.action == action
            )
            return list(await db.scalars(mine.order_by(AuditEvent.seq)))

    async def is_in_the_trail(self, action: str) -> AuditEvent:
        """Find the one line that the act left, with this person's name and reason."""
        (event,) = await self.events(action)
        assert (event.actor, event.reason) == (f"staff:{self.email}", REASON)
        return event

    async def books_are_right(self) -> None:
        async with self.house.sessions.begin() as db:
            assert await check_account(db, self.account_id) == []

    async def charged_job(self, amount: int = 25) -> UUID:
        job_id = await self.held_job(amount)
        async with self.house.sessions.begin() as db:
            await capture(db, job_id)
        return job_id

    async def held_job(self, amount: int = 25) -> UUID:
        job_id = uuid4()
        async with self.house.sessions.begin() as db:
            await place_hold(
                db,
                account_id=self.account_id,
                job_id=job_id,
                amount=amount,
                concurrency_max=None,
            )
        return job_id

    async def new_key(self, env: str = "live") -> ApiKey:
        hasher = KeyHasher(self.house.settings.peppers)
        async with self.house.sessions.begin() as db:
            key, _ = await create_key(
                db, hasher, account_id=self.account_id, env=env, name="a key", actor="test"
            )
            return key


async def new_account(house: House, *, plan: str = "free", name: str = "Ada and Sons") -> UUID:
    async with house.sessions.begin() as db:
        return (await create_account(db, name=name, plan=plan, actor="test")).id
