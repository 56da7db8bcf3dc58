"""The rules of the books as the page tells them, and asking them now."""

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from playwright.async_api import expect
from sqlalchemy import delete, func, select

from billing.invariants import TITLES
from billing.staff_tables import AuditEvent, InvariantRun
from gateway.app import House
from gateway.bookkeeping import Bookkeeper
from tests.gateway.faces import Visit, form_word_on, needs_chromium
from tests.gateway.workshop import until

pytestmark = [needs_chromium, pytest.mark.browser]

SignIn = Callable[[str], Awaitable[str]]
PAGE = "/admin/invariants"


@pytest.fixture
async def books(house: House, served: str) -> AsyncIterator[None]:
    """Let the rules have been asked, and forget what this test has found."""
    assert served
    await Bookkeeper(house.sessions).check_everything()
    yield
    async with house.sessions.begin() as db:
        await db.execute(delete(InvariantRun).where(~InvariantRun.is_ok))


async def count_runs(house: House) -> int:
    async with house.sessions() as db:
        return await db.scalar(select(func.count()).select_from(InvariantRun)) or 0


@pytest.mark.usefixtures("books")
async def test_all_seventeen_rules_are_there_with_their_last_answers(
    visit: Visit, signed_in: SignIn, house: House
) -> None:
    await signed_in("viewer")
    await visit.open(PAGE)
    rows = visit.page.get_by_role("region", name="Rules of the books").locator("tbody tr")
    names = [name.strip() for name in await rows.locator("th").all_text_contents()]
    assert names == [f"I{number}" for number in range(1, 18)]
    async with house.sessions() as db:
        newest = select(InvariantRun).order_by(InvariantRun.id.desc()).limit(len(TITLES))
        runs = {run.name: run for run in await db.scalars(newest)}
    for row in await rows.all():
        name = (await row.locator("th").inner_text()).strip()
        told = await row.inner_text()
        if name == "I13":
            assert "state machine" in told
            continue
        assert TITLES[name] in told
        assert ("ok" if runs[name].is_ok else "breach") in told
        assert f"{runs[name].started_at:%Y-%m-%d %H:%M:%S}" in told


@pytest.mark.usefixtures("books")
async def test_support_asks_every_rule_now_and_sees_the_answer_come(
    visit: Visit, signed_in: SignIn, house: House
) -> None:
    email = await signed_in("support")
    await visit.open(PAGE)
    before = await count_runs(house)
    await visit.page.get_by_role("button", name="Check everything now").click()
    await expect(visit.page.get_by_role("status")).to_contain_text("Every rule is being asked")

    async def is_answered() -> bool:
        return await count_runs(house) >= before + len(TITLES)

    await until(is_answered, seconds=30)
    async with house.sessions() as db:
        act = await db.scalar(select(AuditEvent).order_by(AuditEvent.seq.desc()).limit(1))
    assert act is not None
    assert (act.actor, act.action) == (f"staff:{email}", "invariants.check")
    async with house.sessions() as db:
        last = await db.scalar(select(func.max(InvariantRun.started_at)))
    assert last is not None
    shown = visit.page.locator(".standing time")
    await expect(shown).to_have_text(f"{last:%Y-%m-%d %H:%M:%S}", timeout=15_000)


@pytest.mark.usefixtures("books")
async def test_a_breach_is_shown_with_its_sample_and_kept(
    visit: Visit, signed_in: SignIn, house: House
) -> None:
    async with house.sessions.begin() as db:
        for name in TITLES:
            is_ok = name != "I7"
            sample = [] if is_ok else [{"job_id": "the-job"}]
            db.add(
                InvariantRun(name=name, is_ok=is_ok, count=not is_ok, sample=sample, elapsed_ms=1)
            )
    await signed_in("viewer")
    await visit.open(PAGE)
    await expect(visit.page.get_by_role("heading", name="I7 is broken")).to_be_visible()
    await expect(visit.page.get_by_text("job_id=the-job")).to_be_visible()

    await Bookkeeper(house.sessions).check_everything()
    await visit.open(PAGE)
    await expect(
        visit.page.get_by_role("heading", name="I7 was broken within a day")
    ).to_be_visible()
    await visit.page.get_by_role("link", name="I7", exact=True).click()
    breaches = visit.page.get_by_role("region", name="Breaches of I7")
    await expect(breaches.get_by_text("job_id=the-job")).to_be_visible()


async def test_a_viewer_asks_nothing_and_a_forged_form_neither(
    visit: Visit, signed_in: SignIn, house: House
) -> None:
    await signed_in("viewer")
    await visit.open(PAGE)
    await expect(visit.page.get_by_role("button", name="Check everything now")).to_have_count(0)
    before = await count_runs(house)
    word = await form_word_on(visit.page)
    refused = await visit.page.request.post(
        f"{visit.address}{PAGE}/check", form={"form_word": word}
    )
    assert refused.status == 403
    await signed_in("support")
    forged = await visit.page.request.post(f"{visit.address}{PAGE}/check", form={"form_word": "x"})
    assert forged.status == 403
    assert await count_runs(house) == before


async def test_a_rule_that_is_none_has_no_page(visit: Visit, signed_in: SignIn) -> None:
    await signed_in("viewer")
    assert (await visit.page.request.get(f"{visit.address}{PAGE}/I99")).status == 404
