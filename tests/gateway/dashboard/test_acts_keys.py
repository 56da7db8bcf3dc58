"""Acts on keys: shown once, in force, limited, rotated, revoked."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import pytest
from playwright.async_api import expect

from billing.errors import KeyRevokedError
from billing.keys import KeyFacts, KeyHasher, authenticate
from gateway.app import House
from tests.gateway.dashboard.acting import Actor, new_account
from tests.gateway.faces import Visit, needs_chromium

pytestmark = [needs_chromium, pytest.mark.browser]


@pytest.fixture
async def owner(visit: Visit, house: House, signed_in: Callable[[str], Awaitable[str]]) -> Actor:
    return Actor(visit, house, await signed_in("owner"), await new_account(house))


async def facts_of(owner: Actor, text: str) -> KeyFacts:
    async with owner.house.sessions.begin() as db:
        return await authenticate(db, KeyHasher(owner.house.settings.peppers), text)


async def shown(owner: Actor) -> str:
    await expect(owner.page.get_by_text("The key, this once")).to_be_visible()
    return await owner.page.locator("#secret").inner_text()


async def test_a_key_is_made_and_shown_once(owner: Actor) -> None:
    await owner.ask("create-key", {"Kind": "test", "Name": "for CI"})
    form = await owner.page.eval_on_selector(
        "main form", "form => Object.fromEntries(new FormData(form))"
    )
    assert await owner.keys() == []
    await owner.confirm()

    text = await shown(owner)
    facts = await facts_of(owner, text)
    assert (facts.account_id, facts.env) == (owner.account_id, "test")
    again = await owner.page.request.post(
        f"{owner.visit.address}{owner.here}/acts/create-key", form=form
    )
    assert text not in await again.text()
    assert len(await owner.keys()) == 1
    await owner.visit.open(owner.here)
    assert text not in await owner.page.content()
    event = await owner.is_in_the_trail("key.create")
    assert text not in str(event.after)


async def test_an_enterprise_key_has_limits_of_its_own_and_goes_first(owner: Actor) -> None:
    await owner.act(
        "create-enterprise-key",
        Calls_a_minute="9000",
        Burst="500",
        Jobs_at_once="77",
        Budget="100000",
    )

    facts = await facts_of(owner, await shown(owner))
    assert facts.env == "enterprise"
    assert (facts.rate_per_minute, facts.burst, facts.concurrency_max) == (9_000, 500, 77)
    assert facts.queue_class == "priority"
    (key,) = await owner.keys()
    assert key.budget_credits == 100_000


async def test_an_enterprise_key_can_be_given_what_the_console_takes_to_manage_keys(
    owner: Actor,
) -> None:
    await owner.act("create-enterprise-key", May="admin")
    assert (await facts_of(owner, await shown(owner))).scopes == {"admin"}
    await owner.act("create-enterprise-key")
    assert (await facts_of(owner, await shown(owner))).scopes == {"cutout", "read"}


async def test_a_key_may_be_used_from_named_networks_alone(owner: Actor) -> None:
    owner.visit.expected.append("422")
    await owner.ask("create-key", {"Only from these networks": "203.0.113.0/24, the office"})
    await expect(owner.page.get_by_role("alert")).to_contain_text("A network is written")
    assert await owner.keys() == []

    await owner.act("create-key", Only_from_these_networks="203.0.113.7/24, 2001:db8::/32")
    (key,) = await owner.keys()
    assert key.ip_allow == ["203.0.113.0/24", "2001:db8::/32"]


async def test_limits_are_set_and_taken_away_again(owner: Actor) -> None:
    key = await owner.new_key()

    await owner.act(f"limit-key?key={key.id}", Calls_a_minute="30", Queue="priority")
    await owner.told("The limits were set.")
    (limited,) = await owner.keys()
    assert (limited.rate_per_minute, limited.queue_class) == (30, "priority")
    event = await owner.is_in_the_trail("key.set_limits")
    assert event.before is not None
    assert event.after is not None
    assert (event.before["rate_per_minute"], event.after["rate_per_minute"]) == (None, 30)

    await owner.page.get_by_role("link", name=f"Set the limits of key {key.key_id}").click()
    assert await owner.page.get_by_label("Calls a minute").input_value() == "30"
    await owner.act(f"limit-key?key={key.id}", Calls_a_minute="", Queue="")
    (free,) = await owner.keys()
    assert (free.rate_per_minute, free.queue_class) == (None, None)


async def test_a_rotated_key_works_for_its_grace(owner: Actor) -> None:
    key = await owner.new_key()

    await owner.act(f"rotate-key?key={key.id}", The_old_text_works="2")

    facts = await facts_of(owner, await shown(owner))
    old, new = await owner.keys()
    assert (facts.api_key_id, new.rotated_from) == (new.id, old.id)
    assert old.grace_until is not None
    left_h = (old.grace_until - datetime.now(UTC)).total_seconds() / 3600
    assert 1.9 < left_h <= 2
    await owner.is_in_the_trail("key.rotate")


async def test_a_revoked_key_opens_nothing(owner: Actor) -> None:
    await owner.act("create-key", Kind="live")
    text = await shown(owner)
    (key,) = await owner.keys()
    await owner.visit.open(owner.here)
    await owner.page.get_by_role("link", name=f"Revoke key {key.key_id}").click()
    await owner.page.get_by_label("Reason").fill("a test wants it")
    await owner.page.get_by_role("button", name="Show what it does").click()
    await owner.confirm()

    await owner.told("The key is revoked.")
    with pytest.raises(KeyRevokedError):
        await facts_of(owner, text)
    await owner.is_in_the_trail("key.revoke")


async def test_the_key_of_another_account_is_not_there(owner: Actor, house: House) -> None:
    owner.visit.expected.append("404")
    other = Actor(owner.visit, house, owner.email, await new_account(house))
    key = await other.new_key()

    await owner.visit.open(f"{owner.here}/acts/revoke-key?key={key.id}")

    await expect(owner.page.get_by_role("heading", name="Not found")).to_be_visible()
