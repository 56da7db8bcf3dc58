"""What was refused leaves no job; it is counted all the same, and only it."""

from datetime import UTC, datetime, timedelta

import pytest
from httpx import AsyncClient
from sqlalchemy import select

from billing.db import SessionFactory
from gateway.app import House
from gateway.refusal_counts import RefusalCounts, refused_over_time
from gateway.tables import Job
from tests.gateway.web import NewCustomer

HOUR = timedelta(hours=1)


async def counted(sessions: SessionFactory) -> dict[str, int]:
    now = datetime.now(UTC)
    async with sessions() as db:
        found = await refused_over_time(db, since=now - HOUR, until=now + HOUR)
    return {refused.code: refused.calls for refused in found}


@pytest.fixture
async def before(committed_sessions: SessionFactory) -> dict[str, int]:
    """What other tests have been refused."""
    return await counted(committed_sessions)


async def test_a_call_that_is_refused_is_counted_once_it_is_written(
    house: House, client: AsyncClient, before: dict[str, int]
) -> None:
    await client.post("/v1/open/remove_bg", json={"image_url": "https://example.com/a.jpg"})
    await client.post("/paid/image/remove/background")
    await house.refusal_counts.write()

    after = await counted(house.sessions)
    assert after["missing_key"] == before.get("missing_key", 0) + 2


async def test_a_cutout_that_failed_is_a_job_and_no_refusal(
    house: House, client: AsyncClient, new_customer: NewCustomer, before: dict[str, int]
) -> None:
    customer = await new_customer()
    broken = b"\xff\xd8\xff\xe0" + bytes(200)
    answer = await client.post(
        "/v1/open/remove_bg", files={"image": ("a.jpg", broken)}, headers=customer.bearer
    )
    await house.refusal_counts.write()
    async with house.sessions() as db:
        jobs = (await db.scalars(select(Job).where(Job.account_id == customer.account_id))).all()

    assert answer.status_code >= 400
    after = await counted(house.sessions)
    refused = sum(after.values()) - sum(before.values())
    assert len(jobs) + refused == 1


async def test_reading_is_not_asking(
    house: House, client: AsyncClient, before: dict[str, int]
) -> None:
    await client.get("/v1/account")
    await client.get("/r/nothing.png")
    await client.post("/nowhere")
    await house.refusal_counts.write()

    assert await counted(house.sessions) == before


async def test_two_gateways_add_up(
    committed_sessions: SessionFactory, before: dict[str, int]
) -> None:
    for _ in range(2):
        gateway = RefusalCounts(committed_sessions)
        gateway.note("codia", "rate_limited")
        gateway.note("codia", "rate_limited")
        await gateway.write()

    after = await counted(committed_sessions)
    assert after["rate_limited"] == before.get("rate_limited", 0) + 4


async def test_what_was_not_written_is_written_on_the_way_out(
    committed_sessions: SessionFactory, before: dict[str, int]
) -> None:
    gateway = RefusalCounts(committed_sessions)
    async with gateway.kept():
        gateway.note("revid", "insufficient_credits")

    after = await counted(committed_sessions)
    assert after["insufficient_credits"] == before.get("insufficient_credits", 0) + 1
