"""The Codia contract, over the whole stack: what its document prints, and what it leaves open."""

import asyncio
import json
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from httpx import AsyncClient
from PIL import Image

from billing.posting import Balance
from gateway.app import House
from tests.gateway.codia import CALL, assert_refused, path_of, spend, upload
from tests.gateway.web import Customer, MakeClient, NewCustomer, ReadBalance, web_server

GOLDEN = Path(__file__).parent / "golden"
BESIDE = {"model", "confidence", "reasons", "warnings"}


def golden() -> dict[str, Any]:
    document: dict[str, Any] = json.loads((GOLDEN / "codia_ok.json").read_text())
    return document


async def test_a_url_goes_in_and_the_contracts_answer_comes_out(
    make_client: MakeClient, astronaut: bytes
) -> None:
    async with web_server(astronaut) as (place, asked):
        client, customer = await make_client(fetch_allowed_hosts=[place])
        answer = await client.post(
            CALL, headers=customer.bearer, json={"image_url": f"http://{place}/product.jpg"}
        )

    document = answer.json()
    assert answer.status_code == 200
    assert {name: document[name] for name in golden()} == golden() | {"data": document["data"]}
    assert list(document["data"]) == list(golden()["data"])
    assert set(document) == set(golden()) | BESIDE
    assert answer.headers["X-Credits-Charged"] == "25"
    assert answer.headers["X-Credits-Remaining"] == "225"
    assert asked[0].startswith(b"GET /product.jpg ")

    picture = await client.get(path_of(answer))
    cutout = Image.open(BytesIO(picture.content))
    assert (cutout.format, cutout.mode, cutout.size) == ("PNG", "RGBA", (512, 512))


@pytest.mark.parametrize("name", ["image", "file"])
async def test_a_picture_may_be_uploaded_instead(
    client: AsyncClient, customer: Customer, astronaut: bytes, balance: ReadBalance, name: str
) -> None:
    answer = await upload(client, customer, astronaut, name)

    assert answer.status_code == 200
    assert set(answer.json()) == set(golden()) | BESIDE
    assert await balance(customer) == Balance(225, 0, 25, 0, 0)


async def test_options_are_form_fields_of_an_upload(
    client: AsyncClient, customer: Customer, astronaut: bytes
) -> None:
    answer = await upload(client, customer, astronaut, format="webp", bg_color="#111")

    picture = await client.get(path_of(answer))
    assert picture.headers["Content-Type"] == "image/webp"
    cutout = Image.open(BytesIO(picture.content))
    assert cutout.mode == "RGB"
    assert cutout.getpixel((256, 2)) == pytest.approx((17, 17, 17), abs=3)


async def test_a_background_may_be_named_by_its_url(
    make_client: MakeClient, astronaut: bytes
) -> None:
    green = BytesIO()
    Image.new("RGB", (64, 64), "#00ff00").save(green, "PNG")
    async with web_server(green.getvalue()) as (place, _):
        client, customer = await make_client(fetch_allowed_hosts=[place])
        answer = await upload(client, customer, astronaut, bg_image_url=f"http://{place}/green.png")

    cutout = Image.open(BytesIO((await client.get(path_of(answer))).content)).convert("RGB")
    assert cutout.getpixel((256, 2)) == (0, 255, 0)


async def test_a_replay_is_the_first_answer_to_the_letter_and_is_charged_once(
    make_client: MakeClient, astronaut: bytes
) -> None:
    async with web_server(astronaut) as (place, asked):
        client, customer = await make_client(fetch_allowed_hosts=[place])
        headers = customer.bearer | {"Idempotency-Key": "once"}
        body = {"image_url": f"http://{place}/a.jpg"}
        first = await client.post(CALL, headers=headers, json=body)
        again = await client.post(CALL, headers=headers, json=body)
        other = await client.post(CALL, headers=headers, json=body | {"format": "webp"})

    assert first.content == again.content
    assert "Idempotent-Replayed" not in first.headers
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.headers["X-Credits-Remaining"] == "225"
    assert len(asked) == 1  # a replay fetches nothing
    assert_refused(other, 422, 1007)


async def test_a_replay_is_answered_though_nothing_is_left_to_pay_with(
    client: AsyncClient, customer: Customer, house: House, astronaut: bytes
) -> None:
    headers = customer.bearer | {"Idempotency-Key": "first"}
    files = {"image": ("a.jpg", astronaut)}
    first = await client.post(CALL, headers=headers, files=files)
    await spend(house, customer, 225)

    again = await client.post(CALL, headers=headers, files=files)
    fresh = await upload(client, customer, astronaut)

    assert again.json() == first.json()
    assert_refused(fresh, 402, 1004)


async def test_a_request_that_still_runs_is_a_conflict(
    client: AsyncClient, customer: Customer, big_picture: bytes
) -> None:
    headers = customer.bearer | {"Idempotency-Key": "running"}
    files = {"image": ("a.jpg", big_picture)}
    answers = await asyncio.gather(
        *(client.post(CALL, headers=headers, files=files) for _ in range(2))
    )
    ok, conflict = sorted(answers, key=lambda answer: answer.status_code)
    assert ok.status_code == 200
    assert_refused(conflict, 409, 1008)
    assert int(conflict.headers["Retry-After"]) >= 1


async def test_an_idempotency_key_has_a_length(client: AsyncClient, customer: Customer) -> None:
    headers = customer.bearer | {"Idempotency-Key": "x" * 256}
    assert_refused(await client.post(CALL, headers=headers, json={"image_url": "x"}), 400, 2001)


async def test_a_test_key_works_for_nothing(
    client: AsyncClient, new_customer: NewCustomer, astronaut: bytes, balance: ReadBalance
) -> None:
    customer = await new_customer(env="test")
    answer = await upload(client, customer, astronaut)
    assert answer.status_code == 200
    assert answer.headers["X-Credits-Charged"] == "0"
    assert (await balance(customer)).available == 250
