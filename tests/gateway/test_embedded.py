"""The services behind `cutout up` and behind every other test."""

import os
import signal
import time

import asyncpg
import pytest
import redis

from gateway.embedded.process import EmbeddedError, start_ticks
from gateway.embedded.services import Embedded


async def _who_am_i(url: str) -> str:
    connection = await asyncpg.connect(url)
    try:
        name: str = await connection.fetchval("SELECT current_user")
        return name
    finally:
        await connection.close()


async def test_the_application_and_the_owner_each_have_a_role(services: Embedded) -> None:
    assert await _who_am_i(services.database_url) == "cutout"
    assert await _who_am_i(services.database_owner_url) == "cutout_owner"


async def test_a_wrong_password_is_refused(services: Embedded) -> None:
    with pytest.raises(asyncpg.InvalidPasswordError):
        await _who_am_i(services.database_url.replace("cutout:", "cutout:x"))
    with pytest.raises(redis.AuthenticationError):
        redis.Redis.from_url(services.redis_url.replace("redis://:", "redis://:x")).ping()


async def test_the_servers_run_as_an_unprivileged_user(services: Embedded) -> None:
    for pid in services.pids.values():
        assert os.stat(f"/proc/{pid}").st_uid != 0  # noqa: PTH116 - /proc


def test_a_second_start_in_the_same_folder_is_refused(services: Embedded) -> None:
    with pytest.raises(EmbeddedError, match=f"in use by process {os.getpid()}"):
        Embedded(services.data_dir).start()


def test_a_killed_service_is_back_on_its_port(services: Embedded) -> None:
    before = services.pids
    os.kill(before["valkey"], signal.SIGKILL)
    deadline = time.monotonic() + 5
    while start_ticks(before["valkey"]) and time.monotonic() < deadline:
        time.sleep(0.01)

    assert services.revive() == ["valkey"]

    assert services.pids["valkey"] != before["valkey"]
    with redis.Redis.from_url(services.redis_url) as client:
        assert client.ping()
