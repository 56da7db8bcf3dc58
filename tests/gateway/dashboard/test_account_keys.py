"""The keys of an account as the staff sees them, however many have ended."""

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta, tzinfo

import pytest
from playwright.async_api import expect

from gateway.app import House
from gateway.dashboard import accounts
from tests.gateway.dashboard.acting import Actor, new_account
from tests.gateway.faces import DESK, PHONE, Visit, needs_chromium
from tests.gateway.old_keys import write_old_keys

pytestmark = [needs_chromium, pytest.mark.browser]

SignIn = Callable[[str], Awaitable[str]]


class SlowClock(datetime):
    """A host whose clock is three hours behind the database's; a test cannot set the real one."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> "SlowClock":
        return super().now(tz) - timedelta(hours=3)


@pytest.fixture
async def support(visit: Visit, house: House, signed_in: SignIn) -> Actor:
    return Actor(visit, house, await signed_in("support"), await new_account(house))


async def names_on(visit: Visit, label: str) -> list[str]:
    rows = visit.page.get_by_role("region", name=label, exact=True).locator("tbody th .quiet")
    return await rows.all_text_contents()


async def test_thousands_of_ended_keys_hide_none_that_works(support: Actor, house: House) -> None:
    await support.new_key()
    await write_old_keys(house, support.account_id, count=5_000)
    key = await support.new_key()
    await support.visit.open(support.here)
    names = await names_on(support.visit, "Keys")
    assert names == ["a key", "a key", *(f"old {n}" for n in range(1, 6))]
    await expect(support.page.get_by_label(f"Revoke key {key.key_id}")).to_be_visible()
    await expect(support.page.get_by_label("Revoke key")).to_have_count(2)
    await expect(support.page.get_by_text("Of those that ended, the last 5.")).to_be_visible()
    await expect(support.page.get_by_text("works until")).to_have_count(0)


async def test_a_host_whose_clock_is_slow_lets_no_ended_key_live(
    support: Actor, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    await write_old_keys(house, support.account_id, count=2)
    monkeypatch.setattr(accounts, "datetime", SlowClock)
    for path, label in ((support.here, "Keys"), (f"{support.here}/keys", "Ended keys")):
        await support.visit.open(path)
        states = support.page.get_by_role("region", name=label, exact=True).locator(".badge")
        assert await states.all_text_contents() == ["expired", "expired"]
        await expect(support.page.get_by_label("Revoke key")).to_have_count(0)
        await expect(support.page.get_by_label("Rotate key")).to_have_count(0)


async def test_every_ended_key_is_found_once_by_its_pages(support: Actor, house: House) -> None:
    await write_old_keys(house, support.account_id, count=120)
    await support.visit.open(support.here)
    await support.page.get_by_role("link", name="All 120 ended keys").click()
    await expect(support.page.get_by_text("1 to 50 of 120")).to_be_visible()
    await support.visit.check_accessible()
    for width, height in (DESK, PHONE):
        await support.page.set_viewport_size({"width": width, "height": height})
        await support.visit.check_fits()
    names = await names_on(support.visit, "Ended keys")
    while await support.page.get_by_role("link", name="Next").count():
        await support.page.get_by_role("link", name="Next").click()
        await support.page.wait_for_load_state()
        names += await names_on(support.visit, "Ended keys")
    assert names == [f"old {n}" for n in range(1, 121)]
    states = support.page.get_by_role("region", name="Ended keys").locator("tbody .badge")
    assert set(await states.all_text_contents()) == {"revoked", "expired"}
    await expect(support.page.get_by_label("Revoke key")).to_have_count(0)


async def test_what_is_no_page_is_not_there(support: Actor) -> None:
    for path in ("/admin/accounts", f"{support.here}/keys"):
        for page, status in (("0", 404), ("-1", 404), ("x", 404), ("9" * 7, 404), ("7", 200)):
            address = f"{support.visit.address}{path}?page={page}"
            answer = await support.page.request.get(address)
            assert answer.status == status, address
