"""A cutout that is in work is paid for, and shown: no other picture and no button hides it."""

import asyncio

import pytest
from httpx import AsyncClient
from playwright.async_api import Request, Route, expect

from gateway import jobs
from gateway.app import House
from gateway.settings import Settings
from tests.gateway.faces import Visit, needs_chromium
from tests.gateway.playground.bench import Bench
from tests.gateway.web import WorkOff
from tests.gateway.workshop import until

pytestmark = [needs_chromium, pytest.mark.browser]
PERIOD_CREDITS = 50_000
PRICE_CREDITS = 25
SENDING = "**/playground/cutouts"


@pytest.fixture
async def idle_bench(visit: Visit, house: House) -> Bench:
    """Open the page where nobody works yet."""
    await house.redis.flushdb()
    await visit.open("/")
    return Bench(visit)


def note_sendings(bench: Bench) -> list[str]:
    sent: list[str] = []

    def note(request: Request) -> None:
        if request.method == "POST":
            sent.append(request.url)

    bench.page.on("request", note)
    return sent


async def charged(bench: Bench, settings: Settings) -> int:
    assert settings.playground_key is not None
    key = settings.playground_key.get_secret_value()
    async with AsyncClient(base_url=bench.visit.address) as client:
        account = await client.get("/v1/account", headers={"x-api-key": key})
    return PERIOD_CREDITS - int(account.json()["credits"]["available"])


async def hold_decoding(bench: Bench) -> None:
    """Draw no picture until `end_decoding`: it stands for ones that take seconds."""
    await bench.page.evaluate(
        """() => {
            const { decode } = HTMLImageElement.prototype;
            const held = new Promise((end) => { window.endDecoding = end; });
            HTMLImageElement.prototype.decode = function () {
                return held.then(() => decode.call(this));
            };
        }"""
    )


async def end_decoding(bench: Bench) -> None:
    await bench.page.evaluate("() => window.endDecoding()")


async def lose_connection(bench: Bench, picture: bytes) -> None:
    """Bring `picture` to where "Try again" would send it under the key that it had."""
    bench.visit.expected.append("ERR_FAILED")
    await bench.page.check("#crop")
    await bench.page.route(SENDING, lambda route: route.abort())
    await bench.pick(picture, "lost.jpg")
    await bench.reach("refused")
    await expect(bench.page.get_by_role("alert")).to_contain_text("does not answer")
    await bench.page.unroute_all()


async def expect_nothing_to_press(bench: Bench) -> None:
    sent = note_sendings(bench)
    await expect(bench.page.locator("#again")).to_be_hidden()
    await expect(bench.page.locator("#retry")).to_be_hidden()
    await bench.page.locator("#crop_margin").press("Enter")
    await bench.settle()
    assert sent == []


async def test_another_picture_does_not_hide_one_that_a_worker_has_begun(
    idle_bench: Bench, house: House, settings: Settings, astronaut: bytes
) -> None:
    bench, page = idle_bench, idle_bench.page
    bench.visit.expected.append("409")
    sent = note_sendings(bench)
    await bench.pick(astronaut, "eileen.jpg")
    await page.get_by_text("Waiting for a worker").first.wait_for()
    async with house.sessions.begin() as db:
        job = await jobs.claim(db, lease=house.settings.lease)
    assert job is not None

    await bench.paste(astronaut, "other.png")
    await expect(page.get_by_text("Another picture can come after it.").first).to_be_visible()
    await expect(page.locator("#cancel")).to_be_disabled()
    await house.cutouts.work(job.id, job.attempt)
    await bench.reach("done")

    await bench.saved()
    assert bench.saved_as == "eileen-cutout.png"
    assert len(sent) == 1
    assert await charged(bench, settings) == PRICE_CREDITS


@pytest.mark.parametrize("place", ["on its way back", "being drawn"])
async def test_another_picture_does_not_hide_one_that_is_done(
    bench: Bench, settings: Settings, astronaut: bytes, place: str
) -> None:
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def hold(route: Route) -> None:
        asked.set()
        await go_on.wait()
        await route.continue_()

    await bench.page.route("**/output/**", hold)
    await bench.pick(astronaut, "eileen.jpg")
    await asked.wait()
    await hold_decoding(bench)
    if place == "being drawn":
        async with bench.page.expect_event("requestfinished", lambda one: "/output/" in one.url):
            go_on.set()
        await bench.page.wait_for_function("() => removal.isOver")

    await bench.paste(astronaut, "other.png")
    await expect(bench.page.locator("#goes-on")).to_be_visible()
    go_on.set()
    await end_decoding(bench)
    await bench.reach("done")

    await bench.saved()
    assert bench.saved_as == "eileen-cutout.png"
    assert await charged(bench, settings) == PRICE_CREDITS


async def test_another_picture_takes_the_place_of_one_that_waits(
    idle_bench: Bench, work: WorkOff, settings: Settings, astronaut: bytes
) -> None:
    bench = idle_bench
    sent = note_sendings(bench)
    await bench.pick(astronaut, "eileen.jpg")
    await bench.page.get_by_text("Waiting for a worker").first.wait_for()
    await bench.paste(astronaut, "other.png")

    async def both_are_sent() -> bool:
        return len(sent) == 2

    await until(both_are_sent)
    await bench.page.get_by_text("Waiting for a worker").first.wait_for()
    await work()
    await bench.reach("done")
    await bench.saved()
    assert bench.saved_as == "other-cutout.png"
    assert await charged(bench, settings) == PRICE_CREDITS


async def test_on_the_way_back_to_a_cutout_nothing_can_be_begun(
    bench: Bench, settings: Settings, astronaut: bytes
) -> None:
    await bench.cut(astronaut, "eileen.jpg")
    former = await bench.saved()
    await lose_connection(bench, astronaut)
    await hold_decoding(bench)
    await bench.page.get_by_role("button", name="Back to the cutout").click()
    await expect_nothing_to_press(bench)

    await end_decoding(bench)
    await bench.reach("done")
    assert await bench.saved() == former
    await bench.page.click("#again")
    await expect(bench.page.locator("#no-slide")).to_be_visible()
    assert await charged(bench, settings) == 2 * PRICE_CREDITS


async def test_while_a_picture_opens_the_one_before_cannot_be_tried_again(
    bench: Bench, settings: Settings, astronaut: bytes
) -> None:
    await lose_connection(bench, astronaut)
    await hold_decoding(bench)
    await bench.pick(astronaut, "eileen.jpg")
    await expect_nothing_to_press(bench)

    await end_decoding(bench)
    await bench.reach("done")
    await bench.saved()
    assert bench.saved_as == "eileen-cutout.png"
    assert await charged(bench, settings) == PRICE_CREDITS
