"""A picture of one's own behind the cutout: it is seen there, and is sent nowhere."""

from collections.abc import Awaitable, Callable
from io import BytesIO
from uuid import uuid4

import pytest
from PIL import Image
from playwright.async_api import FilePayload, Locator, Request, expect

from gateway.app import House
from tests.gateway.dashboard.calls import new_caller
from tests.gateway.faces import DESK, PHONE, Visit, needs_chromium
from tests.gateway.playground.bench import alpha_of, hole_in
from tests.gateway.web import WorkOff

pytestmark = [needs_chromium, pytest.mark.browser]

SignIn = Callable[[str], Awaitable[str]]
Colour = tuple[int, int, int]
SEA, SAND = (0, 90, 180), (230, 200, 140)


def picture_of(colour: Colour) -> FilePayload:
    encoded = BytesIO()
    Image.new("RGB", (40, 30), colour).save(encoded, "PNG")
    return FilePayload(name="ground.png", mimeType="image/png", buffer=encoded.getvalue())


async def choose(visit: Visit, by: Locator, file: FilePayload) -> None:
    async with visit.page.expect_file_chooser() as chooser:
        await by.click()
    await (await chooser.value).set_files(file)


async def check_behind(visit: Visit, hole: tuple[int, int], colour: Colour) -> None:
    """Photograph the cutout until `colour` shows where it is see-through."""
    cutout = visit.page.get_by_role("img", name="The cutout")
    for _ in range(20):
        with Image.open(BytesIO(await cutout.screenshot())) as shot:
            natural = await cutout.evaluate("one => [one.naturalWidth, one.naturalHeight]")
            x, y = (int(hole[n] * shot.size[n] / natural[n]) for n in (0, 1))
            seen = shot.convert("RGB").getpixel((x, y))
        if seen == colour:
            return
        await visit.page.wait_for_timeout(50)
    raise AssertionError(f"{seen} is seen, not {colour}")


@pytest.fixture
async def hole(
    visit: Visit, signed_in: SignIn, served: str, house: House, work: WorkOff
) -> tuple[int, int]:
    """Open the page of a cutout; tells a place (x, y) where it is see-through."""
    caller = await new_caller(served, house, f"Grounds {uuid4().hex[:8]}")
    job_id = await caller.submit()
    await work()
    await signed_in("support")
    await visit.open(f"/admin/jobs/{job_id}")
    result = await visit.page.request.get(f"{served}/admin/jobs/{job_id}/result")
    return hole_in(alpha_of(await result.body()))


async def test_a_cutout_stands_on_a_picture_that_never_leaves_the_browser(
    visit: Visit, hole: tuple[int, int]
) -> None:
    asked: list[str] = []

    def note(request: Request) -> None:
        is_own_asset = request.url.startswith(f"{visit.address}/assets/")  # the page's mark, late
        if not request.url.startswith("blob:") and not is_own_asset:
            asked.append(request.url)

    page = visit.page
    page.on("request", note)
    await choose(visit, page.get_by_label("a picture", exact=True), picture_of(SEA))
    await check_behind(visit, hole, SEA)
    await choose(visit, page.get_by_text("Choose …"), picture_of(SAND))
    await check_behind(visit, hole, SAND)
    await visit.check_accessible()
    for width, height in (DESK, PHONE):
        await page.set_viewport_size({"width": width, "height": height})
        await visit.check_fits()

    await page.get_by_label("#fff", exact=True).check()
    await expect(page.get_by_text("Choose …")).to_be_hidden()
    await check_behind(visit, hole, (255, 255, 255))
    await page.get_by_label("a picture", exact=True).check()
    await check_behind(visit, hole, SAND)
    assert asked == []


async def test_what_is_no_picture_leaves_the_ground_as_it_was(
    visit: Visit, hole: tuple[int, int]
) -> None:
    picture = visit.page.get_by_label("a picture", exact=True)
    await choose(visit, picture, picture_of(SEA))
    await check_behind(visit, hole, SEA)
    words = FilePayload(name="words.txt", mimeType="text/plain", buffer=b"no picture")
    await choose(visit, visit.page.get_by_text("Choose …"), words)
    await expect(visit.page.get_by_text("That file is no picture")).to_be_visible()
    await check_behind(visit, hole, SEA)
