"""Pages in a real browser: what a visitor may never meet, and how the staff signs in."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import uvicorn
from litestar import Litestar
from playwright.async_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Request,
    async_playwright,
)

from billing.db import SessionFactory
from gateway.dashboard.staff import create_staff

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
AXE = files("gateway.web") / "node_modules/axe-core/axe.min.js"
PASSWORD = "correct horse battery staple"
PHONE, DESK = (360, 780), (1440, 900)

needs_chromium = pytest.mark.skipif(
    not CHROMIUM.exists(), reason=f"{CHROMIUM} is missing; `make test-browser` installs it"
)


@dataclass
class Visit:
    """A page of a browser, and whatever it complained of on the way.

    `expected` holds what a test provokes on purpose: parts of console lines that are no fault.
    """

    page: Page
    address: str
    complaints: list[str] = field(default_factory=list)
    strangers: list[str] = field(default_factory=list)
    expected: list[str] = field(default_factory=list)

    def listen(self) -> None:
        """Note complaints, refused scripts or styles, and requests to anywhere else."""

        def note_line(line: ConsoleMessage) -> None:
            if line.type in {"error", "warning"}:
                self.complaints.append(line.text)

        def note_request(request: Request) -> None:
            if not request.url.startswith((self.address, "data:", "blob:")):
                self.strangers.append(request.url)

        self.page.on("console", note_line)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", note_request)

    def check(self) -> None:
        unexpected = [
            line for line in self.complaints if not any(part in line for part in self.expected)
        ]
        assert unexpected == []
        assert self.strangers == []

    async def open(self, path: str) -> None:
        await self.page.goto(self.address + path)

    async def sign_in(self, email: str, password: str = PASSWORD, code: str = "") -> None:
        """Sign in to the dashboard as a person would."""
        await self.open("/admin/sign-in")
        await self.page.get_by_label("Email").fill(email)
        await self.page.get_by_label("Password").fill(password)
        await self.page.get_by_label("One-time code").fill(code)
        await self.page.get_by_role("button", name="Sign in").click()

    async def check_accessible(self) -> None:
        """Let axe-core look for what keeps people out; serious or worse fails."""
        await self.page.evaluate(AXE.read_text())
        found: dict[str, Any] = await self.page.evaluate("axe.run()")
        bad = [
            f"{one['id']}: {node['html']}: {node['failureSummary']}"
            for one in found["violations"]
            if one["impact"] in {"serious", "critical"}
            for node in one["nodes"]
        ]
        assert bad == [], "\n".join(bad)

    async def check_fits(self) -> None:
        """The page never scrolls sideways."""
        over = await self.page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert over <= 0, f"{self.page.url} is {over} px too wide"

    async def tab_order(self, count: int) -> list[str]:
        """Press Tab and tell what has the focus each time, by its accessible words."""
        names = []
        for _ in range(count):
            await self.page.keyboard.press("Tab")
            names.append(
                await self.page.evaluate(
                    "(document.activeElement.ariaLabel || document.activeElement.labels?.[0]?."
                    "textContent || document.activeElement.textContent).trim()"
                )
            )
        return names


@asynccontextmanager
async def served_app(app: Litestar) -> AsyncIterator[str]:
    """Serve `app` on a free port of this machine and give its address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_config=None))
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        await serving


@asynccontextmanager
async def launched() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        await browser.close()


async def new_context(
    browser: Browser, size: tuple[int, int] = DESK, **more: Any
) -> BrowserContext:
    width, height = size
    context = await browser.new_context(viewport={"width": width, "height": height}, **more)
    context.set_default_timeout(10_000)
    return context


async def new_staff(sessions: SessionFactory, role: str) -> str:
    """Let somebody into the dashboard; the password is PASSWORD, the email is new."""
    email = f"{role}-{uuid4().hex[:8]}@example.com"
    async with sessions.begin() as db:
        await create_staff(db, email=email, password=PASSWORD, role=role, actor="test")
    return email


async def form_word_on(page: Page) -> str:
    """Read the word that this session's forms carry."""
    word = await page.locator('input[name="form_word"]').first.get_attribute("value")
    return word or ""
