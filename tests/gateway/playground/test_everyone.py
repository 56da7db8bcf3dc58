"""The playground for everyone: small screens, keys alone, screen readers, any colour scheme."""

import pytest
from playwright.async_api import expect

from tests.gateway.faces import needs_chromium
from tests.gateway.playground.bench import Bench

pytestmark = [needs_chromium, pytest.mark.browser]


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_nothing_on_the_page_keeps_people_out(
    bench: Bench, astronaut: bytes, scheme: str
) -> None:
    await bench.page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    await bench.visit.check_accessible()
    await bench.cut(astronaut)
    await bench.visit.check_accessible()
    await bench.page.locator("#result .another").click()
    await bench.pick(b"Dear diary")
    await bench.reach("refused")
    await bench.visit.check_accessible()


async def test_it_fits_a_desk(bench: Bench, astronaut: bytes) -> None:
    await bench.visit.check_fits()
    await bench.cut(astronaut)
    await bench.visit.check_fits()
    tools = await bench.page.locator("#zoom-fit").bounding_box()
    assert tools is not None
    assert tools["y"] + tools["height"] <= 900, "what one looks with is on the first screen"


async def test_it_fits_a_telephone(phone_bench: Bench, astronaut: bytes) -> None:
    await phone_bench.visit.check_fits()
    await expect(phone_bench.page.get_by_text("Choose a picture")).to_be_in_viewport()
    await phone_bench.cut(astronaut)
    await phone_bench.visit.check_fits()
    await phone_bench.visit.check_accessible()
    await expect(phone_bench.page.locator("#viewer")).to_be_in_viewport(ratio=1)


async def test_the_way_to_a_picture_is_short_for_keys(bench: Bench) -> None:
    names = await bench.visit.tab_order(7)
    assert names[0] == "Skip to the content"
    assert "Choose a picture" in names


async def test_everything_about_a_cutout_is_reached_by_keys(bench: Bench, astronaut: bytes) -> None:
    await bench.cut(astronaut)
    await bench.page.focus("#viewer")
    reached = []
    for _ in range(12):
        await bench.page.keyboard.press("Tab")
        reached.append(await bench.page.evaluate("document.activeElement.id"))
    for wanted in ("split", "zoom-out", "zoom-in", "zoom-fit", "download"):
        assert wanted in reached


async def test_a_radio_of_the_background_is_moved_by_arrows(bench: Bench, astronaut: bytes) -> None:
    await bench.cut(astronaut)
    await bench.page.locator('[name="ground"][value="checker"]').focus()
    await bench.page.keyboard.press("ArrowRight")
    assert await bench.page.locator('[name="ground"][value="#111111"]').is_checked()


async def test_motion_that_is_unwelcome_is_left_out(touched_bench: Bench, astronaut: bytes) -> None:
    await touched_bench.pick(astronaut)
    await touched_bench.page.locator('#stage[data-state="done"]').wait_for(timeout=60_000)
    await touched_bench.page.wait_for_function(
        "() => !document.getElementById('viewer').classList.contains('alone')"
    )
    await touched_bench.settle()
    assert await touched_bench.page.input_value("#split") == "50"
