"""Acts on how an account stands: opened, moved between plans, limited, suspended, closed."""

from collections.abc import Awaitable, Callable
from uuid import UUID

import pytest
from playwright.async_api import expect
from sqlalchemy import func, select

from billing.periods import live_subscription
from billing.tables import Account, PlanVersion, Subscription
from gateway.app import House
from tests.gateway.dashboard.acting import REASON, Actor, new_account
from tests.gateway.faces import Visit, needs_chromium

NONE = "\N{EN DASH}"
"""What stands where nothing is."""

pytestmark = [needs_chromium, pytest.mark.browser]


@pytest.fixture
async def owner(visit: Visit, house: House, signed_in: Callable[[str], Awaitable[str]]) -> Actor:
    """An owner, and an account of the free plan with 250 credits."""
    return Actor(visit, house, await signed_in("owner"), await new_account(house))


async def plans_of(owner: Actor) -> tuple[str, str | None]:
    """Read the plan that the account is on, and the one that waits."""
    async with owner.house.sessions() as db:
        live = await live_subscription(db, owner.account_id)
        assert live is not None
        now_on = await db.get_one(PlanVersion, live.plan_version_id)
        waiting = live.next_plan_version_id
        then = await db.get_one(PlanVersion, waiting) if waiting else None
        return now_on.plan, then.plan if then else None


async def test_an_account_is_created_with_its_first_credits(owner: Actor) -> None:
    name = f"Grace and Co {owner.account_id.hex[:8]}"
    await owner.ask("/admin/accounts/new", {"Name": name, "Plan": "starter"})
    assert (await owner.effect())["Available"] == (NONE, "5,000")
    async with owner.house.sessions() as db:
        count = select(func.count()).where(Account.name == name)
        assert await db.scalar(count) == 0, "nothing is done before it is confirmed"
    form = await owner.page.eval_on_selector(
        "main form", "form => Object.fromEntries(new FormData(form))"
    )
    await owner.confirm()

    await owner.told("The account is open.")
    await expect(owner.page.get_by_role("heading", level=1)).to_contain_text(name)
    again = await owner.page.request.post(owner.visit.address + "/admin/accounts/new", form=form)
    assert "nothing was done again" in await again.text()
    async with owner.house.sessions() as db:
        (account,) = await db.scalars(select(Account).where(Account.name == name))
    opened = Actor(owner.visit, owner.house, owner.email, account.id)
    assert (await opened.balance()).available == 5_000
    await opened.is_in_the_trail("account.create")


async def test_a_larger_plan_acts_now_with_its_share_of_the_period(owner: Actor) -> None:
    await owner.ask("plan", {"Plan": "starter", "When": "now"})
    effect = await owner.effect()
    assert effect["Plan"] == ("free", "starter")
    assert effect["Available"][0] == "250"
    await owner.confirm()

    await owner.told("The plan was changed.")
    assert await plans_of(owner) == ("starter", None)
    # A period that has just begun: all but a moment's share of the difference.
    assert 4_990 <= (await owner.balance()).available <= 5_000
    await owner.is_in_the_trail("subscription.change")
    await owner.books_are_right()


async def test_a_change_may_wait_for_the_period_s_end_and_be_called_off(owner: Actor) -> None:
    await owner.ask("plan", {"Plan": "growth", "When": "end"})
    assert (await owner.effect())["Plan after this period"] == (NONE, "growth")
    await owner.confirm()
    assert await plans_of(owner) == ("free", "growth")
    assert (await owner.balance()).available == 250

    await owner.page.get_by_role("link", name="Call the plan change off").click()
    await owner.page.get_by_label("Reason").fill(REASON)
    await owner.page.get_by_role("button", name="Show what it does").click()
    await owner.confirm()

    await owner.told("The plan stays as it is.")
    assert await plans_of(owner) == ("free", None)
    await owner.is_in_the_trail("subscription.cancel_change")


async def test_a_smaller_plan_always_waits(owner: Actor, house: House) -> None:
    large = Actor(owner.visit, house, owner.email, await new_account(house, plan="starter"))

    await large.act("plan", Plan="free", When="now")

    assert await plans_of(large) == ("starter", "free")
    assert (await large.balance()).available == 5_000


async def test_a_credit_limit_is_set(owner: Actor) -> None:
    await owner.act("limit", Credit_limit="5000")

    await owner.told("The limit was set.")
    assert (await owner.balance()).credit_limit == 5_000
    await owner.is_in_the_trail("account.set_credit_limit")


async def test_an_account_is_suspended_and_reactivated(owner: Actor) -> None:
    await owner.ask("suspend", {})
    assert (await owner.effect())["Status"] == ("active", "suspended")
    await owner.confirm()
    await owner.told("The account is suspended.")
    assert (await owner.account()).status == "suspended"
    await owner.is_in_the_trail("account.suspended")

    await owner.page.get_by_role("link", name="Reactivate").click()
    await owner.page.get_by_label("Reason").fill(REASON)
    await owner.page.get_by_role("button", name="Show what it does").click()
    await owner.confirm()

    await owner.told("The account is active.")
    assert (await owner.account()).status == "active"
    await owner.is_in_the_trail("account.active")


async def test_closing_voids_what_is_left_and_is_told_beforehand(owner: Actor) -> None:
    await owner.ask("close", {})
    effect = await owner.effect()
    assert effect["Available"] == ("250", "0")
    assert effect["Status"] == ("active", "closed")
    await owner.confirm()

    await owner.told("The account is closed.")
    assert (await owner.account()).status == "closed"
    assert (await owner.balance()).available == 0
    await owner.is_in_the_trail("account.closed")
    await owner.books_are_right()
    async with owner.house.sessions() as db:
        ended = select(Subscription.ended_at).where(Subscription.account_id == owner.account_id)
        assert await db.scalar(ended) is not None
    # What makes no sense any more is not offered.
    acts = owner.page.get_by_role("navigation", name="Acts").get_by_role("link")
    assert await acts.all_inner_texts() == ["Adjust"]


async def test_all_of_it_can_be_done_by_keyboard(owner: Actor) -> None:
    page = owner.page
    await owner.visit.open(f"{owner.here}/acts/limit")
    await page.get_by_label("Credit limit").focus()
    await page.keyboard.press("ControlOrMeta+a")
    await page.keyboard.type("700")
    await page.keyboard.press("Tab")
    await page.keyboard.type(REASON)
    await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", level=1)).to_have_text("Set the credit limit?")
    for _ in range(40):
        await page.keyboard.press("Tab")
        if (await page.evaluate("document.activeElement.textContent")).startswith("Yes:"):
            break
    await page.keyboard.press("Enter")

    await owner.told("The limit was set.")
    assert (await owner.balance()).credit_limit == 700


async def test_the_pages_of_an_act_fit_a_telephone_and_are_accessible(
    owner: Actor, phone_visit: Visit
) -> None:
    await phone_visit.sign_in(owner.email)
    for visit in (owner.visit, phone_visit):
        one = Actor(visit, owner.house, owner.email, owner.account_id)
        await visit.open(f"{one.here}/acts/close")
        await visit.check_fits()
        await visit.check_accessible()
        await one.ask("close", {})
        await visit.check_fits()
        await visit.check_accessible()
    assert isinstance(owner.account_id, UUID)
    assert (await owner.account()).status == "active"
