"""The calls behind the page at `/`: the demo key's limits hold, and nobody else's page may call."""

from uuid import uuid4

import pytest
from httpx import AsyncClient, Response

from billing.ledger import balance_of
from gateway.app import House
from gateway.settings import Settings
from tests.gateway.web import PUBLIC_URL, MakeClient, WorkOff, open_account

PATH = "/playground/cutouts"


@pytest.fixture
async def client(client: AsyncClient, house: House) -> AsyncClient:
    """Speak to the app; nobody of this address has asked for anything yet."""
    await house.redis.flushdb()
    return client


async def send(client: AsyncClient, content: bytes, **headers: str) -> Response:
    return await client.post(PATH, files={"file": ("a.jpg", content)}, headers=headers)


async def test_a_picture_is_cut_on_the_demo_key_and_charged_to_it(
    client: AsyncClient, settings: Settings, work: WorkOff, astronaut: bytes
) -> None:
    sent = await send(client, astronaut, **{"Sec-Fetch-Site": "same-origin"})
    assert sent.status_code == 200
    await work()
    task = await client.get(sent.json()["endpoints"]["check_status"])
    assert task.json()["status"] == "completed"
    assert task.headers["X-Credits-Charged"] == "25"
    assert settings.playground_key is not None
    account = await client.get(
        "/v1/account", headers={"x-api-key": settings.playground_key.get_secret_value()}
    )
    assert account.json()["credits"]["held"] == 0


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://elsewhere.test"},
        {"Origin": "null"},
    ],
)
async def test_a_page_of_another_site_cannot_spend_the_demo_key(
    client: AsyncClient, astronaut: bytes, headers: dict[str, str]
) -> None:
    refused = await send(client, astronaut, **headers)
    assert refused.status_code == 403
    assert refused.json()["code"] == "foreign_page"
    canceled = await client.delete(f"{PATH}/{uuid4()}", headers=headers)
    assert canceled.status_code == 403


async def test_our_own_page_may_call_where_a_browser_only_tells_its_origin(
    client: AsyncClient, astronaut: bytes
) -> None:
    assert (await send(client, astronaut, Origin=PUBLIC_URL)).status_code == 200


async def test_one_address_gets_a_few_pictures_a_minute(
    client: AsyncClient,
) -> None:
    answers = [await send(client, b"not a picture") for _ in range(11)]
    assert [answer.status_code for answer in answers] == [200] * 10 + [429]
    assert answers[-1].json()["code"] == "rate_limited"
    assert int(answers[-1].headers["Retry-After"]) >= 1


@pytest.mark.parametrize("demo_limits", [{"budget_credits": 24}])
@pytest.mark.usefixtures("demo_limits")
async def test_past_its_budget_the_demo_key_buys_nothing(
    client: AsyncClient, astronaut: bytes
) -> None:
    refused = await send(client, astronaut)
    assert refused.status_code == 402
    assert refused.json()["code"] == "insufficient_credits"
    assert "budget" in refused.json()["detail"]


@pytest.mark.parametrize("demo_limits", [None])
@pytest.mark.usefixtures("demo_limits")
async def test_without_a_demo_key_there_is_nothing_to_call(
    client: AsyncClient, astronaut: bytes
) -> None:
    assert (await send(client, astronaut)).status_code == 404
    assert (await client.delete(f"{PATH}/{uuid4()}")).status_code == 404
    assert "data-demo" not in (await client.get("/")).text


async def test_an_empty_demo_key_is_none(make_client: MakeClient, astronaut: bytes) -> None:
    client, _ = await make_client(playground_key="")
    assert (await send(client, astronaut)).status_code == 404


async def test_a_waiting_picture_can_be_canceled_and_costs_nothing(
    client: AsyncClient, astronaut: bytes
) -> None:
    sent = await send(client, astronaut)
    task_id = sent.json()["task_id"]
    canceled = await client.delete(f"{PATH}/{task_id}")
    assert canceled.status_code == 200
    assert canceled.json()["message"] == "Background removal failed: Canceled"
    assert canceled.headers["X-Credits-Charged"] == "0"


async def test_a_customers_own_task_cannot_be_canceled_on_the_demo_key(
    client: AsyncClient, house: House, settings: Settings, astronaut: bytes
) -> None:
    ada = await open_account(settings, house.sessions)
    sent = await client.post(
        "/paid/image/remove/background", files={"file": astronaut}, headers=ada.x_api_key
    )
    refused = await client.delete(f"{PATH}/{sent.json()['task_id']}")
    assert refused.status_code == 404
    async with house.sessions.begin() as db:
        assert (await balance_of(db, ada.account_id)).held == 25
