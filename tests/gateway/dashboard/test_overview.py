"""The overview: what it says is what the database says, and what is wrong is seen first."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from playwright.async_api import Locator, expect
from sqlalchemy import delete, func, select, update

from billing.staff_tables import AdminSession, InvariantRun
from gateway.app import House
from tests.gateway.dashboard.calls import asked, new_caller
from tests.gateway.faces import Visit, needs_chromium
from tests.gateway.web import WorkOff

pytestmark = [needs_chromium, pytest.mark.browser]

SignIn = Callable[[str], Awaitable[str]]
MINUS = "\N{MINUS SIGN}"


def number_of(text: str) -> int:
    return int(re.sub(rf"[^\d{MINUS}]", "", text).replace(MINUS, "-"))


async def tile(visit: Visit, label: str) -> str:
    """Read a tile's value, and what stands below it."""
    box = visit.page.locator(".tile", has=visit.page.get_by_text(label, exact=True))
    return await box.locator("dd").inner_text()


def figure_of(visit: Visit, chart: str) -> Locator:
    return visit.page.locator("figure.chart", has_text=chart)


async def column(visit: Visit, chart: str, head: str) -> list[int]:
    """Read a column of a chart's numbers."""
    figure = figure_of(visit, chart)
    heads = [text.strip() for text in await figure.locator("thead th").all_text_contents()]
    cells = figure.locator(f"tbody tr td:nth-child({heads.index(head) + 1})")
    return [number_of(text) for text in await cells.all_text_contents()]


async def test_the_figures_are_those_of_the_database(
    visit: Visit, signed_in: SignIn, house: House, served: str, work: WorkOff
) -> None:
    caller = await new_caller(served, house, f"Overview {uuid4().hex[:6]}", plan="growth")
    assert await caller.call() == 200
    await caller.submit()
    await caller.submit(b"no picture at all")
    await work()
    await house.refusal_counts.write()
    await signed_in("viewer")
    await visit.open("/admin?range=7d")

    since = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(6)

    def jobs(state: str) -> Awaitable[int]:
        query = "SELECT count(*) FROM job WHERE state = :state AND finished_at >= :since"
        return asked(house.sessions, query, state=state, since=since)

    assert sum(await column(visit, "Calls", "Succeeded")) == await jobs("succeeded")
    assert sum(await column(visit, "Calls", "Failed")) == await jobs("failed")
    assert sum(await column(visit, "Calls", "Refused")) == await asked(
        house.sessions,
        "SELECT coalesce(sum(calls), 0) FROM refusal_count WHERE hour >= :since",
        since=since,
    )
    captured = await asked(
        house.sessions,
        "SELECT coalesce(sum(e.amount), 0) FROM ledger_entry e JOIN ledger_txn t ON t.id = e.txn_id"
        " WHERE e.bucket = 'consumed' AND t.op = 'capture' AND t.effective_at >= :since",
        since=since,
    )
    assert sum(await column(visit, "Credits used", "Consumed")) == captured
    months = await asked(
        house.sessions,
        "SELECT sum(v.price_minor) FROM subscription s JOIN plan_version v"
        " ON v.id = s.plan_version_id WHERE s.ended_at IS NULL",
    )
    assert f"USD {months / 100:,.2f}" in await tile(visit, "Monthly revenue")
    sums = await visit.page.get_by_text("All of time:").inner_text()
    issued = await asked(
        house.sessions, "SELECT -sum(amount) FROM ledger_entry WHERE bucket = 'issued'"
    )
    assert number_of(sums.split("credits issued")[0]) == issued


async def test_the_balances_at_the_foot_add_up(visit: Visit, signed_in: SignIn) -> None:
    await signed_in("viewer")
    line = await visit.page.get_by_text("All of time:").inner_text()
    issued, *parts = [number_of(text) for text in re.findall(rf"{MINUS}?[\d,]+", line)]
    assert issued == sum(parts)


@asynccontextmanager
async def breach(house: House) -> AsyncIterator[None]:
    """Let a check have found a rule broken."""
    async with house.sessions.begin() as db:
        run = InvariantRun(name="I3", is_ok=False, count=2, sample=[{"a": "b"}], elapsed_ms=1)
        db.add(run)
    yield
    async with house.sessions.begin() as db:
        await db.execute(delete(InvariantRun).where(InvariantRun.id == run.id))


async def test_a_broken_rule_is_what_the_eye_finds_first(
    visit: Visit, signed_in: SignIn, house: House
) -> None:
    async with breach(house):
        await signed_in("viewer")
        banner = visit.page.locator(".standing")
        await expect(banner).to_have_class(re.compile(r"\bbad\b"))
        await expect(banner.get_by_role("heading")).to_contain_text("Something is wrong: books")
        await expect(banner).to_contain_text("I3 broken within a day")
        top = await banner.bounding_box()
        assert top is not None
        assert top["y"] < 250


async def test_the_standing_is_renewed_while_the_page_is_open(
    visit: Visit, signed_in: SignIn, house: House, served: str, work: WorkOff
) -> None:
    caller = await new_caller(served, house, "Live")
    await visit.page.clock.install()
    await signed_in("viewer")
    queue = visit.page.locator(".alarms li", has_text="Queue")
    before = number_of((await queue.inner_text()).split("waiting")[0])
    await caller.submit()
    await visit.page.clock.fast_forward(11_000)
    await expect(queue).to_contain_text(f"{before + 1} waiting")
    await work()


async def test_the_range_is_switched_by_keyboard(visit: Visit, signed_in: SignIn) -> None:
    await signed_in("viewer")
    rows = figure_of(visit, "Calls").locator("tbody tr")
    await expect(rows).to_have_count(7)
    await visit.page.get_by_role("link", name="24 hours").focus()
    await visit.page.keyboard.press("Enter")
    await expect(visit.page.get_by_role("link", name="24 hours")).to_have_attribute(
        "aria-current", "true"
    )
    await expect(rows).to_have_count(24)


async def test_the_charts_are_drawn_and_can_be_read_as_tables(
    visit: Visit, signed_in: SignIn
) -> None:
    await signed_in("viewer")
    await expect(visit.page.locator("figure.chart canvas")).to_have_count(3)
    await visit.page.get_by_text("Show the numbers of Calls").click()
    await expect(visit.page.get_by_role("region", name="Calls, numbers")).to_be_visible()


async def test_a_page_that_renews_itself_keeps_nobody_signed_in(
    visit: Visit, signed_in: SignIn, house: House
) -> None:
    await signed_in("viewer")
    seen = datetime.now(UTC) - timedelta(minutes=20)
    async with house.sessions.begin() as db:
        await db.execute(update(AdminSession).values(last_seen_at=seen))

    async def last_seen() -> datetime | None:
        async with house.sessions() as db:
            return await db.scalar(select(func.max(AdminSession.last_seen_at)))

    part = f"{visit.address}/admin/overview/standing"
    answer = await visit.page.request.get(part, headers={"HX-Request": "true"})
    assert "alarms" in await answer.text()
    assert await last_seen() == seen
    await visit.page.request.get(f"{visit.address}/admin/exports")
    assert await last_seen() != seen


async def test_who_is_signed_out_meanwhile_is_taken_to_the_door(
    visit: Visit, signed_in: SignIn, house: House
) -> None:
    await visit.page.clock.install()
    await signed_in("viewer")
    await visit.page.wait_for_load_state()
    await visit.open("/admin/system")
    async with house.sessions.begin() as db:
        await db.execute(delete(AdminSession))
    await visit.page.clock.fast_forward(11_000)
    await visit.page.wait_for_url("**/admin/sign-in?next=/admin/system")
