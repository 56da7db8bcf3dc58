"""A customer's server that hears webhooks: it answers as it is told to and keeps what it heard."""

import asyncio
import base64
import hashlib
import hmac
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

OK = "200 OK"


@dataclass(frozen=True, slots=True)
class Heard:
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.body)
        return document

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    def is_signed_with(self, secret: str) -> bool:
        """Check the signature as a receiver's library does, by the specification's words."""
        key = base64.b64decode(secret.removeprefix("whsec_"))
        content = f"{self.id}.{self.headers['webhook-timestamp']}.".encode() + self.body
        mine = "v1," + base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
        return mine in self.headers["webhook-signature"].split(" ")


@dataclass
class Receiver:
    """Answers each call with the next of `answers`, and the last one for ever."""

    port: int = 0
    answers: list[str] = field(default_factory=lambda: [OK])
    pause_s: float = 0.0
    heard: list[Heard] = field(default_factory=list)
    was_heard: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def place(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.place}/hook?token=mine"

    @property
    def ids(self) -> list[str]:
        return [heard.id for heard in self.heard]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            first, *lines = head.rstrip().split("\r\n")
            fields = dict(line.split(": ", 1) for line in lines)
            headers = {name.lower(): value for name, value in fields.items()}
            body = await reader.readexactly(int(headers["content-length"]))
            self.heard.append(Heard(first.split(" ")[1], headers, body))
            self.was_heard.set()
            status = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            await asyncio.sleep(self.pause_s)
            writer.write(f"HTTP/1.1 {status}\r\nContent-Length: 4\r\n\r\nbody".encode())
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass  # the visitor left
        finally:
            writer.close()


@asynccontextmanager
async def open_receiver(
    *answers: str, pause_s: float = 0.0, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Receiver]:
    receiver = Receiver(answers=list(answers) or [OK], pause_s=pause_s)
    visits: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        visits.add(task)
        task.add_done_callback(visits.discard)
        await receiver.serve(reader, writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()
        for visit in list(visits):
            visit.cancel()
        await asyncio.gather(*visits, return_exceptions=True)
