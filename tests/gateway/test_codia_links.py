"""The link in a Codia answer: whom it serves, until when, and what is behind a bad one."""

import time
from datetime import timedelta
from uuid import UUID

from httpx import AsyncClient
from sqlalchemy import func, select, update

from gateway.app import House
from gateway.links import Links
from gateway.tables import Job
from tests.gateway.codia import HOST, assert_refused, path_of, upload
from tests.gateway.web import Customer, MakeClient


async def test_the_link_needs_no_key_and_is_private(
    client: AsyncClient, customer: Customer, astronaut: bytes
) -> None:
    answer = await client.get(path_of(await upload(client, customer, astronaut)))
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"].startswith("private, max-age=")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Type"] == "image/png"


async def test_a_forged_link_is_not_found(
    client: AsyncClient, customer: Customer, astronaut: bytes
) -> None:
    path = path_of(await upload(client, customer, astronaut))
    bare, _, query = path.partition("?")
    expires, _, signature = query.partition("&")
    other = bare.replace(bare[3:11], "00000000")
    for forged in (
        bare,
        f"{bare}?{expires}",
        f"{bare}?{expires}&signature=x",
        f"{bare}?{expires}9&{signature}",
        f"{other}?{query}",
        f"{bare.replace('.png', '.webp')}?{query}",
        "/r/nothing",
        "/r",
    ):
        assert_refused(await client.get(forged), 404, 2010)


async def test_a_link_past_its_time_is_gone(
    client: AsyncClient, customer: Customer, house: House, astronaut: bytes
) -> None:
    path = path_of(await upload(client, customer, astronaut))
    secret = house.settings.link_secret.get_secret_value()
    an_hour_ago = Links(HOST, secret, clock=lambda: time.time() - 3600)
    job_id = UUID(path[len("/r/") :].partition(".")[0])
    old = an_hour_ago.sign(job_id, "png", timedelta(minutes=59)).removeprefix(HOST)
    assert_refused(await client.get(old), 410, 2012)


async def test_a_link_ends_when_the_setting_says(
    client: AsyncClient, customer: Customer, astronaut: bytes
) -> None:
    answer = await upload(client, customer, astronaut)
    expires_at = int(path_of(answer).partition("expires=")[2].partition("&")[0])
    assert 3550 < expires_at - time.time() < 3605


async def test_a_link_ends_with_its_result_at_the_latest(
    make_client: MakeClient, astronaut: bytes
) -> None:
    client, customer = await make_client(link_ttl=timedelta(days=300))
    answer = await upload(client, customer, astronaut)
    account = (await client.get("/v1/account", headers=customer.bearer)).json()

    expires_at = int(path_of(answer).partition("expires=")[2].partition("&")[0])

    assert expires_at - time.time() <= account["limits"]["result_seconds"] + 1
    assert account["limits"]["link_seconds"] == account["limits"]["result_seconds"]


async def test_a_browser_keeps_a_picture_no_longer_than_its_link(
    client: AsyncClient, customer: Customer, astronaut: bytes
) -> None:
    answer = await client.get(path_of(await upload(client, customer, astronaut)))
    assert 0 < int(answer.headers["Cache-Control"].partition("max-age=")[2]) <= 3600


async def test_a_result_that_storage_lacks_is_gone_for_head_as_for_get(
    client: AsyncClient, customer: Customer, astronaut: bytes, house: House
) -> None:
    path = path_of(await upload(client, customer, astronaut))
    assert (await client.head(path)).status_code == 200
    async with house.sessions.begin() as db:
        key = await db.scalar(select(Job.result_key).where(Job.account_id == customer.account_id))
    await house.cutouts.storage.delete(str(key))
    assert (await client.head(path)).status_code == (await client.get(path)).status_code == 410


async def test_a_purged_result_is_gone_behind_a_good_link(
    client: AsyncClient, customer: Customer, astronaut: bytes, house: House
) -> None:
    path = path_of(await upload(client, customer, astronaut))
    async with house.sessions.begin() as db:
        await db.execute(
            update(Job)
            .where(Job.account_id == customer.account_id)
            .values(result_expires_at=func.now() - timedelta(seconds=1))
        )
    assert_refused(await client.get(path), 410, 2012)
