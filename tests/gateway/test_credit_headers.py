"""What a call costs and what is left for its key, in headers: of answers, refusals and failures."""

import pytest
from httpx import AsyncClient, Headers
from sqlalchemy import select

from billing.keys import KeyHasher, key_id_from, rotate_key
from billing.ledger import balance_of
from billing.tables import ApiKey
from gateway import settle
from gateway.app import House
from tests.gateway.codia import CALL, spend, trickle, upload
from tests.gateway.revid import SUBMIT, submit
from tests.gateway.web import Customer, NewCustomer, WorkOff

CHARGED, REMAINING, HELD = "X-Credits-Charged", "X-Credits-Remaining", "X-Credits-Held"


def told(headers: Headers) -> tuple[str | None, str | None]:
    return headers.get(CHARGED), headers.get(REMAINING)


async def test_a_key_with_a_budget_is_told_what_it_can_spend(
    client: AsyncClient, new_customer: NewCustomer, astronaut: bytes
) -> None:
    customer = await new_customer(budget_credits=60)
    made = await upload(client, customer, astronaut)
    submitted = await submit(client, customer, astronaut)
    refused = await upload(client, customer, astronaut)

    assert told(made.headers) == ("25", "35")
    assert told(submitted.headers) == ("0", "10")
    assert refused.status_code == 402
    assert refused.json()["message"] == "The key's budget is used up: 25 credits needed, 10 left"
    assert told(refused.headers) == ("0", "10")


async def test_the_account_tells_its_own_credits_and_those_of_the_keys_budget(
    client: AsyncClient, new_customer: NewCustomer, astronaut: bytes
) -> None:
    customer = await new_customer(budget_credits=60)
    await upload(client, customer, astronaut)

    answer = await client.get("/v1/account", headers=customer.bearer)

    document = answer.json()
    assert (document["credits"]["available"], document["credits"]["available_to_key"]) == (225, 35)
    assert document["budget"] == {
        "credits": 60,
        "used": 25,
        "left": 35,
        "period_end": document["period_end"],
    }
    assert answer.headers[REMAINING] == "35"


async def test_a_budget_above_what_the_account_has_leaves_the_accounts_credits(
    client: AsyncClient, new_customer: NewCustomer, astronaut: bytes
) -> None:
    customer = await new_customer(budget_credits=100_000)
    assert told((await upload(client, customer, astronaut)).headers) == ("25", "225")
    document = (await client.get("/v1/account", headers=customer.bearer)).json()
    assert document["credits"]["available_to_key"] == 225


async def test_what_a_key_was_rotated_to_is_told_of_the_same_budget(
    client: AsyncClient, new_customer: NewCustomer, house: House, astronaut: bytes
) -> None:
    customer = await new_customer(budget_credits=60)
    await upload(client, customer, astronaut)
    hasher = KeyHasher({v: p.get_secret_value() for v, p in house.settings.key_peppers.items()})
    async with house.sessions.begin() as db:
        key_id = key_id_from(customer.key)
        old = (await db.scalars(select(ApiKey).where(ApiKey.key_id == key_id))).one()
        _, plaintext = await rotate_key(db, hasher, old.id, actor="test")

    again = await upload(client, Customer(customer.account_id, plaintext), astronaut)

    assert told(again.headers) == ("25", "10")


async def test_a_key_that_has_spent_its_budget_need_not_send_its_upload(
    client: AsyncClient, new_customer: NewCustomer
) -> None:
    customer = await new_customer(budget_credits=20)
    answer, pieces_read = await trickle(client, customer)

    assert answer.status_code == 402
    assert pieces_read <= 1


@pytest.mark.parametrize(
    ("fields", "status"),
    [({"colour": "red"}, 400), ({"model": "u3net"}, 400), ({"crop_margin": "5em"}, 400)],
)
async def test_a_refusal_says_that_it_cost_nothing_and_what_is_left(
    client: AsyncClient, customer: Customer, astronaut: bytes, fields: dict[str, str], status: int
) -> None:
    for call in (upload, submit):
        answer = await call(client, customer, astronaut, **fields)
        assert answer.status_code == status
        assert told(answer.headers) == ("0", "250")


async def test_a_failure_that_became_a_job_says_so_too(
    client: AsyncClient, customer: Customer, astronaut: bytes
) -> None:
    broken = await upload(client, customer, astronaut[:20_000])
    assert broken.status_code == 400
    assert told(broken.headers) == ("0", "250")


async def test_a_failure_that_may_have_been_charged_does_not_say_that_it_was_not(
    client: AsyncClient,
    customer: Customer,
    house: House,
    astronaut: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def lose(*_: object, **__: object) -> None:
        raise ConnectionError  # no real server goes away for this one transaction alone

    with monkeypatch.context() as patch:
        patch.setattr(settle, "succeed", lose)
        patch.setattr(settle, "fail", lose)
        patch.setattr("gateway.transactions.is_away", lambda _: False)
        answer = await upload(client, customer, astronaut)

    assert answer.status_code >= 500
    assert CHARGED not in answer.headers
    async with house.sessions.begin() as db:
        assert (await balance_of(db, customer.account_id)).held == 25, "the sweeper's to settle"


async def test_what_cannot_be_paid_says_what_is_left(
    client: AsyncClient, customer: Customer, house: House, astronaut: bytes
) -> None:
    await spend(house, customer, 230)
    for call in (upload, submit):
        answer = await call(client, customer, astronaut)
        assert answer.status_code == 402
        assert told(answer.headers) == ("0", "20")


async def test_a_refusal_before_the_credits_were_looked_at_says_only_that_it_cost_nothing(
    client: AsyncClient, new_customer: NewCustomer, astronaut: bytes
) -> None:
    reader = await new_customer(scopes=["read"])
    hurried = await new_customer(rate_per_minute=1, burst=1)
    await upload(client, hurried, b"GIF89a" + bytes(64))
    for customer, status in ((reader, 403), (hurried, 429)):
        answer = await upload(client, customer, astronaut)
        assert answer.status_code == status
        assert told(answer.headers) == ("0", None)


async def test_whoever_is_not_known_is_told_nothing_of_credits(
    client: AsyncClient, astronaut: bytes
) -> None:
    for path in (CALL, SUBMIT):
        answer = await client.post(path, files={"file": astronaut})
        assert answer.status_code == 401
        assert told(answer.headers) == (None, None)


async def test_a_submission_that_is_sent_again_tells_how_its_task_stands(
    client: AsyncClient, customer: Customer, astronaut: bytes, work: WorkOff
) -> None:
    async def send() -> tuple[Headers, bytes]:
        headers = customer.x_api_key | {"Idempotency-Key": "once"}
        answer = await client.post(SUBMIT, headers=headers, files={"file": astronaut})
        return answer.headers, answer.content

    first, document = await send()
    waiting, same = await send()
    await work()
    ended, still_same = await send()

    assert document == same == still_same
    assert (first[CHARGED], first[HELD], first[REMAINING]) == ("0", "25", "225")
    assert (waiting[CHARGED], waiting[HELD], waiting[REMAINING]) == ("0", "25", "225")
    assert (ended[CHARGED], ended[HELD], ended[REMAINING]) == ("25", "0", "225")
    assert waiting["Idempotent-Replayed"] == ended["Idempotent-Replayed"] == "true"


async def test_a_test_keys_task_holds_nothing_and_says_so(
    client: AsyncClient, new_customer: NewCustomer, astronaut: bytes
) -> None:
    answer = await submit(client, await new_customer(env="test"), astronaut)
    assert (answer.headers[CHARGED], answer.headers[HELD]) == ("0", "0")
