"""What the storms stand on: servers of their own, the house's settings, customers with keys."""

import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any, Final

from PIL import Image

from billing.accounts import create_account
from billing.db import SessionFactory, make_engine, make_sessions
from billing.keys import KeyHasher, authenticate, create_key
from core import CutoutOptions
from gateway.admission import Admission
from gateway.auth import Caller
from gateway.cutouts import CutoutRequest, Cutouts
from gateway.embedded.services import Embedded
from gateway.inference import Inference
from gateway.outbox import Bell
from gateway.settings import Settings
from gateway.source import Source
from gateway.storage import Storage
from migrations.run import upgrade
from tests.conftest import encoded_photograph

MODEL: Final = "cutout-lite"
PEPPERS: Final = {1: "pepper-of-the-storm-" + "x" * 32}
LINK_SECRET: Final = "link-secret-of-the-storm-" + "x" * 32
COUNT: Final = """
SELECT count(*) FILTER (WHERE finished_at IS NULL),
       count(*) FILTER (WHERE finished_at IS NOT NULL)
FROM job
"""


@dataclass(frozen=True, slots=True)
class Ground:
    """Servers, migrated, in a folder that ends with them."""

    services: Embedded
    folder: Path

    @property
    def storage_url(self) -> str:
        return f"file://{self.folder}/storage"

    @property
    def environment(self) -> dict[str, str]:
        """What a worker or a gateway of the ground is told; leases are those of production."""
        return {
            "CUTOUT_DATABASE_URL": self.services.database_socket_url,
            "CUTOUT_REDIS_URL": self.services.redis_url,
            "CUTOUT_STORAGE_URL": self.storage_url,
            "CUTOUT_KEY_PEPPERS": f'{{"1": "{PEPPERS[1]}"}}',
            "CUTOUT_LINK_SECRET": LINK_SECRET,
            "CUTOUT_DEFAULT_MODEL": MODEL,
            "CUTOUT_PRELOAD_MODELS": f'["{MODEL}"]',
            "CUTOUT_INFERENCE_SLOTS": "1",
            "PGSSLMODE": "disable",
        }

    @property
    def settings(self) -> Settings:
        ours: dict[str, Any] = {
            "database_url": self.services.database_url,
            "redis_url": self.services.redis_url,
            "storage_url": self.storage_url,
            "key_peppers": PEPPERS,
            "link_secret": LINK_SECRET,
        }
        return Settings(**ours)


@contextmanager
def laid(*, is_durable: bool = True) -> Iterator[Ground]:
    with tempfile.TemporaryDirectory(prefix="cutout-storm-") as folder:
        Path(folder).chmod(0o711)
        with Embedded(Path(folder), is_durable=is_durable) as services:
            upgrade(services.database_owner_url)
            yield Ground(services, Path(folder))


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Cutouts]:
    """Open the use case, for a loop of its own: whoever submits needs no model."""
    engine = make_engine(str(settings.database_url))
    cutouts = Cutouts(
        sessions=make_sessions(engine),
        storage=Storage.from_url(settings.storage_url),
        inference=Inference(settings),
        admission=Admission(settings),
        bell=Bell(str(settings.redis_url)),
        settings=settings,
    )
    try:
        yield cutouts
    finally:
        await cutouts.close()
        await cutouts.bell.close()
        await engine.dispose()


@dataclass(frozen=True, slots=True)
class Customer:
    caller: Caller
    key: str


async def open_customers(sessions: SessionFactory, count: int) -> list[Customer]:
    """Open so many accounts, each with a key that no limit of its own holds back."""
    hasher, customers = KeyHasher(PEPPERS), []
    for n in range(count):
        async with sessions.begin() as db:
            account = await create_account(db, name=f"storm {n}", plan="growth", actor="proof")
            _, key = await create_key(
                db,
                hasher,
                account_id=account.id,
                env="live",
                rate_per_minute=60_000,
                burst=10_000,
                concurrency_max=1_000,
                actor="proof",
            )
        async with sessions.begin() as db:
            facts = await authenticate(db, hasher, key)
        customers.append(Customer(Caller(facts, "storm", "127.0.0.1"), key))
    return customers


def picture(edge_px: int) -> bytes:
    """Give a photograph in a square of so many pixels."""
    buffer = BytesIO()
    with Image.open(BytesIO(encoded_photograph("astronaut"))) as photograph:
        photograph.resize((edge_px, edge_px)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def request_for(customer: Customer, source: bytes, *, key: str | None = None) -> CutoutRequest:
    """Ask for a cutout as a dialect would, `key` being the idempotency key."""
    return CutoutRequest(
        caller=customer.caller,
        source=Source(source),
        model=MODEL,
        options=CutoutOptions(),
        dialect="revid",
        idempotency_key=key,
        body_sha256=sha256(source).hexdigest(),
    )
