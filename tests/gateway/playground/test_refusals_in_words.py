"""What the playground says when it is refused, and what it asks for where it has no key."""

from io import BytesIO
from pathlib import Path

import pytest
from httpx import AsyncClient
from PIL import Image
from playwright.async_api import FilePayload, expect

from gateway.app import House
from gateway.settings import Settings
from tests.gateway.faces import Visit, needs_chromium
from tests.gateway.playground.bench import Bench
from tests.gateway.web import open_account

pytestmark = [needs_chromium, pytest.mark.browser]


async def refusal(bench: Bench) -> str:
    await bench.reach("refused")
    return await bench.page.get_by_role("alert").inner_text()


async def test_what_is_not_a_picture_is_refused_in_words(bench: Bench) -> None:
    await bench.pick(b"Dear diary", "diary.txt")
    words = await refusal(bench)
    assert "That is not a picture we can read" in words
    assert "Supported: png, jpg, jpeg, webp, bmp" in words
    assert "Nothing was charged." in words
    await expect(bench.page.get_by_role("button", name="Try again")).to_be_hidden()
    await expect(bench.page.get_by_role("alert").get_by_text("Another picture")).to_be_focused()
    await bench.page.keyboard.press("Enter")
    await expect(bench.page.get_by_label("Choose a picture")).to_be_focused()


async def test_a_broken_picture_is_refused_in_words(bench: Bench, astronaut: bytes) -> None:
    await bench.pick(astronaut[:4000])
    assert "The picture is broken" in await refusal(bench)


async def test_an_empty_file_is_called_empty_and_not_even_sent(bench: Bench) -> None:
    await bench.pick(b"", "empty.png")
    words = await refusal(bench)
    assert "The file is empty" in words
    assert "nothing was charged" in words
    assert "options" not in words
    await expect(bench.page.get_by_role("button", name="Try again")).to_be_hidden()
    await expect(bench.page.locator("#again")).to_be_hidden()


async def test_a_file_that_is_too_large_is_not_even_sent(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    path.write_bytes(bytes(21 * 2**20))
    await bench.page.set_input_files("#file", path)
    words = await refusal(bench)
    assert "The file is too large" in words
    assert "20.0 MiB are allowed" in words


async def test_too_many_pixels_are_refused_in_words(bench: Bench) -> None:
    wide = BytesIO()
    Image.new("L", (16_100, 300)).save(wide, "PNG")
    bench.visit.expected.append("413")
    await bench.pick(wide.getvalue())
    assert "The picture is over the limits" in await refusal(bench)


async def test_an_option_that_does_not_fit_is_told(bench: Bench, astronaut: bytes) -> None:
    bench.visit.expected.append("400")
    await bench.page.check("#crop")
    await bench.page.fill("#crop_margin", "wide")
    await bench.pick(astronaut)
    words = await refusal(bench)
    assert "Something in the options does not fit" in words
    assert "Margin around it: " in words
    assert "crop_margin" not in words
    assert "Nothing was charged." in words
    await expect(bench.page.locator("#result")).to_be_hidden()
    await bench.page.fill("#crop_margin", "5%")
    await bench.page.get_by_role("button", name="Try again").click()
    await bench.reach("done")


async def test_a_refused_option_leaves_the_former_cutout(bench: Bench, astronaut: bytes) -> None:
    bench.visit.expected.append("400")
    await bench.cut(astronaut)
    former = await bench.saved()
    await bench.page.check("#crop")
    await bench.page.fill("#crop_margin", "-5")
    await bench.page.click("#again")
    await refusal(bench)
    assert await bench.saved() == former
    await expect(bench.page.get_by_role("button", name="Try again")).not_to_have_class("main")
    await bench.page.get_by_role("button", name="Back to the cutout").click()
    await bench.reach("done")
    await expect(bench.page.locator("#after")).to_be_visible()


async def test_a_background_that_is_no_picture_is_told_and_changes_nothing(
    bench: Bench, astronaut: bytes
) -> None:
    await bench.cut(astronaut)
    await bench.ground("picture")
    await expect(bench.page.locator("#backdrop.checker")).to_have_count(1)
    note = FilePayload(name="note.txt", mimeType="text/plain", buffer=b"Dear diary")
    await bench.page.set_input_files("#ground-file", note)
    await expect(bench.page.get_by_text("That file is no picture")).to_be_visible()
    await expect(bench.page.locator("#backdrop.checker")).to_have_count(1)
    beach = FilePayload(name="beach.jpg", mimeType="image/jpeg", buffer=astronaut)
    await bench.page.set_input_files("#ground-file", beach)
    await expect(bench.page.locator("#backdrop.checker")).to_have_count(0)
    await expect(bench.page.get_by_text("That file is no picture")).to_be_hidden()


async def test_a_copy_button_says_so_and_is_then_what_it_was(bench: Bench) -> None:
    await bench.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    button = bench.page.locator('[data-copy="codia-curl"]')
    before = await button.inner_html()
    await button.click()
    await expect(button).to_contain_text("Copied")
    await button.click()  # once more, while it still says so
    await expect(button).not_to_contain_text("Copied")
    assert await button.inner_html() == before


@pytest.mark.parametrize("width", [1440, 360])
async def test_a_refusal_stands_in_the_middle_however_long_it_is(
    bench: Bench, astronaut: bytes, width: int
) -> None:
    await bench.page.set_viewport_size({"width": width, "height": 900})
    await bench.pick(astronaut[:4000])
    await refusal(bench)
    await bench.page.evaluate(
        "() => { document.getElementById('refusal-words').textContent = 'much to say '.repeat(20) }"
    )
    await bench.settle()
    stage = await bench.page.locator("#stage").bounding_box()
    plate = await bench.page.get_by_role("alert").bounding_box()
    assert stage is not None
    assert plate is not None
    middles = [box["x"] + box["width"] / 2 for box in (stage, plate)]
    assert middles[0] == pytest.approx(middles[1], abs=1)


@pytest.mark.parametrize("demo_limits", [{"budget_credits": 10}])
async def test_when_the_demo_key_is_out_of_credits_ones_own_goes_on(
    bench: Bench, house: House, astronaut: bytes
) -> None:
    bench.visit.expected.append("402")
    await bench.pick(astronaut)
    words = await refusal(bench)
    assert "Out of credits" in words
    assert "Use your own key" in words
    ada = await open_account(house.settings, house.sessions)
    await bench.page.get_by_label("Your API key").fill(ada.key)
    await bench.page.keyboard.press("Enter")
    await bench.reach("done")
    await expect(bench.page.locator("#facts")).to_contain_text("25 credits")


@pytest.mark.parametrize("demo_limits", [{"rate_per_minute": 1, "burst": 1}])
async def test_who_is_too_fast_is_told_how_long_to_wait(bench: Bench, astronaut: bytes) -> None:
    bench.visit.expected.append("429")
    await bench.cut(astronaut)
    await bench.page.click("#again")
    words = await refusal(bench)
    assert "A little too fast" in words
    assert "Try again in " in words


@pytest.mark.parametrize("demo_limits", [None])
async def test_without_a_demo_key_the_page_asks_for_one_and_keeps_it_nowhere(
    bench: Bench, house: House, astronaut: bytes
) -> None:
    await bench.pick(astronaut)
    assert "An API key, please" in await refusal(bench)
    field = bench.page.get_by_label("Your API key")
    await expect(field).to_be_focused()
    ada = await open_account(house.settings, house.sessions)
    await field.fill(ada.key)
    await bench.page.keyboard.press("Enter")
    await bench.reach("done")
    assert await bench.saved()
    assert ada.key not in await bench.page.content()
    kept = "JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])"
    assert await bench.page.evaluate(kept) == '[{},{},""]'
    await bench.page.reload()
    await expect(field).to_have_value("")


@pytest.mark.parametrize("demo_limits", [None])
async def test_a_key_that_is_not_known_is_told_and_can_be_mended(
    bench: Bench, astronaut: bytes
) -> None:
    bench.visit.expected.append("401")
    await bench.page.get_by_label("Your API key").fill("cg_live_nobody")
    await bench.pick(astronaut)
    assert "That key is not known" in await refusal(bench)
    await expect(bench.page.get_by_role("button", name="Try again")).not_to_have_class("main")
    await expect(bench.page.get_by_label("Your API key")).to_be_focused()


async def test_what_waits_can_be_canceled_and_costs_nothing(visit: Visit, astronaut: bytes) -> None:
    await visit.open("/")  # and nobody works
    bench = Bench(visit)
    await bench.pick(astronaut)
    await bench.page.get_by_text("Waiting for a worker").first.wait_for()
    await expect(bench.page.locator("#cancel")).to_be_visible()
    await bench.page.click("#cancel")
    await bench.reach("empty")
    await expect(bench.page.locator("#said")).to_have_text("Canceled. Nothing was charged.")
    await expect(bench.page.get_by_label("Choose a picture")).to_be_focused()


async def test_what_can_no_longer_be_canceled_is_said_to_be_charged(
    visit: Visit, astronaut: bytes
) -> None:
    await visit.open("/")  # and nobody works: the gateway's “too late” is answered in its place
    bench = Bench(visit)
    visit.expected.append("409")
    await bench.page.route("**/playground/cutouts/*", lambda route: route.fulfill(status=409))
    await bench.pick(astronaut)
    await bench.page.get_by_text("Waiting for a worker").first.wait_for()
    await expect(bench.page.locator("#goes-on")).to_be_hidden()
    await bench.page.click("#cancel")
    await expect(bench.page.get_by_text("it is charged if it succeeds")).to_be_visible()


async def test_no_refusal_is_said_twice(bench: Bench) -> None:
    said = await bench.page.evaluate(
        "() => refusalWords(new Refusal('account_suspended', 'The account is suspended'), false)"
    )
    assert said == ["The account is suspended", "", "Nothing was charged. Ask the operator."]


async def test_a_try_again_after_a_lost_connection_is_not_paid_twice(
    bench: Bench, settings: Settings, astronaut: bytes
) -> None:
    bench.visit.expected.append("ERR_FAILED")
    await bench.page.route("**/output/**", lambda route: route.abort())
    await bench.pick(astronaut)
    words = await refusal(bench)
    assert "The gateway does not answer" in words
    await bench.page.unroute_all()
    await bench.page.get_by_role("button", name="Try again").click()
    await bench.reach("done")
    assert settings.playground_key is not None
    key = settings.playground_key.get_secret_value()
    async with AsyncClient(base_url=bench.visit.address) as client:
        account = await client.get("/v1/account", headers={"x-api-key": key})
    assert account.json()["credits"]["balance"] == 50_000 - 25
