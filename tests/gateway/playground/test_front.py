"""The first page that a developer sees, over ASGI and in a real browser."""

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import uvicorn
from httpx import AsyncClient
from litestar import Litestar
from playwright.async_api import ConsoleMessage, Page, Request, ViewportSize, async_playwright

from tests.gateway.web import PUBLIC_URL, MakeClient

CHROMIUM = Path("/usr/bin/chromium")
CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
needs_chromium = pytest.mark.skipif(
    not CHROMIUM.exists(), reason=f"{CHROMIUM} is missing; `make test-browser` installs it"
)


async def test_the_front_page_shows_both_calls_at_the_public_url(client: AsyncClient) -> None:
    page = await client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    assert f"curl '{PUBLIC_URL}/v1/open/remove_bg'" in page.text
    assert f"curl -X POST '{PUBLIC_URL}/paid/image/remove/background'" in page.text


async def test_the_front_page_goes_on_to_the_cutout(client: AsyncClient) -> None:
    page = await client.get("/")
    assert f"curl '{PUBLIC_URL}/api/get/TASK_ID?wait=20'" in page.text
    assert page.text.count("curl -o cutout.png 'IMAGE_URL'") == 2


@pytest.mark.parametrize("path", ["/", "/schema"])
async def test_a_page_can_be_asked_for_without_its_body(client: AsyncClient, path: str) -> None:
    head, page = await client.head(path), await client.get(path)
    assert head.status_code == 200
    assert head.content == b""
    assert head.headers["Content-Type"] == page.headers["Content-Type"]


async def test_the_public_url_cannot_write_markup(make_client: MakeClient) -> None:
    client, _ = await make_client(public_url="http://x/<script>alert(1)</script>")
    page = await client.get("/")
    assert "<script" not in page.text


@pytest.fixture
async def address(app: Litestar) -> AsyncIterator[str]:
    """Serve the app on a free port of this machine."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_config=None))
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        await serving


@pytest.fixture
async def page() -> AsyncIterator[Page]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM, args=CHROMIUM_FLAGS, headless=True
        )
        yield await browser.new_page()
        await browser.close()


@needs_chromium
@pytest.mark.browser
@pytest.mark.parametrize("width_px", [360, 1440])
async def test_the_front_page_fits_asks_nobody_else_and_complains_of_nothing(
    page: Page, address: str, width_px: int
) -> None:
    complaints: list[str] = []
    asked: list[str] = []

    def note_complaint(message: ConsoleMessage) -> None:
        complaints.append(message.text)

    def note_request(request: Request) -> None:
        asked.append(request.url)

    page.on("console", note_complaint)
    page.on("request", note_request)
    await page.set_viewport_size(ViewportSize(width=width_px, height=800))

    await page.goto(address)

    assert await page.get_by_role("heading", level=1).inner_text() == "Cutout Gateway"
    assert await page.evaluate("document.documentElement.scrollWidth") <= width_px
    assert await page.evaluate("getComputedStyle(document.querySelector('main')).maxWidth") == (
        "704px"  # the style sheet was let in
    )
    assert complaints == []
    assert asked
    assert all(url.startswith(address) for url in asked)
