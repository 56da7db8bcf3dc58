"""What a key is told that it can spend, where limit, budget and price meet."""

import pytest
from httpx import AsyncClient

from billing.accounts import set_credit_limit
from gateway.app import House
from gateway.dialects.headers import REMAINING
from tests.gateway.web import Customer, NewCustomer

FREE_CREDITS = 250


async def to_key(client: AsyncClient, customer: Customer) -> int:
    answer = await client.get("/v1/account", headers=customer.bearer)
    told: int = answer.json()["credits"]["available_to_key"]
    assert answer.headers[REMAINING] == str(told)
    return told


async def with_limit(house: House, customer: Customer, credit_limit: int) -> None:
    async with house.sessions.begin() as db:
        await set_credit_limit(
            db, customer.account_id, credit_limit=credit_limit, actor="test", reason="trust"
        )


@pytest.mark.parametrize(("budget", "told"), [(1000, 750), (600, 600), (100, 100)])
async def test_a_budget_bounds_credits_and_credit_limit_together(
    client: AsyncClient, new_customer: NewCustomer, house: House, budget: int, told: int
) -> None:
    customer = await new_customer(budget_credits=budget)
    await with_limit(house, customer, 500)
    assert await to_key(client, customer) == told


async def test_without_a_budget_the_credit_limit_comes_on_top(
    client: AsyncClient, new_customer: NewCustomer, house: House
) -> None:
    customer = await new_customer()
    await with_limit(house, customer, 500)
    assert await to_key(client, customer) == FREE_CREDITS


async def test_a_test_key_is_held_up_by_no_budget(
    client: AsyncClient, new_customer: NewCustomer
) -> None:
    customer = await new_customer(env="test", budget_credits=10)
    assert await to_key(client, customer) == FREE_CREDITS
