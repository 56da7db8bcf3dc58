"""A real worker, killed in the middle of telling: another tells it, under the same id."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import text

from gateway.settings import Settings
from gateway.tables import DELIVERED, WebhookDelivery
from gateway.webhooks.deliveries import Outcome, attempts_at, deliveries_of
from tests.gateway.webhooks.receiver import open_receiver
from tests.gateway.workshop import OpenWorkshop, Workshop

START_S_MAX = 90
TAKEOVER_S_MAX = 20


class Workers:
    """Worker processes with the settings of a workshop."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, settings: Settings, place: str) -> subprocess.Popen[bytes]:
        environment = {
            "CUTOUT_DATABASE_URL": str(settings.database_url),
            "CUTOUT_REDIS_URL": str(settings.redis_url),
            "CUTOUT_STORAGE_URL": settings.storage_url,
            "CUTOUT_KEY_PEPPERS": '{"1": "pepper-of-the-tests-and-nobody-else"}',
            "CUTOUT_LINK_SECRET": settings.link_secret.get_secret_value(),
            "CUTOUT_MISSING_WEIGHTS": "substitute",
            "CUTOUT_PRELOAD_MODELS": '["cutout-lite"]',
            "CUTOUT_FETCH_ALLOWED_HOSTS": f'["{place}"]',
            "CUTOUT_WEBHOOK_DEADLINE": "PT3S",
        }
        log_path = self._folder / f"worker-{len(self._processes)}.log"
        with log_path.open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "gateway.worker"],
                env=os.environ | environment,
                stdout=log,
                stderr=log,
            )
        self._processes.append(process)
        give_up_at = time.monotonic() + START_S_MAX
        while b"worker.ready" not in log_path.read_bytes():
            assert process.poll() is None, log_path.read_text()
            assert time.monotonic() < give_up_at, log_path.read_text()
            time.sleep(0.05)
        return process

    def end_all(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[Workers]:
    workers = Workers(tmp_path)
    yield workers
    workers.end_all()


async def test_what_was_committed_is_told_although_whoever_told_it_was_killed(
    open_workshop: OpenWorkshop, workers: Workers, astronaut: bytes
) -> None:
    workshop = await open_workshop()
    async with workshop.sessions.begin() as db:
        await db.execute(
            text(
                "UPDATE webhook_delivery SET state = 'failed', finished_at = now()"
                " WHERE state = 'pending'"
            )
        )
    caller = await workshop.caller()
    async with open_receiver(pause_s=60) as receiver:
        # Committed while there is no worker at all.
        await workshop.cutouts.run(workshop.request(caller, astronaut, webhook_url=receiver.url))

        doomed = await asyncio.to_thread(workers.start, workshop.settings, receiver.place)
        await asyncio.wait_for(receiver.was_heard.wait(), 10)
        doomed.kill()  # it waits for our answer
        doomed.wait()
        killed_at = time.monotonic()
        receiver.pause_s = 0
        await asyncio.to_thread(workers.start, workshop.settings, receiver.place)
        delivery = await delivered(workshop, caller.key.account_id)
        took_s = time.monotonic() - killed_at

    assert took_s <= TAKEOVER_S_MAX
    assert len(receiver.ids) == 2
    assert len(set(receiver.ids)) == 1
    async with workshop.sessions.begin() as db:
        outcomes = [attempt.outcome for attempt in await attempts_at(db, delivery.id)]
    assert outcomes == [None, Outcome.DELIVERED]
    assert await workshop.captures_of(delivery.job_id or caller.key.account_id) == 1


async def delivered(workshop: Workshop, account_id: UUID) -> WebhookDelivery:
    async with asyncio.timeout(60):
        while True:
            async with workshop.sessions.begin() as db:
                (delivery,) = await deliveries_of(db, account_id)
            if delivery.state == DELIVERED:
                return delivery
            await asyncio.sleep(0.05)
