"""Jobs: found by what is asked for, told in full, and their pictures shown to nobody else."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from httpx import AsyncClient
from playwright.async_api import expect
from sqlalchemy import func, select, update

from gateway.app import House
from gateway.sweep import Sweeper
from gateway.tables import Job, WebhookDelivery
from tests.gateway.dashboard.calls import Caller, asked, new_caller
from tests.gateway.faces import Visit, needs_chromium
from tests.gateway.web import WorkOff

pytestmark = [needs_chromium, pytest.mark.browser]

SignIn = Callable[[str], Awaitable[str]]


@pytest.fixture
async def caller(served: str, house: House) -> Caller:
    return await new_caller(served, house, f"Jobs {uuid4().hex[:8]}", plan="growth")


async def listed(visit: Visit) -> list[str]:
    """Read the ids that the list links to."""
    links = visit.page.locator("tbody th a")
    return [
        str(await links.nth(row).get_attribute("href")).rsplit("/", 1)[1]
        for row in range(await links.count())
    ]


async def test_a_list_is_what_was_asked_for(
    visit: Visit, signed_in: SignIn, house: House, caller: Caller, work: WorkOff
) -> None:
    good, bad = await caller.submit(), await caller.submit(b"no picture")
    await work()
    await signed_in("viewer")
    await visit.open("/admin/jobs")
    await visit.page.get_by_label("Account").fill(caller.name)
    await visit.page.get_by_role("button", name="Filter").click()
    assert await listed(visit) == [str(bad), str(good)]

    await visit.page.get_by_label("State").select_option("failed")
    await visit.page.get_by_role("button", name="Filter").click()
    assert await listed(visit) == [str(bad)]

    code = await asked(house.sessions, "SELECT error_code FROM job WHERE id = :id", id=bad)
    await visit.open(f"/admin/jobs?account={caller.account_id}&error={code}")
    assert await listed(visit) == [str(bad)]
    await visit.open(f"/admin/jobs?account={caller.account_id}&error=internal_error")
    await expect(visit.page.get_by_text("No job is like this.")).to_be_visible()
    await visit.open(f"/admin/jobs?account={caller.account_id}&model=cutout-lite&until=2020-01-01")
    await expect(visit.page.get_by_text("No job is like this.")).to_be_visible()
    await visit.open(f"/admin/jobs?account={caller.account_id}&model=cutout-lite&state=succeeded")
    assert await listed(visit) == [str(good)]


async def test_pages_give_every_job_once_and_lead_back(
    visit: Visit, signed_in: SignIn, house: House, caller: Caller
) -> None:
    first = await caller.submit(b"x")
    await _copy(house, first, count=119)
    await signed_in("viewer")
    await visit.open(f"/admin/jobs?account={caller.account_id}")
    await expect(visit.page.get_by_text("120 found")).to_be_visible()
    pages = [await listed(visit)]
    for _ in range(2):
        await visit.page.get_by_role("link", name="Next").click()
        pages.append(await listed(visit))
    assert [len(page) for page in pages] == [50, 50, 20]
    assert len({job_id for page in pages for job_id in page}) == 120
    await expect(visit.page.get_by_role("link", name="Next")).to_have_count(0)
    for page in (pages[1], pages[0]):
        await visit.page.get_by_role("link", name="Previous").click()
        assert await listed(visit) == page


async def _copy(house: House, job_id: UUID, *, count: int) -> None:
    """Write the same job again and again, one a second earlier than the next; end them all."""
    async with house.sessions.begin() as db:
        job = (await db.scalars(select(Job).where(Job.id == job_id))).one()
        columns = {key: getattr(job, key) for key in Job.__mapper__.columns.keys()}  # noqa: SIM118
        ended = {"state": "canceled", "finished_at": func.now(), "is_tidy": True}
        for number in range(count):
            at = job.created_at - timedelta(seconds=number // 3)  # some at the very same time
            db.add(Job(**{**columns, **ended, "id": uuid4(), "created_at": at}))


async def test_a_job_is_found_by_its_id(
    visit: Visit, signed_in: SignIn, caller: Caller, work: WorkOff
) -> None:
    job_id = await caller.submit()
    await work()
    await signed_in("viewer")
    await visit.open("/admin/jobs")
    await visit.page.get_by_label("Job", exact=True).fill(str(job_id))
    await visit.page.keyboard.press("Enter")
    await visit.page.wait_for_url(f"**/admin/jobs/{job_id}")


async def test_a_time_that_is_none_is_refused_in_words(visit: Visit, signed_in: SignIn) -> None:
    visit.expected.append("422")
    await signed_in("viewer")
    await visit.open("/admin/jobs?since=yesterday")
    await expect(visit.page.get_by_text("“yesterday” is not a time")).to_be_visible()


async def test_a_job_tells_its_stages_its_money_and_its_webhook(
    visit: Visit, signed_in: SignIn, house: House, caller: Caller, work: WorkOff
) -> None:
    job_id = await caller.submit(webhook_url="https://hooks.example.com/x")
    await work()
    await signed_in("finance")
    await visit.open(f"/admin/jobs/{job_id}")
    async with house.sessions() as db:
        job = await db.get_one(Job, job_id)
    stages = visit.page.get_by_role("region", name="Times by stage")
    assert await stages.locator("tbody th").all_text_contents() == [
        *("decode", "segment", "refine", "decontaminate", "compose", "encode")
    ]
    shown = await stages.locator("tbody td.number").all_text_contents()
    assert sorted(shown) == sorted(f"{ms:.1f} ms" for ms in job.stages_ms.values())
    done = visit.page.get_by_role("region", name="What the ledger did").locator("tbody th")
    assert await done.all_text_contents() == ["hold", "capture"]
    await expect(visit.page.get_by_text("25 of plan grant")).to_be_visible()
    await expect(visit.page.get_by_text("https://hooks.example.com/x")).to_be_visible()
    async with house.sessions() as db:
        told = select(WebhookDelivery.id).where(WebhookDelivery.job_id == job_id)
        delivery_id = (await db.scalars(told)).one()
    await expect(visit.page.get_by_text(f"msg_{delivery_id.hex}")).to_be_visible()
    refund = visit.page.get_by_role("link", name="Refund")
    href = f"/admin/accounts/{caller.account_id}/acts/refund?job={job_id}"
    assert await refund.get_attribute("href") == href


async def test_a_failed_job_says_why_and_may_be_run_again(
    visit: Visit, signed_in: SignIn, caller: Caller, work: WorkOff
) -> None:
    job_id = await caller.submit(b"no picture")
    await work()
    await signed_in("support")
    await visit.open(f"/admin/jobs/{job_id}")
    await expect(visit.page.get_by_role("heading", name="Unsupported image")).to_be_visible()
    again = visit.page.get_by_role("link", name="Run again")
    assert "/acts/rerun?job=" in str(await again.get_attribute("href"))
    await expect(visit.page.get_by_role("link", name="what was sent, 10 bytes")).to_be_visible()


async def test_before_and_after_stand_on_any_ground(
    visit: Visit, signed_in: SignIn, caller: Caller, work: WorkOff
) -> None:
    job_id = await caller.submit()
    await work()
    await signed_in("support")
    await visit.open(f"/admin/jobs/{job_id}")
    for name in ("The picture as it came", "The cutout"):
        picture = visit.page.get_by_role("img", name=name)
        await expect(picture).to_be_visible()
        assert await picture.evaluate(
            "picture => picture.decode().then(() => picture.naturalWidth)"
        )
    ground = visit.page.locator(".ground.after")
    for label, colour in (
        ("#111", "17, 17, 17"),
        ("#fff", "255, 255, 255"),
        ("magenta", "255, 0, 255"),
    ):
        await visit.page.get_by_label(label, exact=True).check()
        await expect(ground).to_have_css("background-color", f"rgb({colour})")
    await visit.page.get_by_label("The colour", exact=True).fill("#123456")
    await expect(visit.page.get_by_label("a colour", exact=True)).to_be_checked()
    await expect(ground).to_have_css("background-color", "rgb(18, 52, 86)")


async def test_before_and_after_stand_side_by_side_once_all_is_swept(
    visit: Visit, signed_in: SignIn, house: House, caller: Caller, work: WorkOff
) -> None:
    job_id = await caller.submit()
    await work()
    await Sweeper(house.sessions, house.cutouts.storage, house.settings).sweep()
    assert await asked(house.sessions, "SELECT is_tidy FROM job WHERE id = :id", id=job_id)
    await signed_in("support")
    await visit.open(f"/admin/jobs/{job_id}")
    boxes = []
    for name in ("The picture as it came", "The cutout"):
        picture = visit.page.get_by_role("img", name=name)
        assert await picture.evaluate(
            "picture => picture.decode().then(() => picture.naturalWidth)"
        )
        boxes.append(await picture.bounding_box())
    before, after = boxes
    assert before is not None
    assert after is not None
    assert before["x"] + before["width"] <= after["x"], "before stands left of after"
    assert before["y"] == pytest.approx(after["y"], abs=1)


async def test_the_page_says_that_the_upload_of_a_synchronous_call_is_never_stored(
    visit: Visit, signed_in: SignIn, house: House, caller: Caller, work: WorkOff
) -> None:
    job_id = await caller.submit()
    await work()
    async with house.sessions.begin() as db:
        as_a_call = {"is_async": False, "source_key": None}
        await db.execute(update(Job).where(Job.id == job_id).values(**as_a_call))
    await signed_in("support")
    await visit.open(f"/admin/jobs/{job_id}")
    await expect(visit.page.get_by_role("img", name="The cutout")).to_be_visible()
    await expect(visit.page.get_by_text("synchronous call is never stored")).to_be_visible()


async def test_pictures_are_for_support_and_only_while_they_live(
    visit: Visit, signed_in: SignIn, house: House, caller: Caller, work: WorkOff
) -> None:
    job_id = await caller.submit()
    await work()
    place = f"/admin/jobs/{job_id}"
    async with AsyncClient(base_url=visit.address) as stranger:
        for part in ("source", "result"):
            assert (await stranger.get(f"{place}/{part}")).status_code == 303
            keyed = await stranger.get(f"{place}/{part}", headers=caller.customer.bearer)
            assert keyed.status_code == 303
    await signed_in("viewer")
    assert (await visit.page.request.get(f"{visit.address}{place}/result")).status == 403
    await visit.open(place)
    await expect(visit.page.get_by_text("shown to support and above")).to_be_visible()

    await signed_in("support")
    answer = await visit.page.request.get(f"{visit.address}{place}/result")
    assert answer.status == 200
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"] == "default-src 'none'; sandbox"
    async with house.sessions.begin() as db:
        key = await db.scalar(select(Job.result_key).where(Job.id == job_id))
        await db.execute(
            update(Job)
            .where(Job.id == job_id)
            .values(result_expires_at=func.now(), purged_at=func.now())
        )
    await house.cutouts.storage.delete(str(key))
    await house.cutouts.storage.delete(f"sources/{job_id}/source")
    assert (await visit.page.request.get(f"{visit.address}{place}/result")).status == 410
    await visit.open(place)
    await expect(visit.page.get_by_text("Neither picture is kept any more")).to_be_visible()


async def test_what_is_no_picture_is_only_to_be_saved(
    visit: Visit, signed_in: SignIn, caller: Caller, work: WorkOff, served: str
) -> None:
    script = b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"
    job_id = await caller.submit(script)
    await work()
    await signed_in("support")
    answer = await visit.page.request.get(f"{served}/admin/jobs/{job_id}/source")
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"].startswith("attachment")


async def test_a_model_is_looked_for_in_a_week_unless_it_is_said_from_when(
    visit: Visit, signed_in: SignIn, house: House, caller: Caller, work: WorkOff
) -> None:
    job_id = await caller.submit()
    await work()
    long_ago = func.now() - timedelta(days=8)
    times = dict.fromkeys(("created_at", "started_at", "finished_at"), long_ago)
    async with house.sessions.begin() as db:
        await db.execute(update(Job).where(Job.id == job_id).values(**times))
    await signed_in("viewer")
    await visit.open("/admin/jobs?model=cutout-lite&state=succeeded")
    await expect(visit.page.get_by_text("Say from when, to look further back.")).to_be_visible()
    assert str(job_id) not in await listed(visit)
    until = await asked(
        house.sessions, "SELECT to_char(now() - interval '7 days', 'YYYY-MM-DD HH24:MI')"
    )
    await visit.open(f"/admin/jobs?model=cutout-lite&since=2020-01-01&until={until}")
    assert str(job_id) in await listed(visit)
