"""`cutout gateway` as a process, over real sockets: uploads, refusals in mid-upload, the end."""

import asyncio
import json
import os
import signal
import socket
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psutil
import pytest
from httpx import AsyncClient, Response, TransportError
from pydantic import PostgresDsn, RedisDsn, SecretStr
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from billing.credits import adjust
from billing.db import SessionFactory, make_sessions
from billing.ledger import balance_of
from gateway.settings import Settings
from gateway.tables import CANCELED, PROCESSING, QUEUED, SUCCEEDED, Job
from tests.gateway.web import Customer, open_account
from tests.gateway.workshop import until

CODIA = "/v1/open/remove_bg"
REVID = "/paid/image/remove/background"
MIB = 2**20
START_DEADLINE_S = 60
EXIT_DEADLINE_S = 30


@asynccontextmanager
async def serving(
    settings: Settings,
) -> AsyncIterator[tuple[AsyncClient, Process]]:
    """Run the gateway on a free port until the block ends."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    peppers = {version: text.get_secret_value() for version, text in settings.key_peppers.items()}
    environment = {
        "CUTOUT_DATABASE_URL": str(settings.database_url),
        "CUTOUT_REDIS_URL": str(settings.redis_url),
        "CUTOUT_STORAGE_URL": settings.storage_url,
        "CUTOUT_KEY_PEPPERS": json.dumps(peppers),
        "CUTOUT_LINK_SECRET": settings.link_secret.get_secret_value(),
        "CUTOUT_MISSING_WEIGHTS": settings.missing_weights,
        "CUTOUT_DEFAULT_MODEL": settings.default_model,
        "CUTOUT_BIND_PORT": str(port),
        "CUTOUT_PUBLIC_URL": f"http://127.0.0.1:{port}",
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway.cli", "gateway"),
        env=os.environ | environment,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            await until_ready(client, process)
            yield client, process
    finally:
        if process.returncode is None:
            process.terminate()
        async with asyncio.timeout(EXIT_DEADLINE_S):
            await process.wait()


async def until_ready(client: AsyncClient, process: Process) -> None:
    async with asyncio.timeout(START_DEADLINE_S):
        while True:
            assert process.returncode is None
            try:
                if (await client.get("/health/ready")).status_code == 200:
                    return
            except TransportError:
                pass
            await asyncio.sleep(0.1)


@pytest.fixture(scope="module")
async def served(
    database_url: str, redis_url: str, engine: AsyncEngine, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator["Served"]:
    """Run one gateway for these tests; the last of them ends it."""
    settings = Settings(
        database_url=PostgresDsn(database_url),
        redis_url=RedisDsn(redis_url),
        storage_url=f"file://{tmp_path_factory.mktemp('storage')}",
        key_peppers={1: SecretStr("pepper-of-the-tests-and-nobody-else")},
        link_secret=SecretStr("link-secret-of-the-tests-and-nobody-else"),
        missing_weights="substitute",
        default_model="cutout-lite",
    )
    customer = await open_account(settings, make_sessions(engine), plan="growth")
    async with serving(settings) as (client, process):
        yield client, process, customer


Served = tuple[AsyncClient, Process, Customer]


def multipart(content: bytes, name: str = "file") -> tuple[dict[str, str], bytes]:
    head = f'--b\r\nContent-Disposition: form-data; name="{name}"; filename="a.jpg"\r\n\r\n'
    return {"Content-Type": "multipart/form-data; boundary=b"}, (
        head.encode() + content + b"\r\n--b--\r\n"
    )


async def test_both_dialects_answer_over_a_socket_without_a_banner(
    served: Served, astronaut: bytes
) -> None:
    client, _, customer = served
    codia = await client.post(CODIA, headers=customer.bearer, files={"image": astronaut})
    revid = await client.post(REVID, headers=customer.x_api_key, files={"file": astronaut})
    assert (codia.status_code, revid.status_code) == (200, 200)
    assert "Server" not in codia.headers
    picture = await client.get(codia.json()["data"]["image_url"])
    assert picture.content.startswith(b"\x89PNG")
    assert picture.headers["Content-Length"] == str(len(picture.content))


@asynccontextmanager
async def memory_watched(process: Process) -> AsyncIterator[list[int]]:
    """Give the most that the gateway's memory rises in the block, in bytes, once it has ended."""
    gateway, rises = psutil.Process(process.pid), [0]
    before_bytes = gateway.memory_info().rss

    async def watch() -> None:
        while True:
            rises[0] = max(rises[0], gateway.memory_info().rss - before_bytes)
            await asyncio.sleep(0.02)

    watching = asyncio.create_task(watch())
    yield rises
    watching.cancel()


async def test_many_large_uploads_at_once_do_not_pile_up_in_memory(served: Served) -> None:
    client, process, customer = served
    headers, body = multipart(b"GIF89a" + bytes(19 * MIB), "image")
    half = asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield body[: len(body) // 2]
        await half.wait()
        yield body[len(body) // 2 :]

    async with memory_watched(process) as rises:
        calls = [
            asyncio.create_task(
                client.post(CODIA, headers=customer.bearer | headers, content=slowly())
            )
            for _ in range(30)
        ]
        await asyncio.sleep(3)
        half.set()
        answers: list[Response] = await asyncio.gather(*calls)

    assert {answer.status_code for answer in answers} == {415}
    # They are 570 MiB; what is held is a megabyte of each, and the few that are looked at.
    assert rises[0] < 300 * MIB


async def test_many_large_tasks_at_once_do_not_pile_up_in_memory(served: Served) -> None:
    client, process, customer = served
    headers, body = multipart(b"GIF89a" + bytes(19 * MIB))

    async with memory_watched(process) as rises:
        answers: list[Response] = await asyncio.gather(
            *(
                client.post(REVID, headers=customer.x_api_key | headers, content=body)
                for _ in range(30)
            )
        )

    assert {answer.status_code for answer in answers} == {200}
    assert rises[0] < 300 * MIB
    for answer in answers:  # other tests have other storage, and must not find these waiting
        task = answer.json()["endpoints"]["check_status"]
        assert (await client.delete(task, headers=customer.x_api_key)).status_code == 200


async def test_a_refusal_in_mid_upload_reaches_the_client(
    served: Served, settings: Settings, committed_sessions: SessionFactory
) -> None:
    client, _, _ = served
    poor = await open_account(settings, committed_sessions)
    async with committed_sessions.begin() as db:
        await adjust(db, poor.account_id, amount=-250, ref="spent", actor="test", reason="spent")
    headers, body = multipart(bytes(18 * MIB))
    for path, key, status in (
        (CODIA, poor.bearer, 402),
        (REVID, poor.x_api_key, 402),
        (REVID, {"x-api-key": "made up"}, 401),
    ):
        answer = await client.post(path, headers=headers | key, content=body)
        assert answer.status_code == status


async def test_callers_who_hang_up_are_not_worked_for(
    served: Served, committed_sessions: SessionFactory, settings: Settings, big_picture: bytes
) -> None:
    client, _, _ = served
    hasty = await open_account(settings, committed_sessions, plan="growth")
    calls = [
        asyncio.create_task(client.post(CODIA, headers=hasty.bearer, files={"image": big_picture}))
        for _ in range(8)
    ]

    async def has_accepted_all() -> bool:
        return len(await states_of(hasty, committed_sessions)) == len(calls)

    async def has_ended_all() -> bool:
        return not {QUEUED, PROCESSING} & set(await states_of(hasty, committed_sessions))

    await until(has_accepted_all)
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    await until(has_ended_all, seconds=30)

    states = await states_of(hasty, committed_sessions)
    assert states.count(CANCELED) >= len(calls) // 2, "two slots had done no more than that"
    async with committed_sessions.begin() as db:
        balance = await balance_of(db, hasty.account_id)
    assert (balance.held, balance.consumed) == (0, 25 * states.count(SUCCEEDED))


async def states_of(customer: Customer, sessions: SessionFactory) -> list[str]:
    async with sessions.begin() as db:
        mine = select(Job.state).where(Job.account_id == customer.account_id)
        return list(await db.scalars(mine))


async def test_a_gateway_that_is_told_to_stop_finishes_what_it_has_begun(
    served: Served, big_picture: bytes
) -> None:
    client, process, customer = served
    call = asyncio.create_task(
        client.post(CODIA, headers=customer.bearer, files={"image": big_picture})
    )
    await asyncio.sleep(0.15)

    process.send_signal(signal.SIGTERM)
    answer = await call

    assert answer.status_code == 200
    assert answer.headers["X-Credits-Charged"] == "25"
    async with asyncio.timeout(EXIT_DEADLINE_S):
        assert await process.wait() in {0, -signal.SIGTERM}
