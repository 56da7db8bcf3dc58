"""What the forms of acts say, take and repeat: asked over HTTP."""

from collections.abc import AsyncIterator, Awaitable, Callable
from uuid import UUID, uuid4

import pytest
from httpx import URL, AsyncClient, Response
from litestar import Litestar

from billing.accounts import create_account
from billing.errors import InvalidOperationError
from billing.ledger import capture, place_hold
from gateway.app import House
from tests.gateway.dashboard.acting import new_account
from tests.gateway.faces import PASSWORD, new_staff
from tests.gateway.web import living

Send = Callable[..., Awaitable[Response]]
TOLD = "The customer reads it on the statement."


@pytest.fixture
async def client(app: Litestar) -> AsyncIterator[AsyncClient]:
    """Speak to the app as behind TLS: a cookie that is bound to it is not sent without."""
    async with living(app) as client:
        client.base_url = URL("https://gateway")
        yield client


@pytest.fixture
async def send(client: AsyncClient, house: House) -> Send:
    """Send an act's form as an owner; unless told otherwise, to see what it would do."""
    form = {"email": await new_staff(house.sessions, "owner"), "password": PASSWORD}
    assert (await client.post("/admin/sign-in", data=form)).status_code == 303
    profile = await client.get("/admin/profile")
    word = profile.text.split('name="form_word" value="')[1].split('"')[0]

    async def sending(path: str, **said: str) -> Response:
        form = {"form_word": word, "reason": "a test wants it"} | said
        return await client.post(f"/admin/accounts/{path}", data=form)

    return sending


async def charged_job(house: House, account_id: UUID, job_id: UUID) -> None:
    async with house.sessions.begin() as db:
        await place_hold(db, account_id=account_id, job_id=job_id, amount=25, concurrency_max=9)
        await capture(db, job_id)


async def test_the_day_that_was_typed_is_repeated(send: Send, house: House) -> None:
    account_id = await new_account(house)
    said = {"env": "live", "scopes": "read", "until": "2030-01-01"}
    page = await send(f"{account_id}/acts/create-key", **said)
    assert "<dt>Works until the end of</dt><dd>2030-01-01</dd>" in page.text


@pytest.mark.parametrize("day", ["9999-12-31", "12026-01-01", "tomorrow"])
async def test_a_day_beyond_all_days_is_told_the_last_one(
    send: Send, house: House, day: str
) -> None:
    said = {"credits": "1", "source": "promo", "until": day}
    answer = await send(f"{await new_account(house)}/acts/grant", **said)
    assert answer.status_code == 422
    assert "no later than 9999-12-30" in answer.text


@pytest.mark.parametrize(
    ("act", "number", "words"),
    [
        ("grant", "9" * 30, "at most 1,000,000,000,000"),
        ("adjust", "9" * 30, "at most 1,000,000,000,000"),
        ("adjust", "-" + "9" * 30, "at least −1,000,000,000,000"),  # noqa: RUF001 - a minus
    ],
)
async def test_a_huge_number_is_told_the_largest(
    send: Send, house: House, act: str, number: str, words: str
) -> None:
    said = {"credits": number, "source": "topup"}
    answer = await send(f"{await new_account(house)}/acts/{act}", **said)
    assert answer.status_code == 422
    assert words in answer.text


@pytest.mark.usefixtures("send")
async def test_who_gives_a_reason_is_told_whether_the_customer_reads_it(
    client: AsyncClient, house: House
) -> None:
    here = f"/admin/accounts/{await new_account(house)}/acts"
    for act in ("grant", "adjust", "refund", "plan", "close"):
        assert TOLD in (await client.get(f"{here}/{act}")).text, act
    for act in ("limit", "suspend", "create-key"):
        assert TOLD not in (await client.get(f"{here}/{act}")).text, act


async def test_no_account_has_a_name_that_fills_a_page(send: Send, house: House) -> None:
    said = {"plan": "free", "limit": "0"}
    answer = await send("new", name="x" * 81, **said)
    assert answer.status_code == 422
    assert "has at most 80 characters" in answer.text
    assert (await send("new", name="x" * 80, **said)).status_code == 200
    with pytest.raises(InvalidOperationError, match="at most 80"):
        async with house.sessions.begin() as db:
            await create_account(db, name="x" * 81, plan="free", actor="test")


async def test_a_job_is_refunded_by_what_tables_show_of_its_id(send: Send, house: House) -> None:
    account_id, other = await new_account(house), await new_account(house)
    mine, twin = uuid4(), uuid4()
    start = mine.hex[:8]
    await charged_job(house, account_id, mine)
    # Another account's job that begins alike is no obstacle, and not to be had.
    await charged_job(house, other, UUID(start + twin.hex[8:]))
    refund = f"{account_id}/acts/refund"

    assert "or its first 8 characters" in (await send(refund, job=start[:7])).text
    assert "no such job" in (await send(refund, job=twin.hex)).text
    page = await send(refund, job=start)
    assert page.status_code == 200
    assert str(mine) in page.text

    await charged_job(house, account_id, UUID(start + uuid4().hex[8:]))
    assert "give more of the id" in (await send(refund, job=start)).text
    assert (await send(refund, job=str(mine)[:20])).status_code == 200


async def test_a_change_of_plan_tells_its_prices_and_when_it_happens(
    send: Send, house: House
) -> None:
    change = f"{await new_account(house)}/acts/plan"
    now = (await send(change, plan="starter", when="now")).text
    then = (await send(change, plan="starter", when="end")).text
    for page in (now, then):
        assert "<dt>Monthly price now</dt><dd>USD 0.00</dd>" in page
        assert "<dt>Monthly price then</dt><dd>USD " in page
    assert "<dt>When</dt><dd>Now, with " in now
    assert "<dt>When</dt><dd>At the period’s end, 20" in then  # noqa: RUF001 - as it is written


async def test_nothing_is_at_an_address_that_no_text_can_hold(client: AsyncClient) -> None:
    for path in ("/admin/audit%00", "/admin/accounts/%00/acts/grant", "/console/keys/%00/rotate"):
        assert (await client.get(path)).status_code == 404, path
