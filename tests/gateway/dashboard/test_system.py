"""The system page: who runs, on which weights, on what; and what it says while Redis is away."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from litestar import Litestar
from playwright.async_api import Browser, expect

from gateway.app import House, create_app
from gateway.presence import announced
from gateway.settings import Settings
from tests.gateway.dashboard.calls import asked
from tests.gateway.faces import Visit, needs_chromium, new_context, new_staff, served_app
from tests.gateway.web import PUBLIC_URL
from tests.gateway.workshop import until

pytestmark = [needs_chromium, pytest.mark.browser]

SignIn = Callable[[str], Awaitable[str]]
PAGE = "/admin/system"


async def test_a_gateway_and_a_worker_are_seen_with_what_they_have_loaded(
    visit: Visit, signed_in: SignIn, house: House
) -> None:
    await signed_in("viewer")
    loaded = {"cutout-lite": "CUDAExecutionProvider"}
    async with announced(str(house.settings.redis_url), "worker", slots=3, models=lambda: loaded):
        worker = visit.page.locator("tr", has_text="cutout-lite on CUDA")

        async def is_seen() -> bool:
            await visit.open(PAGE)
            return await worker.count() == 1

        await until(is_seen)
        await expect(worker).to_contain_text("alive")
        gateway = visit.page.locator("tr", has_text="cutout-lite on CPU").first
        await expect(gateway.locator("th")).to_have_text("gateway")
    await visit.open(PAGE)
    await expect(worker).to_have_count(0)


async def test_postgres_is_told_as_it_is(visit: Visit, signed_in: SignIn, house: House) -> None:
    await signed_in("viewer")
    await visit.open(PAGE)
    card = visit.page.locator("section", has=visit.page.get_by_role("heading", name="Postgres"))
    for query in (
        "SELECT current_setting('server_version')",
        "SELECT version_num FROM alembic_version",
        "SELECT 'of ' || current_setting('max_connections')",
    ):
        await expect(card).to_contain_text(await asked(house.sessions, query))
    await expect(card).to_contain_text("up to date")
    await expect(card).to_contain_text("not flushed")  # the tests' servers are not durable


def _settings_with(make_settings: Callable[..., Settings], **overrides: object) -> Litestar:
    defaults = {"public_url": PUBLIC_URL, "default_model": "cutout-lite"}
    return create_app(make_settings(**(defaults | overrides)))


async def test_without_redis_the_page_says_so_and_the_rest_is_there(
    make_settings: Callable[..., Settings], browser: Browser
) -> None:
    app = _settings_with(make_settings, redis_url="redis://127.0.0.1:1/0")
    async with served_app(app) as address:
        context = await new_context(browser)
        visit = Visit(await context.new_page(), address)
        visit.listen()
        await visit.sign_in(await new_staff(app.state.house.sessions, "viewer"))
        await expect(visit.page.locator(".standing")).to_contain_text("Redis is away")
        await visit.open(PAGE)
        await expect(visit.page.get_by_text("so who runs is not known")).to_be_visible()
        await expect(visit.page.get_by_text("up to date")).to_be_visible()
        await context.close()
        visit.check()


async def test_weights_are_missing_right_or_wrong(
    make_settings: Callable[..., Settings], browser: Browser, tmp_path: Path
) -> None:
    (tmp_path / "u2netp.onnx").write_bytes(b"not a network")
    app = _settings_with(make_settings, weights_dir=tmp_path)
    async with served_app(app) as address:
        context = await new_context(browser)
        visit = Visit(await context.new_page(), address)
        await visit.sign_in(await new_staff(app.state.house.sessions, "viewer"))

        async def is_checked() -> bool:
            await visit.open(PAGE)
            return "being reckoned" not in await visit.page.content()

        await until(is_checked)
        await expect(visit.page.get_by_text("They are looked for in")).to_contain_text(
            str(tmp_path)
        )
        table = visit.page.get_by_role("region", name="Models")
        for name, word in (
            ("u2netp", "wrong checksum"),
            ("u2net", "missing"),
            ("cutout-lite", "right"),
        ):
            row = table.locator(
                "tr", has=visit.page.get_by_role("rowheader", name=name, exact=True)
            )
            await expect(row).to_contain_text(word)
        await context.close()


async def test_where_no_folder_of_weights_may_be_looked_into_it_says_so(
    visit: Visit, signed_in: SignIn
) -> None:
    await signed_in("viewer")  # the tests' gateway has none
    await visit.open(PAGE)
    place = visit.page.get_by_text("may look into no folder of weights")
    await expect(place).to_contain_text("CUTOUT_WEIGHTS_DIR names one")
