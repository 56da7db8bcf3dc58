"""A cutout that shows nothing, or less surely than was demanded, is none: told so, and free."""

from io import BytesIO
from typing import Any

import pytest
from httpx import AsyncClient
from PIL import Image

from billing.posting import Balance
from gateway.app import House
from gateway.webhooks.deliverer import Deliverer
from gateway.webhooks.deliveries import deliveries_of
from tests.gateway.codia import CALL, assert_refused, upload
from tests.gateway.revid import submit
from tests.gateway.web import Customer, MakeClient, ReadBalance, WorkOff, web_server

UNTOUCHED = Balance(250, 0, 0, 0, 0)


def blank(width_px: int, height_px: int, colour: str = "white") -> bytes:
    encoded = BytesIO()
    Image.new("RGB", (width_px, height_px), colour).save(encoded, "PNG")
    return encoded.getvalue()


@pytest.mark.parametrize("picture", [blank(300, 300), blank(8, 8, "red"), blank(1, 1, "black")])
async def test_an_empty_cutout_is_refused_and_free(
    client: AsyncClient, customer: Customer, balance: ReadBalance, picture: bytes
) -> None:
    answer = await upload(client, customer, picture)
    assert_refused(answer, 422, 2008)
    assert answer.json()["message"] == "No foreground found: the cutout would be empty"
    assert answer.headers["X-Credits-Charged"] == "0"
    assert await balance(customer) == UNTOUCHED


async def test_a_task_whose_cutout_is_empty_fails_and_is_free(
    client: AsyncClient, customer: Customer, work: WorkOff, house: House, balance: ReadBalance
) -> None:
    hook = {"webhook_url": "https://example.com/hook"}
    task_id = (await submit(client, customer, blank(300, 300), **hook)).json()["task_id"]
    await work()

    task = await client.get(f"/api/get/{task_id}")

    document = task.json()
    assert (document["status"], document["progress"]) == ("failed", 0)
    assert document["message"] == "Background removal failed: No foreground found"
    assert document["result"] == {"error": "No foreground found: the cutout would be empty"}
    assert task.headers["X-Credits-Charged"] == "0"
    assert await balance(customer) == UNTOUCHED
    async with house.sessions.begin() as db:
        (delivery,) = await deliveries_of(db, customer.account_id)
    event = Deliverer(house.sessions, house.settings).document_of(delivery)
    assert event["type"] == "cutout.failed"
    assert event["data"]["error"] == {"code": "no_foreground", "message": "No foreground found"}


async def test_a_cutout_that_is_less_sure_than_demanded_is_refused_and_free(
    client: AsyncClient, customer: Customer, astronaut: bytes, balance: ReadBalance
) -> None:
    answer = await upload(client, customer, astronaut, confidence_min="1")
    assert_refused(answer, 422, 2008)
    words = answer.json()["message"]
    assert words.startswith("No foreground found: confidence 0.")
    assert words.endswith(", and at least 1 is demanded")
    assert await balance(customer) == UNTOUCHED

    enough = await upload(client, customer, astronaut, confidence_min="0.2")
    assert enough.status_code == 200
    assert enough.json()["confidence"] >= 0.2


async def test_a_link_may_demand_it_too(make_client: MakeClient, astronaut: bytes) -> None:
    async with web_server(astronaut) as (place, _):
        client, customer = await make_client(fetch_allowed_hosts=[place])
        body: dict[str, Any] = {"image_url": f"http://{place}/a.jpg", "confidence_min": 1}
        answer = await client.post(CALL, headers=customer.bearer, json=body)
        lower = await client.post(CALL, headers=customer.bearer, json=body | {"confidence_min": 0})
    assert_refused(answer, 422, 2008)
    assert lower.status_code == 200


async def test_a_task_that_is_less_sure_than_demanded_fails_and_is_free(
    client: AsyncClient,
    customer: Customer,
    astronaut: bytes,
    work: WorkOff,
    balance: ReadBalance,
) -> None:
    created = await submit(client, customer, astronaut, confidence_min="1")
    assert created.headers["X-Credits-Held"] == "25"
    await work()

    document = (await client.get(f"/api/get/{created.json()['task_id']}")).json()

    assert document["message"] == "Background removal failed: No foreground found"
    assert document["result"]["error"].endswith(", and at least 1 is demanded")
    assert await balance(customer) == UNTOUCHED


@pytest.mark.parametrize("demand", ["1.1", "-0.1", "nan", "sure"])
async def test_a_demand_that_is_none_is_refused(
    client: AsyncClient, customer: Customer, astronaut: bytes, demand: str
) -> None:
    for call in (upload, submit):
        answer = await call(client, customer, astronaut, confidence_min=demand)
        assert answer.status_code == 400
        assert answer.json()["message"].endswith("confidence_min must be a number from 0 to 1")
