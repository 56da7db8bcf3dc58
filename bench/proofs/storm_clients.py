"""The callers of the kill storm: each keeps asking, under one idempotency key, until it is told.

Three ways in: the use case in this process, and the asynchronous and the synchronous call of two
real gateways. Where one is killed in the middle of a call, that one or the other is asked again.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final
from uuid import UUID

import httpx

from bench.proofs.storm import Watch
from bench.proofs.storm_ground import MODEL, Customer, picture, request_for
from billing.errors import TooManyAtOnceError
from gateway.cutouts import Cutouts
from gateway.errors import OverloadedError, StorageUnavailableError

ACCOUNTS: Final = 20
CLIENTS: Final = 24
BACKLOG: Final = 100
"""Callers hold back while so many jobs are open: workers always find one, nobody waits long."""
PICTURE_PX: Final = 96
"""Small: the storm is about what happens around the model."""
NO_PICTURE: Final = b"no picture at all"
NO_PICTURE_SHARE: Final = 0.05
USE_CASE: Final = "through the use case"
ASYNCHRONOUS: Final = "through a gateway, asynchronous"
SYNCHRONOUS: Final = "through a gateway, synchronous"
WAYS: Final = {USE_CASE: 70, ASYNCHRONOUS: 20, SYNCHRONOUS: 10}
PAUSE_S: Final = 0.2
CALL_S_MAX: Final = 30.0
ASK_AGAIN: Final = frozenset({409, 429, 500, 503})


@dataclass(slots=True)
class Clients:
    """Callers of so many requests; `jobs` is what each was told: the job of its request."""

    cutouts: Cutouts
    http: httpx.AsyncClient
    urls: list[str]
    customers: list[Customer]
    watch: Watch
    requests: int
    chance: random.Random
    picture: bytes = field(default_factory=lambda: picture(PICTURE_PX))
    jobs: dict[int, UUID] = field(default_factory=dict)
    ways: Counter[str] = field(default_factory=Counter)
    asked_again: Counter[str] = field(default_factory=Counter)

    async def run(self) -> None:
        numbers = iter(range(self.requests))

        async def call_on() -> None:
            for number in numbers:
                while self.watch.open > BACKLOG:
                    await self._pause()
                await self._ask(number)

        async with asyncio.TaskGroup() as group:
            for _ in range(CLIENTS):
                group.create_task(call_on())

    async def _ask(self, number: int) -> None:
        """Ask until the answer is a job: while a first call is in work (409), or all is down."""
        way = self.chance.choices(list(WAYS), list(WAYS.values()))[0]
        customer = self.chance.choice(self.customers)
        is_broken = way != SYNCHRONOUS and self.chance.random() < NO_PICTURE_SHARE
        source = NO_PICTURE if is_broken else self.picture
        ways: dict[str, Callable[[Customer, str, bytes], Awaitable[UUID | None]]] = {
            USE_CASE: self._submit,
            ASYNCHRONOUS: self._post_revid,
            SYNCHRONOUS: self._post_codia,
        }
        ask = partial(ways[way], customer, f"storm-{number}", source)
        while (job_id := await ask()) is None:
            await self._pause()
        self.ways[way] += 1
        self.jobs[number] = job_id

    async def _pause(self) -> None:
        if self.watch.is_over:
            raise ConnectionAbortedError("the storm was ended before the calls were")
        await asyncio.sleep(PAUSE_S)

    async def _submit(self, customer: Customer, key: str, source: bytes) -> UUID | None:
        try:
            submitted = await self.cutouts.submit(request_for(customer, source, key=key))
        except (OverloadedError, StorageUnavailableError, TooManyAtOnceError) as exc:
            self.asked_again[type(exc).__name__] += 1
            return None
        return submitted.job_id

    async def _post_revid(self, customer: Customer, key: str, source: bytes) -> UUID | None:
        headers = {"x-api-key": customer.key, "Idempotency-Key": key}
        path = "/paid/image/remove/background"
        answer = await self._post(path, headers, {"file": source})
        return UUID(answer["task_id"]) if answer is not None else None

    async def _post_codia(self, customer: Customer, key: str, source: bytes) -> UUID | None:
        headers = {"Authorization": f"Bearer {customer.key}", "Idempotency-Key": key}
        answer = await self._post("/v1/open/remove_bg", headers, {"image": source})
        if answer is None:
            return None
        name = httpx.URL(answer["data"]["image_url"]).path.rpartition("/")[2]
        return UUID(name.partition(".")[0])

    async def _post(
        self, path: str, headers: dict[str, str], files: dict[str, bytes]
    ) -> dict[str, Any] | None:
        try:
            answer = await self.http.post(
                self.chance.choice(self.urls) + path,
                headers=headers,
                files=files,
                data={"model": MODEL},
            )
        except httpx.TransportError as exc:
            self.asked_again[type(exc).__name__] += 1
            return None
        if answer.status_code in ASK_AGAIN:
            self.asked_again[str(answer.status_code)] += 1
            return None
        assert answer.status_code == 200, answer.text
        document: dict[str, Any] = answer.json()
        return document
