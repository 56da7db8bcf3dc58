"""The audit trail as the page tells it: filtered, paged, and its first break found."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import pytest
from playwright.async_api import expect
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from billing import audit
from gateway.app import House
from gateway.dashboard import trail
from gateway.dashboard.trail import KNOWN_ACTIONS
from tests.gateway.dashboard.calls import Caller, asked, new_caller
from tests.gateway.faces import DESK, PHONE, Visit, form_word_on, needs_chromium

pytestmark = [needs_chromium, pytest.mark.browser]

SignIn = Callable[[str], Awaitable[str]]
PAGE = "/admin/audit"


@pytest.fixture
async def caller(served: str, house: House) -> Caller:
    return await new_caller(served, house, f"Audited {uuid4().hex[:8]}")


async def write(house: House, *, count: int = 1, **event: object) -> list[int]:
    known = {"actor": "staff:ada@example.com", "action": "test.act", "object_name": "thing"}
    async with house.sessions.begin() as db:
        return [await audit.record(db, **(known | event)) for _ in range(count)]  # type: ignore[arg-type]  # by name


async def listed(visit: Visit) -> list[int]:
    """Read the sequence numbers that are shown."""
    heads = visit.page.get_by_role("region", name="Audit events").locator("tbody th")
    return [int(text.replace(",", "")) for text in await heads.all_text_contents()]


async def test_events_are_found_by_actor_action_account_and_time(
    visit: Visit, signed_in: SignIn, house: House, caller: Caller
) -> None:
    actor = f"staff:{uuid4().hex[:8]}@example.com"
    (mine,) = await write(house, actor=actor, action="test.mine")
    (theirs,) = await write(
        house, account_id=caller.account_id, action="test.theirs", reason="=1+1"
    )
    await signed_in("viewer")
    await visit.open(PAGE)
    await visit.page.get_by_label("Who").fill(actor[6:14])
    await visit.page.get_by_role("button", name="Filter").click()
    assert await listed(visit) == [mine]
    await visit.open(PAGE)
    await visit.page.get_by_label("Did what").select_option("test.theirs")
    await visit.page.get_by_label("Account").fill(caller.name)
    await visit.page.get_by_role("button", name="Filter").click()
    assert await listed(visit) == [theirs]
    await expect(visit.page.get_by_text("=1+1")).to_be_visible()
    await visit.open(f"{PAGE}?account={caller.account_id}&until=2020-01-01")
    await expect(visit.page.get_by_text("Nothing was done like this.")).to_be_visible()
    today = await asked(house.sessions, "SELECT to_char(now(), 'YYYY-MM-DD')")
    await visit.open(
        f"{PAGE}?account={caller.account_id}&action=test.theirs&since={today}&until={today}"
    )
    assert await listed(visit) == [theirs]


async def test_the_filter_offers_every_act_once_and_in_order(
    visit: Visit, signed_in: SignIn, house: House
) -> None:
    for action in ("test.second", "test.first", "test.second"):
        await write(house, count=2, action=action)
    await signed_in("viewer")
    await visit.open(PAGE)
    offered = await visit.page.get_by_label("Did what").locator("option").all_text_contents()
    every = "SELECT array_agg(DISTINCT action ORDER BY action) FROM audit_event"
    assert offered == ["All", *await asked(house.sessions, every)]
    assert offered.index("test.first") < offered.index("test.second")


async def test_acts_that_the_filter_does_not_offer_are_told_of_and_found(
    visit: Visit, signed_in: SignIn, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    (last,) = await write(house, action="zzz.last")
    await write(house, action="test.second")
    await signed_in("viewer")
    every = await asked(house.sessions, "SELECT count(DISTINCT action) FROM audit_event")
    told = visit.page.get_by_text("and there are more.")
    monkeypatch.setattr(trail, "ACTIONS_MAX", every)
    await visit.open(PAGE)
    await expect(told).to_have_count(0)
    monkeypatch.setattr(trail, "ACTIONS_MAX", every - 1)
    await visit.open(PAGE)
    await expect(visit.page.get_by_label("Did what").locator("option")).to_have_count(every)
    await expect(told).to_contain_text(f"the first {every - 1} acts by name")
    await visit.check_accessible()
    for width, height in (DESK, PHONE):
        await visit.page.set_viewport_size({"width": width, "height": height})
        await visit.check_fits()
    await visit.open(f"{PAGE}?action=zzz.last")
    assert await listed(visit) == [last]
    await visit.page.get_by_role("button", name="Filter").click()
    assert await listed(visit) == [last], "what is not offered stays chosen"


@pytest.mark.usefixtures("served")  # it closes what the house has opened
async def test_the_filter_s_acts_are_found_without_reading_the_trail(house: House) -> None:
    await write(house, count=200)
    explained = text(f"EXPLAIN (ANALYZE, FORMAT JSON) {KNOWN_ACTIONS.text}")
    async with house.sessions() as db:
        plan = (await db.execute(explained, {"actions_max": 100})).scalar_one()
    reads = list(_reads_in(plan[0]["Plan"]))
    assert {read["Node Type"] for read in reads} == {"Index Only Scan"}
    assert max(read["Actual Rows"] for read in reads) == 1, "a row for each act, and no more"


def _reads_in(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Find where a plan reads the trail."""
    if node.get("Relation Name") == "audit_event":
        yield node
    for part in node.get("Plans", ()):
        yield from _reads_in(part)


async def test_pages_give_every_event_once_and_lead_back(
    visit: Visit, signed_in: SignIn, house: House
) -> None:
    action = f"test.{uuid4().hex[:8]}"
    written = await write(house, count=110, action=action)
    await signed_in("viewer")
    await visit.open(f"{PAGE}?action={action}")
    pages = [await listed(visit)]
    for _ in range(2):
        await visit.page.get_by_role("link", name="Next").click()
        pages.append(await listed(visit))
    assert [seq for page in pages for seq in page] == sorted(written, reverse=True)
    await visit.page.get_by_role("link", name="Previous").click()
    assert await listed(visit) == pages[1]


async def test_what_was_changed_is_told_on_demand(
    visit: Visit, signed_in: SignIn, house: House, caller: Caller
) -> None:
    await write(
        house,
        account_id=caller.account_id,
        action="test.change",
        before={"n": 1},
        after={"n": "<b>"},
    )
    await signed_in("viewer")
    await visit.open(f"{PAGE}?account={caller.account_id}&action=test.change")
    await visit.page.get_by_text("Show event").click()
    await expect(visit.page.get_by_text("n=1")).to_be_visible()
    await expect(visit.page.get_by_text("n=<b>")).to_be_visible()


@asynccontextmanager
async def rewritten(owner_engine: AsyncEngine, seq: int) -> AsyncIterator[None]:
    """Let the tables' owner have changed the past, which the application cannot."""
    change = text("UPDATE audit_event SET reason = :reason WHERE seq = :seq")

    async def rewrite(reason: str) -> None:
        async with owner_engine.begin() as connection:
            await connection.execute(text("ALTER TABLE audit_event DISABLE TRIGGER USER"))
            await connection.execute(change, {"reason": reason, "seq": seq})
            await connection.execute(text("ALTER TABLE audit_event ENABLE TRIGGER USER"))

    await rewrite("somebody else did it")
    yield
    await rewrite("as it was")


async def test_the_chain_is_verified_and_its_first_break_is_named(
    visit: Visit, signed_in: SignIn, house: House, owner_engine: AsyncEngine
) -> None:
    first, _ = await write(house, count=2, reason="as it was")
    await signed_in("viewer")
    await visit.open(PAGE)
    await visit.page.get_by_role("button", name="Verify the chain").click()
    events = await asked(house.sessions, "SELECT count(*) FROM audit_event")
    await expect(
        visit.page.get_by_text(f"All {events:,} events are as they were written")
    ).to_be_visible()
    async with rewritten(owner_engine, first):
        await visit.page.get_by_role("button", name="Verify the chain").click()
        title = f"The chain breaks at event {first:,}"
        await expect(visit.page.get_by_role("heading", name=title)).to_be_visible()
        await expect(visit.page.get_by_text("it is not what was written")).to_be_visible()
    await visit.page.get_by_role("button", name="Verify the chain").click()
    await expect(visit.page.get_by_role("heading", name="The chain is whole")).to_be_visible()


async def test_nobody_elses_form_verifies(visit: Visit, signed_in: SignIn) -> None:
    await signed_in("owner")
    assert await form_word_on(visit.page)
    forged = await visit.page.request.post(f"{visit.address}{PAGE}/verify", form={})
    assert forged.status == 403
