"""Every page of the console on a desk and on a telephone, in light and in dark."""

from collections.abc import AsyncIterator

import pytest
from httpx import AsyncClient
from playwright.async_api import Browser, expect

from gateway.app import House
from tests.gateway.console.test_webhooks import failed_delivery
from tests.gateway.console.visitors import come_in, jobs_of, key_row, make_cutout, new_customer
from tests.gateway.faces import PHONE, Visit, needs_chromium, new_context
from tests.gateway.web import Customer

pytestmark = [needs_chromium, pytest.mark.browser]


@pytest.fixture
async def lively(served: str, house: House) -> tuple[Customer, list[str]]:
    """Give a customer who has some of everything, and all addresses that show it."""
    customer = await new_customer(house, name="Shop", budget_credits=70)
    async with AsyncClient(base_url=served, timeout=60) as client:
        await make_cutout(client, customer)
    (job,) = await jobs_of(house, customer)
    delivery_id = await failed_delivery(house, customer)
    async with house.sessions() as db:
        key_id = (await key_row(db, customer.key)).key_id
    places = ("", "/usage", "/statement", "/jobs", "/keys", "/limits", "/webhooks")
    deeper = (
        *(f"/jobs/{job.id}", f"/webhooks/{delivery_id}", "/keys/new"),
        *(f"/keys/{key_id}/rotate", f"/keys/{key_id}/revoke"),
    )
    return customer, [f"/console{path}" for path in (*places, *deeper)]


@pytest.fixture
async def dark_visit(browser: Browser, served: str) -> AsyncIterator[Visit]:
    context = await new_context(browser, PHONE)
    page = await context.new_page()
    await page.emulate_media(color_scheme="dark")
    visit = Visit(page, served)
    visit.listen()
    yield visit
    await context.close()
    visit.check()


async def test_every_page_fits_and_is_accessible(
    visit: Visit, dark_visit: Visit, lively: tuple[Customer, list[str]]
) -> None:
    customer, paths = lively
    for one in (visit, dark_visit):
        await come_in(one, customer)
        for path in paths:
            await one.open(path)
            await expect(one.page.get_by_role("heading", level=1)).to_be_visible()
            await one.check_fits()
            await one.check_accessible()


async def test_the_place_one_is_at_is_in_sight_on_a_telephone(
    phone_visit: Visit, lively: tuple[Customer, list[str]]
) -> None:
    await come_in(phone_visit, lively[0])
    await phone_visit.open("/console/webhooks")
    place = phone_visit.page.locator('.places [aria-current="page"]')
    await expect(place).to_have_text("Webhooks")
    await expect(place).to_be_in_viewport(ratio=1)


async def test_a_keyboard_goes_through_all_places_in_order(
    visit: Visit, lively: tuple[Customer, list[str]]
) -> None:
    await come_in(visit, lively[0])
    order = await visit.tab_order(10)
    assert order[:2] == ["Skip to the content", "Cutout console"]
    assert order[2:9] == [
        *("Overview", "Usage", "Statement", "Jobs", "Keys", "Limits", "Webhooks"),
    ]
    assert order[9] == "Sign out"
