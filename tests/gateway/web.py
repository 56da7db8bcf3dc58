"""An app brought up for a test, its customers, and a web server for it to fetch from."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from httpx import ASGITransport, AsyncClient
from litestar import Litestar

from billing.accounts import create_account
from billing.db import SessionFactory
from billing.keys import KeyHasher, create_key
from billing.posting import Balance
from gateway.settings import Settings

PUBLIC_URL = "https://cutout.test"


@dataclass(frozen=True, slots=True)
class Customer:
    account_id: UUID
    key: str

    @property
    def bearer(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}

    @property
    def x_api_key(self) -> dict[str, str]:
        return {"x-api-key": self.key}


MakeClient = Callable[..., Awaitable[tuple[AsyncClient, Customer]]]
NewCustomer = Callable[..., Awaitable[Customer]]
ReadBalance = Callable[[Customer], Awaitable[Balance]]
WorkOff = Callable[[], Awaitable[int]]


@asynccontextmanager
async def living(app: Litestar) -> AsyncIterator[AsyncClient]:
    """Bring `app` up, and speak to it on this test's own loop, where its connections live.

    Its lifespan is in a task of its own: pytest sets a fixture up in one task and tears it down in
    another, which a task group inside refuses.
    """
    started, ending = asyncio.Event(), asyncio.Event()

    async def live() -> None:
        async with app.lifespan():
            started.set()
            await ending.wait()

    life = asyncio.create_task(live())
    starting = asyncio.create_task(started.wait())
    await asyncio.wait([life, starting], return_when=asyncio.FIRST_COMPLETED)
    transport = ASGITransport(app)  # type: ignore[arg-type]  # two spellings of ASGI
    async with AsyncClient(transport=transport, base_url="http://gateway") as client:
        yield client
    ending.set()
    await life


async def open_account(
    settings: Settings,
    sessions: SessionFactory,
    *,
    plan: str = "free",
    env: str = "live",
    **key: Any,
) -> Customer:
    """Open an account with a key of its own: tests really commit, and share nothing."""
    peppers = settings.key_peppers
    hasher = KeyHasher({version: text.get_secret_value() for version, text in peppers.items()})
    async with sessions.begin() as db:
        account = await create_account(db, name="Ada", plan=plan, actor="test")
        _, plaintext = await create_key(
            db, hasher, account_id=account.id, env=env, actor="test", **key
        )
        return Customer(account.id, plaintext)


@asynccontextmanager
async def web_server(content: bytes) -> AsyncIterator[tuple[str, list[bytes]]]:
    """Serve `content` to whoever asks on a port of this machine; notes what was asked."""
    asked: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(content)}\r\nConnection: close\r\n\r\n"
        writer.write(head.encode() + content)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", asked
