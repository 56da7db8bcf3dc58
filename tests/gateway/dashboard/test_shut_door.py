"""The door of the dashboard, shut, as a person in a browser meets it."""

from collections.abc import Awaitable, Callable

import pytest
from playwright.async_api import expect

from gateway.app import House
from gateway.dashboard.staff import FAILURES_MAX
from tests.gateway.faces import Visit, needs_chromium, new_staff

pytestmark = [needs_chromium, pytest.mark.browser]


async def test_a_wrong_password_is_refused_and_five_close_the_door(
    visit: Visit, house: House
) -> None:
    visit.expected += ["403", "429"]
    email = await new_staff(house.sessions, "owner")
    for _ in range(FAILURES_MAX):
        await visit.sign_in(email, "nearly the right one")
        await expect(visit.page.get_by_role("alert")).to_contain_text("is wrong")
    await visit.sign_in(email)
    await expect(visit.page.get_by_role("alert")).to_contain_text("Too many attempts")


async def test_a_role_that_is_too_small_is_told_which_it_takes(
    visit: Visit, signed_in: Callable[[str], Awaitable[str]]
) -> None:
    visit.expected.append("403")
    await signed_in("viewer")
    await visit.open("/admin/accounts/new")
    await expect(visit.page.get_by_role("heading", level=1)).to_have_text(
        "Your role does not allow this"
    )
    await expect(visit.page.get_by_text("owner")).to_be_visible()
