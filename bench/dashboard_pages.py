"""How long does each page of the dashboard take the server, with 10,000 accounts and 1.2 M entries?

    python -m bench.seed_billing --data-dir .cutout-seed     # once, two minutes
    python -m bench.dashboard_pages --data-dir .cutout-seed [--rounds 30]

The app runs in this process and is asked over ASGI, all pages in turn, round by round; what is
measured is from the request to the whole answer, database included, browser and network not. The
aim is 300 ms at p95. Acts are only asked for their effect, which is rehearsed and taken back.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

from httpx import ASGITransport, AsyncClient
from sqlalchemy import text

from billing.db import SessionFactory
from gateway.app import create_app
from gateway.dashboard.staff import create_staff
from gateway.embedded.services import Embedded
from gateway.settings import Settings
from migrations.run import upgrade

PASSWORD = "correct horse battery staple"  # noqa: S105 - of an owner who lives as long as this
AIM_MS = 300
BUSIEST = text(
    "SELECT account_id FROM hold GROUP BY account_id ORDER BY count(*) DESC, account_id LIMIT 1"
)
A_JOB = text("SELECT id FROM job WHERE state = 'succeeded' ORDER BY created_at DESC LIMIT 1")


def settings_for(embedded: Embedded, folder: str) -> Settings:
    return Settings(
        database_url=embedded.database_url,  # type: ignore[arg-type]  # pydantic reads a string
        redis_url=embedded.redis_url,  # type: ignore[arg-type]  # the same
        storage_url=f"file://{folder}",
        key_peppers={1: "p" * 32},  # type: ignore[dict-item]  # the same
        link_secret="s" * 32,  # type: ignore[arg-type]
        missing_weights="substitute",
        preload_models=[],
    )


@asynccontextmanager
async def owner_of(settings: Settings) -> AsyncIterator[tuple[AsyncClient, SessionFactory]]:
    """Bring the app up, and sign a new owner in."""
    app = create_app(settings)
    sessions: SessionFactory = app.state.house.sessions
    email = f"{uuid4().hex[:12]}@example.com"
    transport = ASGITransport(app)  # type: ignore[arg-type]  # two spellings of ASGI
    async with (
        app.lifespan(),
        AsyncClient(transport=transport, base_url="https://gateway", timeout=60) as client,
    ):
        async with sessions.begin() as db:
            await create_staff(db, email=email, password=PASSWORD, role="owner", actor="bench")
        form = {"email": email, "password": PASSWORD}
        assert (await client.post("/admin/sign-in", data=form)).status_code == 303
        yield client, sessions


async def pages_of(sessions: SessionFactory) -> list[str]:
    async with sessions() as db:
        busiest, job = await db.scalar(BUSIEST), await db.scalar(A_JOB)
    account = f"/admin/accounts/{busiest}"
    return [
        "/admin",
        "/admin/accounts",
        "/admin/accounts?sort=used&down=1",
        "/admin/accounts?q=garden",
        "/admin/accounts?page=150",
        account,
        f"{account}/statement",
        f"{account}/statement?holds=1&before=3000",
        f"{account}/acts/grant",
        "/admin/jobs",
        "/admin/jobs?state=failed",
        f"/admin/jobs/{job}",
        "/admin/invariants",
        "/admin/audit",
        "/admin/exports",
        "/admin/system",
    ]


async def measure(settings: Settings, rounds: int) -> dict[str, list[float]]:
    async with owner_of(settings) as (client, sessions):
        pages = await pages_of(sessions)
        took: dict[str, list[float]] = {path: [] for path in pages}
        profile = (await client.get("/admin/profile")).text
        word = profile.split('name="form_word" value="')[1].split('"')[0]
        grant = {"form_word": word, "credits": "100", "source": "topup", "reason": "measured"}
        act = next(path for path in pages if path.endswith("/acts/grant"))
        took[f"{act} (effect shown)"] = []
        for _ in range(rounds):
            for path in pages:
                started = time.perf_counter()
                answer = await client.get(path)
                took[path].append((time.perf_counter() - started) * 1000)
                assert answer.status_code == 200, (path, answer.status_code)
            started = time.perf_counter()
            answer = await client.post(act, data=grant)
            took[f"{act} (effect shown)"].append((time.perf_counter() - started) * 1000)
            assert answer.status_code == 200, act
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=30)
    asked = parser.parse_args()
    with Embedded(asked.data_dir) as embedded, tempfile.TemporaryDirectory() as folder:
        upgrade(embedded.database_owner_url)
        took = asyncio.run(measure(settings_for(embedded, folder), asked.rounds))
    print("| page | first, ms | p50, ms | p95, ms |\n|---|--:|--:|--:|")
    for path, times in took.items():
        first, rest = times[0], sorted(times)
        p95 = rest[int(len(rest) * 0.95)]
        mark = "" if p95 < AIM_MS else " **"
        print(f"| `{path}` | {first:.0f} | {statistics.median(rest):.0f} | {p95:.0f}{mark} |")


if __name__ == "__main__":
    main()
