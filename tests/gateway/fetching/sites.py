"""Real servers on loopback that answer as no well-meant server would."""

import asyncio
import os
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any

import pytest

from gateway.errors import FetchError
from gateway.fetching.addresses import IPAddress
from gateway.fetching.fetch import Fetcher
from gateway.settings import Settings
from tests.gateway.bare import settings_with

PHOTO = os.urandom(200_000)
ROOM = 300_000
Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]


def fetching(**overrides: Any) -> Settings:
    return settings_with(**({"upload_bytes_max": ROOM} | overrides))


@dataclass
class Site:
    """A server whose paths are programmed one by one, and what it was asked."""

    port: int = 0
    answers: dict[str, Answer] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    names: list[str | None] = field(default_factory=list)
    """What TLS clients called it."""
    sent_bytes: int = 0

    @property
    def place(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.place}"

    def says(self, path: str, *parts: bytes, pause_s: float = 0.0, is_endless: bool = False) -> str:
        """Answer `path` with `parts`, `pause_s` apart, the last one for ever if `is_endless`."""

        async def answer(writer: asyncio.StreamWriter) -> None:
            for part in parts:
                await self._send(writer, part)
                await asyncio.sleep(pause_s)
            while is_endless:
                await self._send(writer, parts[-1])
                await asyncio.sleep(pause_s)

        self.answers[path] = answer
        return self.url + path

    def shows(self, path: str, body: bytes, *headers: str, status: str = "200 OK") -> str:
        """Answer `path` properly."""
        lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
        return self.says(path, "\r\n".join(lines).encode() + b"\r\n\r\n", body)

    def sends_on(self, path: str, location: str) -> str:
        return self.shows(path, b"", f"Location: {location}", status="302 Found")

    async def _send(self, writer: asyncio.StreamWriter, part: bytes) -> None:
        writer.write(part)
        await writer.drain()
        self.sent_bytes += len(part)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.requests.append(request)
            path = request.split(" ")[1].partition("?")[0]
            await self.answers[path](writer)
        except (OSError, asyncio.IncompleteReadError):
            pass  # the visitor left
        finally:
            writer.close()


@asynccontextmanager
async def open_site(
    tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
) -> AsyncIterator[Site]:
    site = Site()
    visits: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        visits.add(task)
        task.add_done_callback(visits.discard)
        await site.serve(reader, writer)

    if tls is not None:
        tls.sni_callback = lambda _socket, name, _context: site.names.append(name)
    server = await asyncio.start_server(serve, host, 0, ssl=tls)
    site.port = server.sockets[0].getsockname()[1]
    try:
        yield site
    finally:
        server.close()
        for visit in list(visits):
            visit.cancel()
        await asyncio.gather(*visits, return_exceptions=True)


class Names:
    """A resolver with a table; it counts how often each name was asked."""

    def __init__(self, table: dict[str, list[str]]) -> None:
        self.table = table
        self.asked: list[str] = []

    async def __call__(self, name: str) -> list[IPAddress]:
        self.asked.append(name)
        if name not in self.table:
            raise OSError("no such name")
        return [ip_address(address) for address in self.table[name]]


async def refusal(fetcher: Fetcher, url: str) -> FetchError:
    with pytest.raises(FetchError) as caught:
        (await fetcher.fetch(url)).close()
    return caught.value
