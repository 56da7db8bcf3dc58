"""The cutout as it is looked at: what the eye would see, read off the screen in pixels."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from playwright.async_api import FilePayload

from tests.gateway.faces import needs_chromium
from tests.gateway.playground.bench import Bench, alpha_of, body_of, hole_in

pytestmark = [needs_chromium, pytest.mark.browser]
NEAR = 3
"""Of 255: resampling to the size on the screen, and the JPEG's own noise."""


def source_at(photograph: bytes, place: tuple[int, int]) -> tuple[int, ...]:
    with Image.open(BytesIO(photograph)) as image:
        pixel = image.convert("RGB").resize((64, 64), Image.Resampling.BOX)
        return tuple(pixel.getpixel((place[0] // 8, place[1] // 8)))  # type: ignore[arg-type]


async def test_the_divider_moves_by_keys_alone(bench: Bench, astronaut: bytes) -> None:
    await bench.cut(astronaut)
    hole = hole_in(alpha_of(await bench.saved()))
    await bench.ground("#111111")
    await bench.show_all("cutout")
    assert await bench.colour_at(*hole) == (17, 17, 17)
    await bench.show_all("original")
    assert await bench.colour_at(*hole) != (17, 17, 17)
    for _ in range(10):
        await bench.page.keyboard.press("ArrowLeft")
    assert await bench.page.input_value("#split") == "90"
    assert await bench.page.get_attribute("#split", "aria-valuetext") == "90 % original"


async def test_the_divider_is_dragged_by_a_mouse(bench: Bench, astronaut: bytes) -> None:
    await bench.cut(astronaut)
    box = await bench.page.locator("#divider").bounding_box()
    assert box is not None
    await bench.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 50)
    await bench.page.mouse.down()
    await bench.page.mouse.move(box["x"] + 200, box["y"] + 80, steps=5)
    await bench.page.mouse.up()
    assert int(await bench.page.input_value("#split")) > 60
    await bench.page.mouse.move(box["x"], box["y"])
    assert int(await bench.page.input_value("#split")) > 60


async def test_the_divider_is_dragged_by_a_finger(touched_bench: Bench, astronaut: bytes) -> None:
    await touched_bench.cut(astronaut)
    page = touched_bench.page
    box = await page.locator("#divider").bounding_box()
    assert box is not None
    browser = await page.context.new_cdp_session(page)
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    steps = [("touchStart", x), ("touchMove", x + 40), ("touchMove", x + 80), ("touchEnd", None)]
    for kind, at in steps:
        points = [{"x": at, "y": y}] if at is not None else []
        await browser.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    assert int(await page.input_value("#split")) > 60


@pytest.mark.parametrize(("value", "seen"), [("#111111", 17), ("#ffffff", 255)])
async def test_the_background_is_exactly_what_was_chosen(
    bench: Bench, astronaut: bytes, value: str, seen: int
) -> None:
    await bench.cut(astronaut)
    hole = hole_in(alpha_of(await bench.saved()))
    await bench.show_all("cutout")
    await bench.ground(value)
    assert await bench.colour_at(*hole) == (seen, seen, seen)


async def test_the_background_can_be_any_colour(bench: Bench, astronaut: bytes) -> None:
    await bench.cut(astronaut)
    hole = hole_in(alpha_of(await bench.saved()))
    await bench.show_all("cutout")
    await bench.ground("colour")
    await bench.page.fill("#ground-colour", "#ff8800")
    assert await bench.colour_at(*hole) == (255, 136, 0)


async def test_the_background_can_be_a_picture(bench: Bench, astronaut: bytes) -> None:
    await bench.cut(astronaut)
    hole = hole_in(alpha_of(await bench.saved()))
    await bench.show_all("cutout")
    sea = BytesIO()
    Image.new("RGB", (40, 30), (0, 90, 180)).save(sea, "PNG")
    async with bench.page.expect_file_chooser() as chooser:
        await bench.ground("picture")
    await (await chooser.value).set_files(
        FilePayload(name="sea.png", mimeType="image/png", buffer=sea.getvalue())
    )
    await bench.settle()
    assert await bench.colour_at(*hole) == (0, 90, 180)


async def test_the_checkerboard_has_squares_of_one_size_at_every_zoom(
    bench: Bench, astronaut: bytes
) -> None:
    await bench.cut(astronaut)
    hole = hole_in(alpha_of(await bench.saved()))
    await bench.show_all("cutout")
    await check_squares(bench, hole)
    await zoom_in_at(bench, hole)
    await check_squares(bench, hole)


async def check_squares(bench: Bench, hole: tuple[int, int]) -> None:
    """Expect squares of 8 px: of 16 x 16 pixels half has one grey and half the other."""
    column, row = await bench.place(*hole)
    around = (await bench.seen())[row - 8 : row + 8, column - 8 : column + 8]
    counts = np.unique(around.reshape(-1, 3), axis=0, return_counts=True)[1]
    assert (counts > 16 * 16 / 3).sum() == 2


async def test_the_alpha_view_shows_the_matte_in_greys(bench: Bench, astronaut: bytes) -> None:
    await bench.cut(astronaut)
    alpha = alpha_of(await bench.saved())
    await bench.show_all("cutout")
    await bench.view("alpha")
    assert await bench.colour_at(*hole_in(alpha)) == (0, 0, 0)
    assert await bench.colour_at(*body_of(alpha)) == (255, 255, 255)
    soft = zoomed_place(alpha)
    await zoom_in_at(bench, soft)
    shot = await bench.seen()
    differences = []
    for y in range(soft[1] - 3, soft[1] + 4):
        for x in range(soft[0] - 3, soft[0] + 4):
            column, row = await bench.place(x, y)
            differences.append(abs(int(shot[row, column, 0]) - int(alpha[y, x])))
    assert max(differences) <= NEAR


async def test_at_800_percent_each_pixel_is_a_crisp_square_of_eight(
    bench: Bench, astronaut: bytes
) -> None:
    await bench.cut(astronaut)
    alpha = alpha_of(await bench.saved())
    await bench.show_all("cutout")
    await bench.view("alpha")
    soft = zoomed_place(alpha)
    await zoom_in_at(bench, soft)
    assert await bench.page.inner_text("#zoom") == "800 %"
    shot = (await bench.seen())[:, :, 0]
    column, row = await bench.place(*soft)
    square = shot[row - 2 : row + 3, column - 2 : column + 3]
    assert np.ptp(square.astype(int)) <= 1
    assert abs(int(shot[row, column + 8]) - int(alpha[soft[1], soft[0] + 1])) <= NEAR


async def test_the_buttons_and_keys_zoom_to_800_percent_and_back_to_fit(
    bench: Bench, astronaut: bytes
) -> None:
    await bench.cut(astronaut)
    fit = await bench.page.inner_text("#zoom")
    for _ in range(9):
        await bench.page.click("#zoom-in")
        await bench.settle()
    assert await bench.page.inner_text("#zoom") == "800 %"
    await bench.page.focus("#viewer")
    await bench.page.keyboard.press("-")
    await bench.settle()
    assert await bench.page.inner_text("#zoom") == "600 %"
    before = await bench.place(256, 256)
    await bench.page.keyboard.press("ArrowRight")
    await bench.settle()
    after = await bench.place(256, 256)
    assert after[0] == pytest.approx(before[0] - 60, abs=1)
    await bench.page.keyboard.press("0")
    await bench.settle()
    assert await bench.page.inner_text("#zoom") == fit


async def test_a_drag_moves_the_picture_and_never_loses_it(bench: Bench, astronaut: bytes) -> None:
    await bench.cut(astronaut)
    viewer = await bench.page.locator("#viewer").bounding_box()
    assert viewer is not None
    x, y = viewer["x"] + 60, viewer["y"] + 200
    before = await bench.place(256, 256)
    await bench.page.mouse.move(x, y)
    await bench.page.mouse.down()
    await bench.page.mouse.move(x + 30, y + 20, steps=4)
    await bench.page.mouse.up()
    await bench.settle()
    moved = await bench.place(256, 256)
    assert (moved[0] - before[0], moved[1] - before[1]) == pytest.approx((30, 20), abs=1)
    for _ in range(4):
        await bench.page.mouse.move(x, y)
        await bench.page.mouse.down()
        await bench.page.mouse.move(x + viewer["width"] - 100, y, steps=4)
        await bench.page.mouse.up()
        await bench.settle()
    sheet = await bench.page.locator("#after-sheet").bounding_box()
    assert sheet is not None
    assert sheet["x"] < viewer["x"] + viewer["width"] - 40


async def test_a_jpeg_has_no_background_to_switch(bench: Bench, astronaut: bytes) -> None:
    await bench.page.select_option("#format", "jpg")
    await bench.cut(astronaut)
    assert await bench.page.locator('[name="view"][value="alpha"]').is_disabled()
    assert await bench.page.locator('[name="ground"][value="#111111"]').is_disabled()
    assert (await bench.saved())[:2] == b"\xff\xd8"


async def test_a_picture_of_twelve_megapixels_does_not_freeze_the_page(
    bench: Bench, astronaut: bytes
) -> None:
    big = BytesIO()
    with Image.open(BytesIO(astronaut)) as photograph:
        photograph.resize((4000, 3000)).save(big, "JPEG", quality=85)
    await bench.page.evaluate(
        """() => {
            window.pauses = [];
            let last = performance.now();
            setInterval(() => {
                window.pauses.push(performance.now() - last);
                last = performance.now();
            }, 10);
        }"""
    )
    await bench.cut(big.getvalue())
    for _ in range(10):
        await bench.page.click("#zoom-in")
    await bench.settle()
    assert await bench.page.inner_text("#zoom") == "800 %"
    longest_ms = await bench.page.evaluate("Math.max(...window.pauses)")
    assert longest_ms < 1_000


def zoomed_place(alpha: "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]") -> tuple[int, int]:
    """Find a pixel (x, y) on a soft edge, in the middle of the picture's height."""
    middle = slice(alpha.shape[0] // 4, 3 * alpha.shape[0] // 4)
    is_soft = (alpha[middle] > 80) & (alpha[middle] < 180)
    y, x = np.argwhere(is_soft[:, 16:-16])[0]
    return int(x) + 16, int(y) + alpha.shape[0] // 4


async def zoom_in_at(bench: Bench, place: tuple[int, int]) -> None:
    """Turn the wheel over a pixel of the picture; it stays under the mouse."""
    viewer = await bench.page.locator("#viewer").bounding_box()
    assert viewer is not None
    column, row = await bench.place(*place)
    await bench.page.mouse.move(viewer["x"] + column, viewer["y"] + row)
    await bench.page.keyboard.down("Control")
    for _ in range(20):
        await bench.page.mouse.wheel(0, -100)
        await bench.settle()
    await bench.page.keyboard.up("Control")
    assert await bench.place(*place) == pytest.approx((column, row), abs=8)
