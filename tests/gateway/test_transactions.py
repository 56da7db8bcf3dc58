"""Transactions whose answer is lost: what was committed is recognised, not done again."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from urllib.parse import urlsplit

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from structlog.testing import capture_logs

from billing.db import make_engine, make_sessions
from gateway.errors import OverloadedError
from gateway.settings import Settings
from gateway.tables import QUEUED, SUCCEEDED
from gateway.transactions import Finishing, persist
from tests.gateway.workshop import Workshop, fresh_key

PRICE = 25
FREE_CREDITS = 250
CHUNK_BYTES = 65_536


class ForgetfulWire:
    """A line to Postgres that can lose the answer to a commit, as a crash does."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._commits = 0
        self._to_forget: set[int] = set()
        self.forgotten = 0

    def forget(self, ordinals: set[int]) -> None:
        """Lose the answers to these of the commits from now on, the next one being 1."""
        self._commits, self._to_forget = 0, ordinals

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._port)
        answers = asyncio.create_task(self._pass_on(server_reader, writer))
        try:
            while request := await reader.read(CHUNK_BYTES):
                self._commits += b"COMMIT" in request
                if b"COMMIT" in request and self._commits in self._to_forget:
                    answers.cancel()
                    await asyncio.wait([answers])
                    server_writer.write(request)
                    await server_reader.read(CHUNK_BYTES)  # it is committed; nobody will know
                    self.forgotten += 1
                    return
                server_writer.write(request)
        except ConnectionError:
            return
        finally:
            answers.cancel()
            await asyncio.wait([answers])
            for line in (writer, server_writer):
                line.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while answer := await reader.read(CHUNK_BYTES):
            writer.write(answer)
        writer.close()


@asynccontextmanager
async def wired(settings: Settings) -> AsyncIterator[tuple[Workshop, ForgetfulWire]]:
    """Open a workshop behind a forgetful wire."""
    database_url = str(settings.database_url)
    port = urlsplit(database_url).port
    assert port is not None
    wire = ForgetfulWire(port)
    server = await asyncio.start_server(wire.serve, "127.0.0.1", 0)
    wire_port = server.sockets[0].getsockname()[1]
    engine = make_engine(database_url.replace(f":{port}/", f":{wire_port}/"))
    workshop = Workshop.build(settings, make_sessions(engine))
    await workshop.clear_queue()
    try:
        yield workshop, wire
    finally:
        await workshop.close()
        await engine.dispose()
        server.close()


@pytest.mark.parametrize(
    "lost",
    [
        pytest.param({1}, id="T1"),
        pytest.param({2}, id="T2"),
        pytest.param({1, 3}, id="T1 and T2"),
        pytest.param({1, 2, 4, 5}, id="both, twice each"),
    ],
)
async def test_a_charge_whose_answer_was_lost_is_not_made_again(
    make_settings: Callable[..., Settings], astronaut: bytes, lost: set[int]
) -> None:
    async with wired(make_settings()) as (workshop, wire):
        caller = await workshop.caller()
        wire.forget(lost)

        done = await workshop.cutouts.run(workshop.request(caller, astronaut))

        assert wire.forgotten == len(lost)
        assert not done.is_replayed
        assert await workshop.captures_of(done.job_id) == 1
        assert done.balance.available == FREE_CREDITS - PRICE
        assert len(await workshop.jobs_of(caller)) == 1
        assert await workshop.foots(caller)


async def test_a_claimed_idempotency_key_is_recognised_as_ones_own(
    make_settings: Callable[..., Settings], astronaut: bytes
) -> None:
    async with wired(make_settings()) as (workshop, wire):
        caller = await workshop.caller()
        request = workshop.request(caller, astronaut, idempotency_key=fresh_key())
        wire.forget({2})  # the first was the look whether the key is known

        done = await workshop.cutouts.run(request)
        again = await workshop.cutouts.run(request)

        assert wire.forgotten == 1
        assert (done.is_replayed, again.is_replayed) == (False, True)
        assert (await workshop.balance(caller)).available == FREE_CREDITS - PRICE


async def test_a_submission_whose_answer_was_lost_is_one_job(
    make_settings: Callable[..., Settings], astronaut: bytes
) -> None:
    async with wired(make_settings()) as (workshop, wire):
        caller = await workshop.caller()
        wire.forget({1})

        submitted = await workshop.cutouts.submit(workshop.request(caller, astronaut))

        assert wire.forgotten == 1
        assert not submitted.is_replayed
        (job,) = await workshop.jobs_of(caller)
        assert (job.id, job.state) == (submitted.job_id, QUEUED)
        await workshop.work_off()
        assert await workshop.captures_of(job.id) == 1


async def test_a_failure_whose_answer_was_lost_is_released_once(
    make_settings: Callable[..., Settings],
) -> None:
    async with wired(make_settings()) as (workshop, wire):
        caller = await workshop.caller()
        (job_id,) = await workshop.queued(caller, picture=b"GIF89a" + bytes(64))
        claimed = await workshop.claim()
        assert claimed is not None
        wire.forget({1, 3})  # the look at the job; then T2', after a second look

        await workshop.cutouts.work(job_id, claimed.attempt)

        assert wire.forgotten == 2
        assert (await workshop.balance(caller)).available == FREE_CREDITS
        assert await workshop.foots(caller)


async def test_nobody_waits_for_ever_for_a_postgres_that_is_away() -> None:
    engine = make_engine("postgresql://nobody@127.0.0.1:1/nothing")

    async def work(db: AsyncSession) -> None:
        await db.execute(text("SELECT 1"))

    with capture_logs() as lines, pytest.raises(OverloadedError) as refusal:
        async with asyncio.timeout(10):
            await persist(make_sessions(engine), work, patience=timedelta(seconds=0.3))
    assert refusal.value.retry_after_s > 0
    assert [(line["event"], line["reason"]) for line in lines] == [
        ("postgres.away", "ConnectionRefusedError")
    ]
    await engine.dispose()


async def test_what_the_database_refuses_is_not_tried_again(workshop: Workshop) -> None:
    tries = 0

    async def work(_: AsyncSession) -> None:
        nonlocal tries
        tries += 1
        raise IntegrityError("INSERT", {}, Exception("a constraint"))

    with pytest.raises(IntegrityError):
        await persist(workshop.sessions, work, patience=timedelta(seconds=5))
    assert tries == 1


async def test_finishing_outlives_the_cancellation_of_its_caller() -> None:
    finishing, steps = Finishing(), []

    async def work() -> None:
        steps.append("begun")
        await asyncio.sleep(0.05)
        steps.append("ended")

    caller = asyncio.create_task(finishing.run(work()))
    await asyncio.sleep(0.01)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller

    assert steps == ["begun", "ended"]


async def test_finishing_can_be_waited_for_when_a_caller_was_cancelled_twice() -> None:
    finishing, steps = Finishing(), []

    async def work() -> None:
        await asyncio.sleep(0.05)
        steps.append(SUCCEEDED)

    caller = asyncio.create_task(finishing.run(work()))
    for _ in range(2):
        await asyncio.sleep(0.005)
        caller.cancel()
    await asyncio.wait([caller])
    assert steps == []

    await finishing.close()

    assert steps == [SUCCEEDED]
