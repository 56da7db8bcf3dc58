"""Who may act, and by which form: asked of every act there is, over HTTP."""

import re
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
from httpx import URL, AsyncClient
from litestar import Litestar
from sqlalchemy import func, select

from billing.keys import KeyHasher, create_key
from billing.staff_tables import AuditEvent
from gateway.app import House
from gateway.dashboard.acts import ACTS
from gateway.dashboard.staff import ROLES
from gateway.dashboard.standing_acts import OPEN
from tests.gateway.dashboard.acting import new_account
from tests.gateway.faces import PASSWORD, new_staff
from tests.gateway.web import living

NEEDED = {
    "grant": "finance",
    "adjust": "finance",
    "refund": "finance",
    "void": "finance",
    "extend": "finance",
    "plan": "finance",
    "keep-plan": "finance",
    "limit": "owner",
    "suspend": "owner",
    "resume": "owner",
    "close": "owner",
    "create-key": "owner",
    "create-enterprise-key": "owner",
    "limit-key": "owner",
    "rotate-key": "support",
    "revoke-key": "support",
    "replay": "support",
    "rerun": "support",
}


@pytest.fixture
async def client(app: Litestar) -> AsyncIterator[AsyncClient]:
    """Speak to the app as behind TLS: a cookie that is bound to it is not sent without."""
    async with living(app) as client:
        client.base_url = URL("https://gateway")
        yield client


async def signed_in(client: AsyncClient, house: House, role: str) -> str:
    """Sign the client in; gives the word that its forms carry."""
    email = await new_staff(house.sessions, role)
    form = {"email": email, "password": PASSWORD}
    assert (await client.post("/admin/sign-in", data=form)).status_code == 303
    page = await client.get("/admin/profile")
    return page.text.split('name="form_word" value="')[1].split('"')[0]


async def acts_done(house: House) -> int:
    async with house.sessions() as db:
        not_signing_in = AuditEvent.action.not_like("admin.%")
        return await db.scalar(select(func.count()).where(not_signing_in)) or 0


def test_each_act_needs_the_role_that_the_house_has_agreed_on() -> None:
    assert {name: act.role for name, act in ACTS.items()} == NEEDED
    assert OPEN.role == "owner"


@pytest.mark.parametrize("role", ["viewer", "support", "finance"])
async def test_an_act_is_refused_to_whoever_lacks_the_role(
    client: AsyncClient, house: House, role: str
) -> None:
    here = f"/admin/accounts/{await new_account(house)}"
    word = await signed_in(client, house, role)
    before = await acts_done(house)
    paths = [f"{here}/acts/{name}" for name, needed in NEEDED.items() if is_above(needed, role)]
    paths.append("/admin/accounts/new")
    for path in paths:
        assert (await client.get(path)).status_code == 403, path
        for stage in ("check", "do"):
            form = {
                "form_word": word,
                "stage": stage,
                "form_id": str(uuid4()),
                "reason": "no right to",
                "credits": "1",
            }
            assert (await client.post(path, data=form)).status_code == 403, path
    assert await acts_done(house) == before


def is_above(needed: str, role: str) -> bool:
    return ROLES.index(needed) > ROLES.index(role)


async def test_a_viewer_may_not_even_note_something(client: AsyncClient, house: House) -> None:
    here = f"/admin/accounts/{await new_account(house)}"
    word = await signed_in(client, house, "viewer")
    form = {"form_word": word, "form_id": str(uuid4()), "body": "I was here"}

    assert (await client.post(f"{here}/notes", data=form)).status_code == 403


async def test_a_page_offers_what_a_role_may_do_and_nothing_else(
    client: AsyncClient, house: House
) -> None:
    account_id = await new_account(house)
    async with house.sessions.begin() as db:
        hasher = KeyHasher(house.settings.peppers)
        await create_key(db, hasher, account_id=account_id, env="live", actor="test")
    # An active account without a change of plan, a failed job or a webhook.
    makes_no_sense = {"keep-plan", "resume", "replay", "rerun"}
    for role in ROLES:
        client.cookies.clear()
        await signed_in(client, house, role)
        page = (await client.get(f"/admin/accounts/{account_id}")).text
        may = {name for name, needed in NEEDED.items() if not is_above(needed, role)}
        offered = {name for name in NEEDED if re.search(rf"/acts/{name}[\"?]", page)}
        assert offered == may - makes_no_sense, role


@pytest.mark.parametrize("stage", ["check", "do"])
async def test_a_form_without_this_session_s_word_does_nothing(
    client: AsyncClient, house: House, stage: str
) -> None:
    here = f"/admin/accounts/{await new_account(house)}"
    await signed_in(client, house, "owner")
    before = await acts_done(house)
    for name in NEEDED:
        for word in ({}, {"form_word": "0" * 64}):
            form = word | {"stage": stage, "form_id": str(uuid4()), "reason": "forged"}
            answer = await client.post(f"{here}/acts/{name}", data=form)
            assert answer.status_code == 403, name
            assert "out of date" in answer.text
    assert await acts_done(house) == before


async def test_nothing_is_done_without_a_reason_or_without_a_confirmation(
    client: AsyncClient, house: House
) -> None:
    here = f"/admin/accounts/{await new_account(house)}"
    word = await signed_in(client, house, "owner")
    before = await acts_done(house)
    forms = (
        {"stage": "do", "form_id": str(uuid4()), "reason": " "},
        {"stage": "do", "reason": "there was no confirmation"},
        {"reason": "only to be shown"},
    )
    for form in forms:
        answer = await client.post(f"{here}/acts/suspend", data=form | {"form_word": word})
        assert answer.status_code in {200, 422}
    assert await acts_done(house) == before


async def test_the_id_of_one_form_never_swallows_another_act(
    client: AsyncClient, house: House
) -> None:
    first, second = await new_account(house), await new_account(house)
    word = await signed_in(client, house, "owner")
    form = {"form_word": word, "stage": "do", "form_id": str(uuid4()), "reason": "the same id"}
    gift = form | {"credits": "10", "source": "topup"}
    sent = (
        (f"{first}/acts/grant", gift, "grant"),
        (f"{first}/acts/grant", gift, "nothing"),  # a double click
        (f"{first}/acts/grant", gift | {"credits": "20"}, "grant"),
        (f"{second}/acts/grant", gift, "grant"),
        (f"{second}/acts/adjust", gift, "adjust"),
        (f"{second}/acts/suspend", form, "suspend"),
    )
    for path, said, done in sent:
        answer = await client.post(f"/admin/accounts/{path}", data=said)
        assert answer.headers["location"].endswith(f"?done={done}"), path
    client.cookies.clear()
    form["form_word"] = await signed_in(client, house, "owner")
    answer = await client.post(f"/admin/accounts/{first}/acts/suspend", data=form)
    assert answer.headers["location"].endswith("?done=suspend")


async def test_a_note_written_on_a_page_that_was_gone_back_to_is_kept(
    client: AsyncClient, house: House
) -> None:
    here = f"/admin/accounts/{await new_account(house)}"
    word = await signed_in(client, house, "support")
    form = {"form_word": word, "form_id": str(uuid4())}
    for body in ("the first", "the first", "the second"):
        await client.post(f"{here}/notes", data=form | {"body": body})

    page = (await client.get(here)).text
    assert page.count('<article class="note"><p>the first') == 1
    assert page.count('<article class="note"><p>the second') == 1


@pytest.mark.parametrize("number", ["3000000000", "1000001", "-1", "0", "1.5", "many"])
async def test_a_limit_that_no_installation_has_is_asked_for_again(
    client: AsyncClient, house: House, number: str
) -> None:
    here = f"/admin/accounts/{await new_account(house)}"
    word = await signed_in(client, house, "owner")
    form = {"form_word": word, "reason": "a try", "env": "live", "scopes": "read"}
    for name in ("rate_per_minute", "burst", "concurrency_max"):
        answer = await client.post(f"{here}/acts/create-key", data=form | {name: number})
        assert answer.status_code == 422, name
        assert "is a whole number" in answer.text


async def test_no_key_is_made_that_has_ended_already(client: AsyncClient, house: House) -> None:
    here = f"/admin/accounts/{await new_account(house)}"
    word = await signed_in(client, house, "owner")
    form = {"form_word": word, "reason": "a try", "env": "live", "scopes": "read"}
    answer = await client.post(f"{here}/acts/create-key", data=form | {"until": "2020-01-01"})
    assert answer.status_code == 422
    assert "has passed" in answer.text


async def test_what_no_text_can_hold_is_left_out_of_reasons_and_notes(
    client: AsyncClient, house: House
) -> None:
    here = f"/admin/accounts/{await new_account(house)}"
    word = await signed_in(client, house, "owner")
    note = {"form_word": word, "form_id": str(uuid4()), "body": "no\x00ted"}
    act = {"form_word": word, "form_id": str(uuid4()), "reason": "asked\x00 for", "stage": "do"}
    assert (await client.post(f"{here}/notes", data=note)).status_code == 303
    assert (await client.post(f"{here}/acts/suspend", data=act)).status_code == 303
    page = (await client.get(here)).text
    assert "noted" in page
    assert "asked for" in page


async def test_what_is_nobody_s_is_not_there(client: AsyncClient, house: House) -> None:
    account_id = await new_account(house)
    await signed_in(client, house, "owner")
    for path in (
        f"/admin/accounts/{uuid4()}",
        f"/admin/accounts/{uuid4()}/statement",
        f"/admin/accounts/{uuid4()}/acts/grant",
        f"/admin/accounts/{account_id}/acts/nothing",
        f"/admin/accounts/{account_id}/acts/void?grant={uuid4()}",
        f"/admin/accounts/{account_id}/acts/revoke-key?key=nonsense",
        f"/admin/accounts/{account_id}/acts/replay",
        f"/admin/accounts/{account_id}/acts/rerun?job={uuid4()}",
    ):
        assert (await client.get(path)).status_code == 404, path
