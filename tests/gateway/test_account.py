"""`GET /v1/account`: what a call costs before it is made, and what there is to pay it with."""

from datetime import UTC, datetime, timedelta

from httpx import AsyncClient

from billing.credits import grant_credits
from gateway.app import House
from tests.gateway.web import Customer, NewCustomer


async def test_an_account_tells_its_price_its_means_and_its_limits(
    client: AsyncClient, customer: Customer
) -> None:
    answer = await client.get("/v1/account", headers=customer.bearer)

    document = answer.json()
    assert answer.status_code == 200
    assert answer.headers["X-Credits-Remaining"] == "250"
    assert answer.headers["Cache-Control"] == "no-store"
    assert document["account_id"] == str(customer.account_id)
    assert (document["plan"], document["environment"], document["status"]) == (
        "free",
        "live",
        "active",
    )
    assert document["price_credits"] == 25
    assert document["credits"] == {
        "balance": 250,
        "held": 0,
        "available": 250,
        "available_to_key": 250,
        "credit_limit": 0,
        "expiring_soon": None,
    }
    assert document["budget"] is None
    ends_at = datetime.fromisoformat(document["period_end"])
    assert timedelta(days=27) < ends_at - datetime.now(UTC) < timedelta(days=32)
    assert document["limits"]["upload_bytes_max"] == 20 * 2**20
    assert document["limits"]["image_pixels_max"] == 50_000_000
    assert document["limits"]["rate_per_minute"] == 60


async def test_credits_in_a_hold_are_in_the_balance_and_not_available(
    client: AsyncClient, customer: Customer, astronaut: bytes
) -> None:
    await client.post(
        "/paid/image/remove/background", headers=customer.x_api_key, files={"file": astronaut}
    )
    credits_now = (await client.get("/v1/account", headers=customer.bearer)).json()["credits"]
    assert (credits_now["balance"], credits_now["held"], credits_now["available"]) == (250, 25, 225)


async def test_credits_that_end_within_a_week_are_told_of(
    client: AsyncClient, customer: Customer, house: House
) -> None:
    ends_at = datetime.now(UTC) + timedelta(days=3)
    async with house.sessions.begin() as db:
        await grant_credits(
            db,
            customer.account_id,
            amount=100,
            source="promo",
            ref="spring",
            actor="test",
            reason="spring",
            expires_at=ends_at,
        )
    document = (await client.get("/v1/account", headers=customer.bearer)).json()
    ending = document["credits"]["expiring_soon"]
    assert ending["credits"] == 100
    assert datetime.fromisoformat(ending["at"]) == ends_at


async def test_the_key_may_stand_in_either_dialects_header(
    client: AsyncClient, customer: Customer
) -> None:
    for headers in (customer.bearer, customer.x_api_key):
        assert (await client.get("/v1/account", headers=headers)).status_code == 200


async def test_a_test_key_is_told_that_it_pays_nothing(
    client: AsyncClient, new_customer: NewCustomer
) -> None:
    customer = await new_customer(env="test")
    document = (await client.get("/v1/account", headers=customer.bearer)).json()
    assert (document["price_credits"], document["environment"]) == (0, "test")


async def test_a_key_without_the_scope_may_not_read(
    client: AsyncClient, new_customer: NewCustomer
) -> None:
    customer = await new_customer(scopes=["cutout"])
    answer = await client.get("/v1/account", headers=customer.bearer)
    assert answer.status_code == 403
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["code"] == "key_not_allowed"
