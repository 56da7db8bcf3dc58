"""How long does the gateway take for each page of the dashboard and the console?

    python -m bench.seed_billing --data-dir .cutout-seed
    python -m bench.pages --data-dir .cutout-seed

Every GET route of `/admin` and `/console` that answers a page is asked, the busiest account
standing for all, so that a page that is added is measured too, and one that nobody has told how to
ask ends the run. Rounds go through the pages in a new order each time: a moment of noise hits many
pages a little, not one much. The app runs in this process, over real Postgres and Valkey; what is
timed is the whole answer, guard and template included, without the network. Prints a markdown table
and fails where a page's 95th percentile is over 300 ms.
"""

import argparse
import asyncio
import logging
import os
import platform
import random
import re
import statistics
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final
from uuid import uuid4

import structlog
from httpx import ASGITransport, AsyncClient, Response
from litestar import Litestar
from litestar.routes import HTTPRoute
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from billing.keys import KeyHasher, create_key
from gateway.app import House, create_app
from gateway.dashboard.staff import create_staff
from gateway.embedded.services import Embedded
from gateway.settings import Settings
from migrations.run import upgrade

REQUESTS: Final = 30
LIMIT_MS: Final = 300
PASSWORD: Final = "correct horse battery staple"  # noqa: S105 - of a person who is made up here
PEPPER: Final = "pepper-of-a-benchmark-and-nobody-else"
# Not pages: files, pictures, parts that a page asks for, and the doors.
PASSED_BY: Final = re.compile(r"\.csv$|/(source|result|thumbnail|standing|rules|sign-in)$")
MORE: Final = {
    "/admin": ["range=24h", "range=7d", "range=30d", "range=90d"],
    "/admin/jobs": ["state=failed", "error=internal_error", "account={name}", "model=u2net"],
    "/admin/audit": ["account={name}", "actor=olga"],
}
"""The same pages, asked for what is dear."""
BUSIEST: Final = text(
    """
    SELECT a.id AS account_id, a.name FROM account a
    JOIN credit_account c ON c.account_id = a.id
    WHERE a.status = 'active' ORDER BY c.consumed DESC LIMIT 1
    """
)
THINGS: Final = {
    "job_id": "SELECT id FROM job WHERE account_id = :account_id ORDER BY created_at DESC LIMIT 1",
    "failed": "SELECT id FROM job WHERE account_id = :account_id AND state = 'failed' LIMIT 1",
    "grant_id": "SELECT id FROM credit_grant WHERE account_id = :account_id LIMIT 1",
    "delivery_id": "SELECT id FROM webhook_delivery WHERE account_id = :account_id LIMIT 1",
    "key_id": "SELECT key_id FROM api_key WHERE account_id = :account_id LIMIT 1",
}


@dataclass(slots=True)
class Timed:
    """What one page took, in milliseconds."""

    path: str
    room: str
    size_bytes: int = 0
    ms: list[float] = field(default_factory=list)

    @property
    def p95(self) -> float:
        return sorted(self.ms)[max(0, round(0.95 * len(self.ms)) - 1)]


def routes_of(app: Litestar) -> Iterator[str]:
    for route in app.routes:
        is_page = route.path_format.startswith(("/admin", "/console"))
        if isinstance(route, HTTPRoute) and is_page and "GET" in route.methods:
            yield route.path_format


def pages_of(app: Litestar, known: Mapping[str, str]) -> list[Timed]:
    """Give every page with its places filled in."""
    pages = []
    for path in routes_of(app):
        if PASSED_BY.search(path):
            continue
        filled = _filled(path, known)
        if filled is None:
            print(f"nothing to ask {path} of", flush=True)
            continue
        room = "console" if path.startswith("/console") else "admin"
        queries = ["", *MORE.get(path, [])]
        pages += [Timed(f"{filled}?{q.format(**known)}".rstrip("?"), room) for q in queries]
    return pages


def _filled(path: str, known: Mapping[str, str]) -> str | None:
    """Fill a path's places in; None where the seed holds no such thing."""
    act = known.get("failed") and f"rerun?job={known['failed']}"
    places = {**known, "name": act if "/acts/" in path else "I3"}
    for place in re.findall(r"{(\w+)(?::\w+)?}", path):
        if place not in places:
            raise SystemExit(f"{path}: nobody has said what {place} is")
        if places[place] is None:
            return None
        path = re.sub(r"{" + place + r"(:\w+)?}", str(places[place]), path)
    return path


async def things_of(db: AsyncSession) -> dict[str, Any]:
    """Find the busiest account, and one of each of its things."""
    account = (await db.execute(BUSIEST)).one()
    known = {"account_id": account.account_id, "name": account.name}
    for name, query in THINGS.items():
        known[name] = await db.scalar(text(query), {"account_id": account.account_id})
    return known


async def signed_in(app: Litestar, house: House, account_id: Any) -> dict[str, AsyncClient]:
    """Sign an owner in to the dashboard, and the account's own key to the console."""
    email = f"bench-{uuid4().hex[:8]}@example.com"
    async with house.sessions.begin() as db:
        await create_staff(db, email=email, password=PASSWORD, role="owner", actor="bench")
        _, key = await create_key(
            db,
            KeyHasher(house.settings.peppers),
            account_id=account_id,
            env="live",
            scopes=("cutout", "read", "admin"),
            actor="bench",
        )
    forms = {"admin": {"email": email, "password": PASSWORD}, "console": {"key": key}}
    clients = {}
    for room, form in forms.items():
        transport = ASGITransport(app)  # type: ignore[arg-type]  # two spellings of ASGI
        client = AsyncClient(transport=transport, base_url=house.settings.public_url)
        answer = await client.post(f"/{room}/sign-in", data=form)
        if answer.status_code != 303:
            raise SystemExit(f"{room}: sign-in answered {answer.status_code}")
        clients[room] = client
    return clients


async def measure(settings: Settings, requests: int) -> list[Timed]:
    app = create_app(settings)
    house: House = app.state.house
    async with app.lifespan():
        async with house.sessions() as db:
            known = await things_of(db)
        clients = await signed_in(app, house, known["account_id"])
        pages = pages_of(app, known)
        order = random.Random(requests)  # noqa: S311 - no secret
        for _ in range(requests):
            for page in order.sample(pages, len(pages)):
                await ask(clients[page.room], page)
        for client in clients.values():
            await client.aclose()
    return pages


async def ask(client: AsyncClient, page: Timed) -> None:
    """Ask for a page and note how long it took; past the console's own limit, wait and ask anew."""
    while True:
        started = time.perf_counter()
        answer: Response = await client.get(page.path)
        took_ms = (time.perf_counter() - started) * 1000
        if answer.status_code != 429:
            break
        await asyncio.sleep(int(answer.headers.get("Retry-After", "1")))
    if answer.status_code != 200:
        raise SystemExit(f"{page.path}: {answer.status_code}")
    page.ms.append(took_ms)
    page.size_bytes = len(answer.content)


def show(pages: list[Timed], known_ids: re.Pattern[str]) -> None:
    print(f"{len(pages)} pages, {len(pages[0].ms)} requests each, {os.cpu_count()} cores,", end=" ")
    print(f"Python {platform.python_version()}\n")
    print("| page | p50 ms | p95 ms | longest ms | KiB |\n|---|---:|---:|---:|---:|")
    for page in sorted(pages, key=lambda page: page.path):
        name = known_ids.sub("…", page.path)
        numbers = (statistics.median(page.ms), page.p95, max(page.ms))
        cells = " | ".join(f"{number:.0f}" for number in numbers)
        print(f"| `{name}` | {cells} | {page.size_bytes / 1024:.0f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, required=True, help="what seed_billing has filled")
    parser.add_argument("--requests", type=int, default=REQUESTS)
    asked = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    with Embedded(asked.data_dir) as embedded, TemporaryDirectory() as storage:
        upgrade(embedded.database_owner_url)
        settings = Settings.model_validate(
            {
                "database_url": embedded.database_url,
                "redis_url": embedded.redis_url,
                "storage_url": Path(storage).as_uri(),
                "key_peppers": {1: PEPPER},
                "link_secret": PEPPER,
                "preload_models": [],
            }
        )
        pages = asyncio.run(measure(settings, asked.requests))
    show(pages, re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}"))
    slow = [page.path for page in pages if page.p95 > LIMIT_MS]
    if slow:
        raise SystemExit(f"p95 over {LIMIT_MS} ms: {', '.join(slow)}")


if __name__ == "__main__":
    main()
