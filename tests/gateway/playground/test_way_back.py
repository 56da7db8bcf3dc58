"""A cutout that was paid for is not lost to a wrong file, another picture or a reload unawares."""

import asyncio
from io import BytesIO

import pytest
from PIL import Image
from playwright.async_api import Dialog, expect

from tests.gateway.faces import Visit, needs_chromium
from tests.gateway.playground.bench import Bench
from tests.gateway.workshop import until

pytestmark = [needs_chromium, pytest.mark.browser]
SERVED = "https://example.com/product.jpg"


async def go_back(bench: Bench) -> None:
    await bench.page.get_by_role("button", name="Back to the cutout").click()
    await bench.reach("done")


async def pick_wrong_file(bench: Bench) -> None:
    await bench.pick(b"Dear diary", "t.txt")
    await bench.reach("refused")
    await expect(bench.page.get_by_role("alert")).to_contain_text("not a picture we can read")


async def test_a_wrong_file_leaves_the_former_cutout_and_its_calls(
    bench: Bench, astronaut: bytes
) -> None:
    await bench.cut(astronaut, "eileen.jpg")
    former, seen = await bench.saved(), await bench.seen()
    calls = await bench.page.inner_text("#revid-curl")
    await pick_wrong_file(bench)

    back = bench.page.get_by_role("button", name="Back to the cutout")
    await expect(back).to_be_focused()
    await expect(bench.page.locator("#again")).to_be_hidden()
    assert await bench.saved() == former
    assert bench.saved_as == "eileen-cutout.png"
    await back.press("Enter")
    await bench.reach("done")

    assert await bench.saved() == former
    assert (await bench.seen() == seen).all()
    assert await bench.page.inner_text("#revid-curl") == calls
    await expect(bench.page.locator("#api-lead")).to_contain_text("eileen.jpg")


async def test_after_the_way_back_cut_again_cuts_that_picture(
    bench: Bench, astronaut: bytes
) -> None:
    await bench.cut(astronaut, "eileen.jpg")
    await pick_wrong_file(bench)
    await go_back(bench)
    await bench.page.select_option("#format", "webp")
    await bench.page.click("#again")
    await expect(bench.page.locator("#download")).to_contain_text("WEBP")
    await bench.reach("done")
    with Image.open(BytesIO(await bench.saved())) as cutout:
        assert cutout.size == (512, 512)
    assert bench.saved_as == "eileen-cutout.webp"


async def test_enter_among_the_options_sends_no_file_that_was_refused(
    bench: Bench, astronaut: bytes
) -> None:
    await bench.cut(astronaut)
    await bench.page.check("#crop")
    await pick_wrong_file(bench)
    sent: list[str] = []
    bench.page.on("request", lambda request: sent.append(request.method))
    await bench.page.locator("#crop_margin").press("Enter")
    await bench.settle()
    assert sent == []


async def test_where_no_cutout_is_shown_the_calls_are_for_any_picture(
    bench: Bench, astronaut: bytes
) -> None:
    await bench.cut(astronaut, "eileen.jpg")
    await bench.page.locator("#result .another").click()
    await bench.reach("empty")
    await expect(bench.page.locator("#codia-curl")).to_contain_text(SERVED)
    await expect(bench.page.locator("#api-lead")).not_to_contain_text("eileen.jpg")
    await go_back(bench)
    await expect(bench.page.locator("#after")).to_be_visible()
    await expect(bench.page.locator("#codia-curl")).to_contain_text("eileen.jpg")


async def test_before_the_first_cutout_there_is_nowhere_to_go_back_to(bench: Bench) -> None:
    await pick_wrong_file(bench)
    await expect(bench.page.get_by_role("button", name="Back to the cutout")).to_have_count(0)
    await expect(bench.page.locator("#codia-curl")).to_contain_text(SERVED)


async def test_with_the_way_back_the_prompt_still_fits_a_telephone(
    phone_bench: Bench, astronaut: bytes
) -> None:
    await phone_bench.cut(astronaut)
    await phone_bench.page.locator("#result .another").click()
    await phone_bench.reach("empty")
    await phone_bench.visit.check_fits()
    await phone_bench.visit.check_accessible()
    over = "document.getElementById('prompt').scrollHeight - stage.clientHeight"
    assert await phone_bench.page.evaluate(over) <= 0


async def test_a_canceled_picture_leaves_the_former_cutout(bench: Bench, astronaut: bytes) -> None:
    await bench.cut(astronaut, "eileen.jpg")
    former = await bench.saved()
    # The sending is held on its way, so that it can be canceled for sure.
    sending = asyncio.Event()
    await bench.page.route("**/playground/cutouts", lambda _: sending.set())
    await bench.pick(astronaut, "other.jpg")
    await sending.wait()
    await bench.page.click("#cancel")
    await bench.reach("done")
    assert await bench.saved() == former
    await expect(bench.page.locator("#after")).to_be_visible()
    await expect(bench.page.locator("#api-lead")).to_contain_text("eileen.jpg")


async def test_the_page_asks_before_it_is_left_while_a_cutout_is_in_work_and_only_then(
    visit: Visit,
) -> None:
    await visit.open("/")  # and nobody works
    asked: list[str] = []

    async def stay(dialog: Dialog) -> None:
        asked.append(dialog.type)
        await dialog.dismiss()

    visit.page.on("dialog", stay)
    await visit.page.get_by_role("button", name="A cup of coffee").click()
    await visit.page.get_by_text("Waiting for a worker").first.wait_for()
    await visit.page.evaluate("() => { setTimeout(() => location.reload()) }")

    async def is_asked() -> bool:
        return asked == ["beforeunload"]

    await until(is_asked)
    await expect(visit.page.locator("#working")).to_be_visible()

    await visit.page.click("#cancel")
    await expect(visit.page.locator("#said")).to_have_text("Canceled. Nothing was charged.")
    await visit.page.reload()
    await expect(visit.page.locator("#said")).to_have_text("")
    assert asked == ["beforeunload"]


async def test_a_page_that_shows_a_cutout_is_left_without_a_question(bench: Bench) -> None:
    asked: list[str] = []

    async def go(dialog: Dialog) -> None:
        asked.append(dialog.type)
        await dialog.accept()

    bench.page.on("dialog", go)
    await bench.page.get_by_role("button", name="A cup of coffee").click()
    await bench.reach("done")
    await bench.page.reload()
    await bench.reach("empty")
    assert asked == []
