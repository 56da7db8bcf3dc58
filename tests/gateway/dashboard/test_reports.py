"""Every report at a desk and on a telephone, in light and dark, by keyboard, by all who may."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Literal
from uuid import uuid4

import pytest
from playwright.async_api import expect

from gateway.app import House
from tests.gateway.dashboard.calls import new_caller
from tests.gateway.faces import DESK, PHONE, Visit, needs_chromium
from tests.gateway.web import WorkOff

pytestmark = [needs_chromium, pytest.mark.browser]

PATIENCE_S = 10
"""How long a busy machine may take to scroll."""
SignIn = Callable[[str], Awaitable[str]]
PAGES = {
    "/admin": "Overview",
    "/admin?range=90d": "Overview",
    "/admin/jobs": "Jobs",
    "/admin/invariants": "Invariants",
    "/admin/invariants/I3": "I3: the balances are the sums of the entries",
    "/admin/audit": "Audit",
    "/admin/exports": "Exports",
    "/admin/system": "System",
}


async def a_lived_in_house(served: str, house: House, work: WorkOff) -> list[str]:
    """Let a customer with a very long name have called; give the jobs' pages."""
    name = f"The company with the longest name of all {uuid4().hex} & sons"
    caller = await new_caller(served, house, name, plan="growth")
    jobs = [
        await caller.submit(webhook_url="https://hooks.example.com/" + "x" * 60),
        await caller.submit(b"no picture"),
    ]
    await work()
    return [f"/admin/jobs/{job_id}" for job_id in jobs]


@pytest.mark.parametrize(
    "look", [("light", DESK), ("dark", DESK), ("light", PHONE), ("dark", PHONE)], ids=str
)
async def test_each_page_has_its_title_fits_and_keeps_nobody_out(
    visit: Visit,
    signed_in: SignIn,
    house: House,
    work: WorkOff,
    look: tuple[Literal["light", "dark"], tuple[int, int]],
) -> None:
    scheme, (width, height) = look
    jobs = await a_lived_in_house(visit.address, house, work)
    await visit.page.set_viewport_size({"width": width, "height": height})
    await visit.page.emulate_media(color_scheme=scheme)
    await signed_in("owner")
    for path, title in {**PAGES, **dict.fromkeys(jobs, "Job ")}.items():
        await visit.open(path)
        await expect(visit.page.get_by_role("heading", level=1)).to_contain_text(title)
        await visit.check_fits()
        await visit.check_accessible()


async def test_a_viewer_reads_every_page(visit: Visit, signed_in: SignIn) -> None:
    await signed_in("viewer")
    for path, title in PAGES.items():
        await visit.open(path)
        await expect(visit.page.get_by_role("heading", level=1)).to_contain_text(title)


async def test_nobody_reads_a_page_without_signing_in(visit: Visit) -> None:
    for path in PAGES:
        await visit.open(path)
        assert "/admin/sign-in" in visit.page.url


async def test_a_filter_is_filled_in_and_sent_by_keyboard(visit: Visit, signed_in: SignIn) -> None:
    await signed_in("viewer")
    await visit.open("/admin/audit")
    await visit.page.get_by_label("Who").focus()
    await visit.page.keyboard.type("nobody of this name")
    await visit.page.keyboard.press("Tab")
    focused = await visit.page.evaluate("document.activeElement.labels[0].textContent")
    assert focused == "Did what"
    await visit.page.keyboard.press("Enter")  # opens the list of choices
    await visit.page.keyboard.press("Escape")
    await visit.page.get_by_label("Who").press("Enter")
    await expect(visit.page.get_by_text("Nothing was done like this.")).to_be_visible()
    await expect(visit.page.get_by_label("Who")).to_have_value("nobody of this name")


async def test_a_table_is_scrolled_by_keyboard_on_a_telephone(
    visit: Visit, signed_in: SignIn
) -> None:
    await visit.page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
    await signed_in("viewer")
    await visit.open("/admin/invariants")
    region = visit.page.get_by_role("region", name="Rules of the books")
    await region.focus()
    async with asyncio.timeout(PATIENCE_S):
        while not await region.evaluate("region => region.scrollLeft > 0"):
            await visit.page.keyboard.press("ArrowRight", delay=50)
    await expect(region).to_be_focused()
