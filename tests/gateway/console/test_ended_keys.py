"""An account with thousands of ended keys: its pages show what matters, and where the rest is."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from httpx import AsyncClient
from playwright.async_api import expect

from billing.key_lists import LIVING_MAX
from gateway.app import House
from tests.gateway.console.visitors import (
    come_in,
    key_row,
    make_cutout,
    new_customer,
    new_key,
    signed_in,
)
from tests.gateway.faces import DESK, PHONE, Visit, needs_chromium
from tests.gateway.old_keys import write_old_keys

NAME = re.compile(r'<th scope="row">(.*?) <span class="badge')
MANY = 5_000


async def test_the_living_are_shown_and_of_thousands_that_ended_the_last_few(
    client: AsyncClient, house: House
) -> None:
    customer = await new_customer(house, name="Mine")
    await new_key(house, customer.account_id, name="Shop")
    soon = datetime.now(UTC) + timedelta(days=1)
    await new_key(house, customer.account_id, name="Guest", expires_at=soon)
    await write_old_keys(house, customer.account_id, count=MANY)
    guest = await signed_in(client, customer)
    page = (await guest.get("/console/keys")).text
    names = NAME.findall(page)
    assert set(names[:3]) == {"Mine", "Shop", "Guest"}
    assert names[3:] == [f"old {n}" for n in range(1, 11)]
    assert "5,000 ended keys" in page
    assert len(page) < 30_000


async def test_an_ended_key_is_no_reason_to_refuse_a_new_one(
    client: AsyncClient, house: House
) -> None:
    customer = await new_customer(house)
    await write_old_keys(house, customer.account_id, count=200)
    guest = await signed_in(client, customer)
    form = {"env": "live", "scope": ["read"], "new_id": "6f1c2f6e-60d5-4a7e-9a0a-3f6b6f2f7c11"}
    assert (await guest.send("/console/keys", **form, name="New")).status_code == 201


async def test_whoever_has_very_many_living_keys_is_told_how_many(
    client: AsyncClient, house: House
) -> None:
    customer = await new_customer(house)
    for _ in range(LIVING_MAX + 2):
        await new_key(house, customer.account_id)
    guest = await signed_in(client, customer)
    page = (await guest.get("/console/keys")).text
    assert len(NAME.findall(page)) == LIVING_MAX
    assert "The 200 used last of 203." in page


async def test_a_key_is_told_by_what_ended_it_first(client: AsyncClient, house: House) -> None:
    customer = await new_customer(house)
    now = datetime.now(UTC).replace(hour=12)
    expired, soon = now - timedelta(days=9), now + timedelta(days=3)
    late = await new_key(house, customer.account_id, name="Revoked late", expires_at=expired)
    renewed = await new_key(house, customer.account_id, name="Renewed", expires_at=soon)
    async with house.sessions.begin() as db:
        (await key_row(db, late)).revoked_at = now - timedelta(days=2)
        (await key_row(db, renewed)).grace_until = now + timedelta(days=7)
    guest = await signed_in(client, customer)
    rows = (await guest.get("/console/keys")).text.split("<tr>")
    (ended,) = [row for row in rows if "Revoked late" in row]
    assert re.findall(r"expired|revoked|2\d{3}-\d\d-\d\d", ended) == [
        "expired",
        f"{expired:%Y-%m-%d}",
    ]
    (living,) = [row for row in rows if "Renewed" in row]
    assert f"works until {soon:%Y-%m-%d}" in living


@pytest.mark.parametrize("page", ["0", "-1", "x", "9" * 7])
async def test_what_is_no_page_is_not_there(client: AsyncClient, house: House, page: str) -> None:
    guest = await signed_in(client, await new_customer(house))
    assert (await guest.get(f"/console/keys/ended?page={page}")).status_code == 404


async def test_past_the_last_page_nothing_is_listed(client: AsyncClient, house: House) -> None:
    customer = await new_customer(house)
    await write_old_keys(house, customer.account_id, count=3)
    guest = await signed_in(client, customer)
    answer = await guest.get("/console/keys/ended?page=7")
    assert answer.status_code == 200
    assert "No key has ended so long ago." in answer.text


async def test_other_pages_call_keys_by_name_however_many_there_were(
    client: AsyncClient, house: House
) -> None:
    customer = await new_customer(house, name="The one that calls")
    await write_old_keys(house, customer.account_id, count=MANY)
    await make_cutout(client, customer)
    guest = await signed_in(client, customer)
    for path in ("/console/jobs", "/console/usage", "/console/usage.csv"):
        assert "The one that calls" in (await guest.get(path)).text, path


@needs_chromium
@pytest.mark.browser
async def test_every_ended_key_is_found_once_by_its_pages(visit: Visit, house: House) -> None:
    customer = await new_customer(house)
    await write_old_keys(house, customer.account_id, count=120)
    await come_in(visit, customer)
    await visit.open("/console/keys")
    await visit.page.get_by_text("120 ended keys").first.click()
    await visit.page.get_by_role("link", name="All 120 ended keys").click()
    await expect(visit.page.get_by_text("1 to 50 of 120")).to_be_visible()
    await visit.check_accessible()
    for width, height in (DESK, PHONE):
        await visit.page.set_viewport_size({"width": width, "height": height})
        await visit.check_fits()
    names = NAME.findall(await visit.page.content())
    while await visit.page.get_by_role("link", name="Next").count():
        await visit.page.get_by_role("link", name="Next").click()
        await visit.page.wait_for_load_state()
        names += NAME.findall(await visit.page.content())
    assert names == [f"old {n}" for n in range(1, 121)]
    await expect(visit.page.get_by_text("101 to 120 of 120")).to_be_visible()
    await visit.page.get_by_role("link", name="Previous").click()
    await expect(visit.page.get_by_text("51 to 100 of 120")).to_be_visible()
