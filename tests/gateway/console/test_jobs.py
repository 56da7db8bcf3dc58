"""The account's jobs at the console, their pictures, and the limits they count against."""

from datetime import UTC, datetime, timedelta
from io import BytesIO

import pytest
from httpx import AsyncClient
from PIL import Image
from playwright.async_api import expect
from sqlalchemy import update

from gateway.app import House
from gateway.console.jobs import ROWS_MAX
from gateway.console.thumbnails import EDGE_PX, is_drawable, thumbnail_of
from gateway.tables import Job
from tests.gateway.console.visitors import (
    SIGN_IN,
    come_in,
    jobs_of,
    make_cutout,
    new_customer,
    new_key,
    signed_in,
)
from tests.gateway.faces import Visit, needs_chromium
from tests.gateway.web import Customer, WorkOff


async def fail_one(client: AsyncClient, customer: Customer, work: WorkOff) -> None:
    """Submit what is no picture; a worker finds that out."""
    answer = await client.post(
        "/paid/image/remove/background",
        headers=customer.x_api_key,
        files={"file": ("p.jpg", b"\x89PNG\r\n\x1a\n, and then nothing")},
    )
    assert answer.status_code == 200, answer.text
    await work()


async def test_a_result_is_shown_small_and_whole_to_its_owner_alone(
    client: AsyncClient, house: House
) -> None:
    owner = await new_customer(house)
    await make_cutout(client, owner)
    (job,) = await jobs_of(house, owner)
    paths = [f"/console/jobs/{job.id}{part}" for part in ("", "/thumbnail", "/result")]
    for path in paths:
        client.cookies.clear()
        assert (await client.get(path)).headers["location"].startswith(SIGN_IN)
    guest = await signed_in(client, owner)
    page, thumbnail, result = [await guest.get(path) for path in paths]
    assert f"/console/jobs/{job.id}/thumbnail" in (await guest.get("/console/jobs")).text
    assert str(job.id) in page.text
    with Image.open(BytesIO(thumbnail.content)) as image:
        assert image.format == "WEBP"
        assert max(image.size) == EDGE_PX
        assert image.getchannel("A").getextrema()[0] == 0, "its background is gone"
    with Image.open(BytesIO(result.content)) as image:
        assert image.size == (job.width_px, job.height_px)
    assert thumbnail.headers["cache-control"].startswith("private, max-age=")
    assert "attachment" in result.headers["content-disposition"]
    assert "sandbox" in result.headers["content-security-policy"]
    guest = await signed_in(client, await new_customer(house))
    for path in paths:
        assert (await guest.get(path)).status_code == 404
    assert str(job.id) not in (await guest.get("/console/jobs")).text


async def test_a_result_past_its_time_is_gone_and_said_to_be(
    client: AsyncClient, house: House
) -> None:
    owner = await new_customer(house)
    await make_cutout(client, owner)
    (job,) = await jobs_of(house, owner)
    async with house.sessions.begin() as db:
        past = datetime.now(UTC) - timedelta(seconds=1)
        await db.execute(update(Job).where(Job.id == job.id).values(result_expires_at=past))
    guest = await signed_in(client, owner)
    assert (await guest.get(f"/console/jobs/{job.id}/result")).status_code == 410
    assert (await guest.get(f"/console/jobs/{job.id}/thumbnail")).status_code == 404
    listed = (await guest.get("/console/jobs")).text
    assert "thumbnail" not in listed
    assert "expired" in listed


async def test_a_result_that_is_no_picture_is_listed_and_downloaded(
    client: AsyncClient, house: House
) -> None:
    owner = await new_customer(house)
    await make_cutout(client, owner, format="zip")
    (job,) = await jobs_of(house, owner)
    guest = await signed_in(client, owner)
    assert "no preview" in (await guest.get("/console/jobs")).text
    assert (await guest.get(f"/console/jobs/{job.id}/thumbnail")).status_code == 404
    assert (await guest.get(f"/console/jobs/{job.id}/result")).content.startswith(b"PK")


async def test_a_failed_job_says_why_and_what_it_cost(
    client: AsyncClient, house: House, work: WorkOff
) -> None:
    owner = await new_customer(house)
    await fail_one(client, owner, work)
    (job,) = await jobs_of(house, owner)
    guest = await signed_in(client, owner)
    for path in ("/console/jobs?state=failed", f"/console/jobs/{job.id}"):
        page = (await guest.get(path)).text
        assert "The file is not a readable image" in page, path
    assert "Nothing was charged" in page
    assert str(job.id) not in (await guest.get("/console/jobs?state=succeeded")).text


async def test_jobs_are_read_page_by_page(
    client: AsyncClient, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ROWS_MAX > 2
    monkeypatch.setattr("gateway.console.jobs.ROWS_MAX", 2)
    owner = await new_customer(house)
    for _ in range(3):
        await make_cutout(client, owner)
    guest = await signed_in(client, owner)
    first = (await guest.get("/console/jobs")).text
    older = first.split('rel="next"', maxsplit=1)[0].rsplit('href="', maxsplit=1)[1].split('"')[0]
    second = (await guest.get(older.replace("&amp;", "&"))).text
    oldest, *newer = await jobs_of(house, owner)
    assert all(str(job.id) in first and str(job.id) not in second for job in newer)
    assert str(oldest.id) in second
    assert str(oldest.id) not in first


async def test_a_thumbnail_keeps_the_shape_and_is_small() -> None:
    for mode, size in (("RGB", (900, 300)), ("LA", (40, 40)), ("RGBA", (1, 2000))):
        buffer = BytesIO()
        Image.new(mode, size).save(buffer, "PNG")
        drawn = await thumbnail_of(buffer.getvalue())
        with Image.open(BytesIO(drawn)) as image:
            assert max(image.size) <= EDGE_PX
        assert len(drawn) < 10_000


def test_what_is_too_large_to_be_opened_in_passing_has_no_thumbnail() -> None:
    assert is_drawable("image/png", 4000, 4000)
    assert not is_drawable("image/png", 5000, 4000)
    assert not is_drawable("application/zip", 10, 10)
    assert not is_drawable(None, None, None)


async def test_limits_tell_what_is_used_now(client: AsyncClient, house: House) -> None:
    owner = await new_customer(house)
    key = await new_key(house, owner.account_id, rate_per_minute=6, burst=3)
    mine = Customer(owner.account_id, key)
    guest = await signed_in(client, mine)
    assert "<strong>3</strong> of 3" in (await guest.get("/console/limits")).text
    await client.get("/v1/account", headers=mine.bearer)
    page = (await guest.get("/console/limits")).text
    assert "<strong>2</strong> of 3" in page
    assert "6 a minute" in page


async def test_pages_cost_nothing_of_the_keys_rate_and_have_one_of_their_own(
    client: AsyncClient, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.console.guard.BURST", 4)
    monkeypatch.setattr("gateway.console.guard.RATE_PER_MINUTE", 6)
    guest = await signed_in(client, await new_customer(house))
    answers = [await guest.get("/console/limits") for _ in range(6)]
    assert [answer.status_code for answer in answers][-1] == 429
    assert int(answers[-1].headers["retry-after"]) >= 1
    assert "<strong>10</strong> of 10" in answers[0].text


@needs_chromium
@pytest.mark.browser
class TestInABrowser:
    async def test_a_customer_looks_at_jobs_and_downloads_one(
        self, visit: Visit, house: House, work: WorkOff
    ) -> None:
        owner = await new_customer(house)
        async with AsyncClient(base_url=visit.address, timeout=60) as client:
            await make_cutout(client, owner)
            await fail_one(client, owner, work)
        await come_in(visit, owner)
        page = visit.page
        await page.get_by_role("link", name="Jobs", exact=True).click()
        picture = page.get_by_role("img", name="Result of job")
        await expect(picture).to_be_visible()
        assert await picture.evaluate("image => image.decode().then(() => image.naturalWidth)")
        await visit.check_accessible()
        await picture.click()
        await expect(page.get_by_role("heading", level=1)).to_contain_text("succeeded")
        whole = page.get_by_role("img", name="The cutout")
        assert await whole.evaluate("image => image.decode().then(() => image.naturalWidth)") == 600
        await visit.check_accessible()
        async with page.expect_download() as download:
            await page.get_by_role("link", name="Download the result").click()
        assert (await download.value).suggested_filename.endswith(".png")
        await page.go_back()
        await page.get_by_label("State").select_option("failed")
        await expect(page.get_by_text("not a readable image")).to_be_visible()
        await expect(picture).to_have_count(0)

    async def test_limits_follow_by_themselves(self, visit: Visit, house: House) -> None:
        owner = await new_customer(house)
        await come_in(visit, owner)
        await visit.open("/console/limits")
        await expect(visit.page.get_by_text("10 of 10 may come")).to_be_visible()
        async with AsyncClient(base_url=visit.address, timeout=60) as client:
            for _ in range(8):
                await client.get("/v1/account", headers=owner.bearer)
        await expect(visit.page.get_by_text("10 of 10 may come")).to_have_count(0)
        await visit.check_accessible()
