"""Acts on credits, done in a browser; what they did is read from the database."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest
from playwright.async_api import expect

from gateway.app import House
from tests.gateway.dashboard.acting import Actor, new_account
from tests.gateway.faces import Visit, needs_chromium

pytestmark = [needs_chromium, pytest.mark.browser]


@pytest.fixture
async def finance(visit: Visit, house: House, signed_in: Callable[[str], Awaitable[str]]) -> Actor:
    """A person of finance, and an account of the free plan with 250 credits."""
    return Actor(visit, house, await signed_in("finance"), await new_account(house))


async def test_a_top_up_is_granted_after_its_effect_was_shown(finance: Actor) -> None:
    await finance.ask("grant", {"Credits": "1,000"})

    assert (await finance.effect())["Available"] == ("250", "1,250")
    assert (await finance.balance()).available == 250, "nothing is done before it is confirmed"
    await finance.confirm()

    await finance.told("The credits were granted.")
    assert (await finance.balance()).available == 1_250
    (grant,) = await finance.grants(source="topup")
    assert grant.expires_at is None
    event = await finance.is_in_the_trail("credits.grant")
    assert event.after is not None
    assert event.after["credits"] == 1_000
    await finance.books_are_right()


async def test_a_promotion_ends_with_the_day_that_was_named(finance: Actor) -> None:
    day = datetime.now(UTC) + timedelta(days=30)

    await finance.act(
        "grant", Credits="100", Given_as="promo", Valid_until_the_end_of=f"{day:%Y-%m-%d}"
    )

    (grant,) = await finance.grants(source="promo")
    assert grant.expires_at == datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(1)


async def test_a_balance_is_adjusted_downwards(finance: Actor) -> None:
    await finance.ask("adjust", {"Credits": "-100"})
    assert (await finance.effect())["Available"] == ("250", "150")
    await finance.confirm()

    await finance.told("The balance was adjusted.")
    assert (await finance.balance()).available == 150
    await finance.is_in_the_trail("credits.adjust")
    await finance.books_are_right()


async def test_what_the_ledger_refuses_is_told_in_the_form_and_nothing_is_lost(
    finance: Actor,
) -> None:
    finance.visit.expected.append("422")

    await finance.ask("adjust", {"Credits": "-251"}, reason="too much")

    await expect(finance.page.get_by_role("alert")).to_contain_text("below the credit limit")
    assert await finance.page.get_by_label("Credits").input_value() == "-251"
    assert await finance.page.get_by_label("Reason").input_value() == "too much"
    assert (await finance.balance()).available == 250


async def test_a_job_is_refunded_once(finance: Actor) -> None:
    finance.visit.expected.append("422")
    job_id = await finance.charged_job()

    await finance.ask("refund", {"Job": str(job_id)})
    assert (await finance.effect())["Available"] == ("225", "250")
    await finance.confirm()
    await finance.told("The job was refunded.")
    await finance.ask("refund", {"Job": str(job_id)})

    await expect(finance.page.get_by_role("alert")).to_contain_text("was refunded already")
    assert (await finance.balance()).available == 250
    assert len(await finance.grants(source="refund")) == 1
    await finance.is_in_the_trail("job.refund")
    await finance.books_are_right()


async def test_the_job_of_another_account_is_not_refunded_from_this_one(
    finance: Actor, house: House
) -> None:
    finance.visit.expected.append("422")
    other = Actor(finance.visit, house, finance.email, await new_account(house))
    job_id = await other.charged_job()

    await finance.ask("refund", {"Job": str(job_id)})

    await expect(finance.page.get_by_role("alert")).to_contain_text("no such job")
    assert (await other.balance()).available == 225


async def test_what_was_not_charged_is_not_refunded(finance: Actor) -> None:
    finance.visit.expected.append("422")
    for job_id in (await finance.held_job(), await finance.charged_job(amount=0)):
        await finance.ask("refund", {"Job": str(job_id)})
        await expect(finance.page.get_by_role("alert")).to_contain_text("was not charged")
    assert await finance.grants(source="refund") == []


async def test_a_grant_is_voided_from_the_account_s_page(finance: Actor) -> None:
    await finance.act("grant", Credits="500")
    await finance.visit.open(finance.here)
    await finance.page.get_by_role("link", name="Void grant 2").click()
    await expect(finance.page.get_by_text("500 of 500 credits")).to_be_visible()
    await finance.page.get_by_label("Reason").fill("a test wants it")
    await finance.page.get_by_role("button", name="Show what it does").click()
    assert (await finance.effect())["Available"] == ("750", "250")
    await finance.confirm()

    await finance.told("The grant is void.")
    (grant,) = await finance.grants(source="topup")
    assert (grant.closed_reason, grant.remaining) == ("voided", 0)
    assert (await finance.balance()).available == 250
    await finance.is_in_the_trail("grant.void")
    await finance.books_are_right()


async def test_a_grant_is_extended_and_what_is_held_of_it_stays(finance: Actor) -> None:
    soon = datetime.now(UTC) + timedelta(days=2)
    later = datetime.now(UTC) + timedelta(days=60)
    await finance.act(
        "grant", Credits="100", Given_as="promo", Valid_until_the_end_of=f"{soon:%Y-%m-%d}"
    )
    await finance.held_job()
    (before,) = await finance.grants(source="promo")

    await finance.act(f"extend?grant={before.id}", Valid_until_the_end_of=f"{later:%Y-%m-%d}")

    await finance.told("The credits live longer now.")
    old, new = await finance.grants(source="promo")
    assert (old.remaining, old.held, old.expires_at) == (0, 25, before.expires_at)
    assert (new.remaining, new.amount) == (75, 75)
    assert new.expires_at is not None
    assert f"{new.expires_at - timedelta(seconds=1):%Y-%m-%d}" == f"{later:%Y-%m-%d}"
    assert (await finance.balance()).available == 325
    await finance.is_in_the_trail("grant.extend")


async def test_a_form_that_is_sent_twice_acts_once(finance: Actor) -> None:
    await finance.ask("grant", {"Credits": "1000"})
    form = await finance.page.eval_on_selector(
        "main form", "form => Object.fromEntries(new FormData(form))"
    )
    for _ in range(3):
        answer = await finance.page.request.post(finance.page.url, form=form)
        assert answer.ok
    await finance.confirm()

    await finance.told("That was done before")
    assert (await finance.balance()).available == 1_250
    assert len(await finance.grants(source="topup")) == 1
    assert len(await finance.events("credits.grant")) == 1


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"Credits": "a hundred"}, "whole number"),
        ({"Credits": "0"}, "at least 1"),
        ({"Credits": "99999999999999"}, "whole number"),
    ],
)
async def test_a_number_that_is_none_is_asked_for_again(
    finance: Actor, said: dict[str, str], words: str
) -> None:
    finance.visit.expected.append("422")

    await finance.ask("grant", said)

    await expect(finance.page.get_by_role("alert")).to_contain_text(words)
    assert (await finance.balance()).available == 250
