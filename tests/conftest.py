"""What the tests of every room stand on: a real Postgres, a real Valkey, real photographs.

One pair of servers a run, in a folder of its own; one database, brought up by the migrations that
production runs. Code under test may commit: `sessions` keeps it inside a transaction that is rolled
back. Races and crashes need real commits: those tests take `committed_sessions` and fresh accounts.
"""

import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import skimage.data
from hypothesis import HealthCheck, settings
from PIL import Image
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker

from billing.db import SessionFactory, make_engine, make_sessions
from gateway.embedded.services import Embedded
from gateway.settings import Settings
from migrations.run import upgrade

# How long an example takes is the machine's affair: a busy one must not find what is not there.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")

PHOTOGRAPHS = ("astronaut", "coffee", "chelsea")
JPEG_QUALITY = 92


@pytest.fixture(scope="session")
def services() -> Iterator[Embedded]:
    """Start the servers once for the run, in a folder that Postgres's user can reach."""
    with tempfile.TemporaryDirectory(prefix="cutout-test-") as folder:
        Path(folder).chmod(0o711)
        with Embedded(Path(folder), is_durable=False) as embedded:
            yield embedded


@pytest.fixture(scope="session")
def database_owner_url(services: Embedded) -> str:
    """Migrate the run's database, as the role that owns its tables."""
    upgrade(services.database_owner_url)
    return services.database_owner_url


@pytest.fixture(scope="session")
def database_url(services: Embedded, database_owner_url: str) -> str:
    """Name the migrated database, for the application's role."""
    assert database_owner_url
    return services.database_url


@pytest.fixture(scope="session")
def redis_url(services: Embedded) -> str:
    """Name the run's Valkey; keys of one test are seen by the next, so use fresh names."""
    return services.redis_url


@pytest.fixture(scope="session")
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    """Connect as the application: it may append to the ledger, not change it."""
    # Patient: a test of a race opens a hundred transactions at once, on a busy machine.
    engine = make_engine(database_url, pool_timeout=30)
    yield engine
    await engine.dispose()


@pytest.fixture(scope="session")
async def owner_engine(database_owner_url: str) -> AsyncIterator[AsyncEngine]:
    """Connect as the owner of the tables."""
    engine = make_engine(database_owner_url)
    yield engine
    await engine.dispose()


@pytest.fixture
async def sessions(engine: AsyncEngine) -> AsyncIterator[SessionFactory]:
    """Sessions whose commits stay inside one transaction, which is rolled back at the end."""
    async with engine.connect() as connection:
        outer = await connection.begin()
        yield async_sessionmaker(
            connection, expire_on_commit=False, join_transaction_mode="create_savepoint"
        )
        await outer.rollback()


@pytest.fixture
def committed_sessions(engine: AsyncEngine) -> SessionFactory:
    """Sessions that really commit, each on a connection of its own: for races and crashes."""
    return make_sessions(engine)


@pytest.fixture
def make_settings(
    database_url: str, database_owner_url: str, redis_url: str, tmp_path: Path
) -> Callable[..., Settings]:
    """Make settings for the run's servers; storage is the test's own folder."""

    def make(**overrides: Any) -> Settings:
        known: dict[str, Any] = {
            "database_url": database_url,
            "database_owner_url": database_owner_url,
            "redis_url": redis_url,
            "storage_url": f"file://{tmp_path}/storage",
            "key_peppers": {1: "pepper-of-the-tests-and-nobody-else"},
            "link_secret": "link-secret-of-the-tests-and-nobody-else",
            "weights_dir": None,  # whatever this machine has pulled
            "missing_weights": "substitute",
        }
        return Settings(**(known | overrides))

    return make


@pytest.fixture(scope="session", params=PHOTOGRAPHS)
def photo(request: pytest.FixtureRequest) -> bytes:
    """Give each real photograph in turn, as a JPEG."""
    return encoded_photograph(request.param)


@pytest.fixture(scope="session")
def astronaut() -> bytes:
    """Give one photograph, where one is enough: a portrait with hair, 512 x 512, as a JPEG."""
    return encoded_photograph("astronaut")


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Find the folder of photographs and weights that is beside some checkouts."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip("needs ../shared (photographs and weights), which is not here")
    return folder


def encoded_photograph(name: str) -> bytes:
    """Encode one of scikit-image's photographs; they ship inside its wheel."""
    buffer = BytesIO()
    Image.fromarray(getattr(skimage.data, name)()).save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()
