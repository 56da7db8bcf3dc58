"""The playground under fingers: a pinch zooms, a swipe scrolls until the picture is zoomed."""

from io import BytesIO

import pytest
from PIL import Image
from playwright.async_api import CDPSession, expect

from tests.gateway.faces import needs_chromium
from tests.gateway.playground.bench import Bench

pytestmark = [needs_chromium, pytest.mark.browser]
Points = list[tuple[float, float]]
ROTATED = 6
"""EXIF: the telephone was held upright."""


async def touch(browser: CDPSession, *steps: Points) -> None:
    """Lay fingers down at the first points, move them through the rest, and lift them."""
    for number, points in enumerate([*steps, []]):
        kind = "touchStart" if number == 0 else "touchMove" if points else "touchEnd"
        touches = [{"x": x, "y": y, "id": finger} for finger, (x, y) in enumerate(points)]
        await browser.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": touches})


async def middle_of_viewer(bench: Bench) -> tuple[float, float]:
    box = await bench.page.locator("#viewer").bounding_box()
    assert box is not None
    return box["x"] + box["width"] / 2 - 60, box["y"] + box["height"] / 2


async def zoom_of(bench: Bench) -> int:
    await bench.settle()
    return int((await bench.page.inner_text("#zoom")).removesuffix(" %"))


async def test_two_fingers_zoom_the_picture_and_not_the_page(
    touched_bench: Bench, astronaut: bytes
) -> None:
    await touched_bench.cut(astronaut)
    fit = await zoom_of(touched_bench)
    x, y = await middle_of_viewer(touched_bench)
    browser = await touched_bench.page.context.new_cdp_session(touched_bench.page)
    await touch(browser, *[[(x - reach, y), (x + reach, y)] for reach in (20, 40, 60, 80)])
    assert await zoom_of(touched_bench) > 1.3 * fit
    assert await touched_bench.page.evaluate("visualViewport.scale") == 1


async def test_one_finger_scrolls_the_page_until_the_picture_is_zoomed(
    touched_bench: Bench, astronaut: bytes
) -> None:
    await touched_bench.cut(astronaut)
    page = touched_bench.page
    browser = await page.context.new_cdp_session(page)
    x, y = await middle_of_viewer(touched_bench)
    swipe: list[Points] = [[(x, y - step)] for step in (0, 30, 60, 90, 120)]
    await touch(browser, *swipe)
    await page.wait_for_function("() => scrollY > 20")
    await page.evaluate("scrollTo(0, 0)")
    await page.click("#zoom-in")
    await page.evaluate("scrollTo(0, 0)")
    before = await touched_bench.place(256, 256)
    await touch(browser, *swipe)
    await touched_bench.settle()
    assert (await touched_bench.place(256, 256))[1] < before[1] - 60
    assert await page.evaluate("scrollY") == 0


async def test_a_photograph_that_was_taken_upright_lies_on_its_cutout(
    touched_bench: Bench, astronaut: bytes
) -> None:
    upright = BytesIO()
    with Image.open(BytesIO(astronaut)) as photograph:
        exif = Image.Exif()
        exif[0x0112] = ROTATED
        photograph.crop((0, 0, 512, 400)).save(upright, "JPEG", quality=90, exif=exif)
    await touched_bench.cut(upright.getvalue())
    await expect(touched_bench.page.locator("#no-slide")).to_be_hidden()
    facts = touched_bench.page.locator("#facts")
    await expect(facts).to_contain_text("400 \N{MULTIPLICATION SIGN} 512 px")
