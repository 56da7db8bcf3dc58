"""`webhook_url` in both dialects: in a form and in JSON, refused before it costs."""

from typing import Any

import pytest
from httpx import AsyncClient

from billing.db import SessionFactory
from billing.posting import Balance
from gateway.webhooks.deliveries import deliveries_of
from tests.gateway.web import Customer, MakeClient, ReadBalance, WorkOff, web_server

HOOK = "https://hooks.example.com/cutout?token=1"
CODIA = "/v1/open/remove_bg"
REVID = "/paid/image/remove/background"


async def urls_told(sessions: SessionFactory, customer: Customer) -> list[tuple[str, str]]:
    async with sessions.begin() as db:
        return [(d.kind, d.url) for d in await deliveries_of(db, customer.account_id)]


async def test_the_end_of_a_task_is_written_for_its_webhook(
    client: AsyncClient,
    customer: Customer,
    work: WorkOff,
    committed_sessions: SessionFactory,
    astronaut: bytes,
) -> None:
    fields = {"webhook_url": HOOK, "model": "cutout-lite"}
    answer = await client.post(
        REVID, headers=customer.x_api_key, data=fields, files={"file": astronaut}
    )
    assert answer.json()["success"]
    assert await urls_told(committed_sessions, customer) == []  # it has not ended
    await work()
    assert await urls_told(committed_sessions, customer) == [("cutout.succeeded", HOOK)]


async def test_canceling_a_task_is_told_once(
    client: AsyncClient, customer: Customer, committed_sessions: SessionFactory, astronaut: bytes
) -> None:
    fields = {"webhook_url": HOOK}
    answer = await client.post(
        REVID, headers=customer.x_api_key, data=fields, files={"file": astronaut}
    )
    for _ in range(2):
        await client.delete(f"/api/get/{answer.json()['task_id']}", headers=customer.x_api_key)
    assert await urls_told(committed_sessions, customer) == [("cutout.canceled", HOOK)]


async def test_a_synchronous_call_may_name_a_webhook_in_json(
    make_client: MakeClient, committed_sessions: SessionFactory, astronaut: bytes
) -> None:
    async with web_server(astronaut) as (place, _):
        client, customer = await make_client(fetch_allowed_hosts=[place])
        body = {"image_url": f"http://{place}/a.jpg", "webhook_url": HOOK, "model": "cutout-lite"}
        answer = await client.post(CODIA, headers=customer.bearer, json=body)
    assert answer.json()["code"] == 0
    assert await urls_told(committed_sessions, customer) == [("cutout.succeeded", HOOK)]


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/",
        "http://[::1]/",
        "http://169.254.169.254/latest/meta-data",
        "http://10.1.2.3/hook",
        "http://0x7f.1/",
        "https://user:pass@example.com/",
        "https://example.com:22/",
        "https://intranet/",
    ],
)
async def test_a_webhook_that_cannot_be_told_is_refused_for_free(
    client: AsyncClient, customer: Customer, balance: ReadBalance, astronaut: bytes, url: str
) -> None:
    fields: dict[str, Any] = {"webhook_url": url}
    by_form = await client.post(
        REVID, headers=customer.x_api_key, data=fields, files={"file": astronaut}
    )
    by_json = await client.post(
        CODIA, headers=customer.bearer, json={"image_url": "https://example.com/", **fields}
    )

    said = (
        "The request is not valid: webhook_url is not allowed:"
        " only public addresses on port 80 or 443, without a password, redirects included"
    )
    assert (by_form.status_code, by_form.json()["message"]) == (400, said)
    assert (by_json.status_code, by_json.json()) == (
        400,
        {"code": 2001, "message": said, "data": None},
    )
    assert await balance(customer) == Balance(250, 0, 0, 0, 0)


async def test_a_webhook_that_is_no_url_is_told_what_a_url_is(
    client: AsyncClient, customer: Customer
) -> None:
    body = {"image_url": "https://example.com/", "webhook_url": "ftp://example.com/"}
    answer = await client.post(CODIA, headers=customer.bearer, json=body)
    said = "The request is not valid: webhook_url must begin with http:// or https://"
    assert answer.json() == {"code": 2001, "message": said, "data": None}
