"""Keys at the console: seen, made, rotated, revoked, each with its effect in the database."""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from httpx import AsyncClient
from playwright.async_api import expect
from sqlalchemy import func, select

from billing.staff_tables import AuditEvent
from billing.tables import ApiKey
from gateway.app import House
from gateway.console import keys as key_pages
from tests.gateway.console.visitors import (
    come_in,
    key_row,
    make_cutout,
    new_customer,
    new_key,
    signed_in,
)
from tests.gateway.faces import Visit, needs_chromium
from tests.gateway.web import Customer

ORDER = {"name": "Shop", "env": "live", "scope": ["cutout", "read"]}


async def keys_of(house: House, customer: Customer) -> list[ApiKey]:
    chosen = select(ApiKey).where(ApiKey.account_id == customer.account_id)
    async with house.sessions() as db:
        return list(await db.scalars(chosen.order_by(ApiKey.created_at)))


async def audit_of(house: House, customer: Customer) -> list[tuple[str, str]]:
    """Tell what was noted of an account, and by whom, since it was opened by the test."""
    chosen = select(AuditEvent.actor, AuditEvent.action).where(
        AuditEvent.account_id == customer.account_id, AuditEvent.actor != "test"
    )
    async with house.sessions() as db:
        rows = await db.execute(chosen.order_by(AuditEvent.seq))
        return [(row.actor, row.action) for row in rows]


async def actor_of(house: House, customer: Customer) -> str:
    async with house.sessions() as db:
        return f"key:{(await key_row(db, customer.key)).key_id}"


def text_of(page: str) -> str:
    return page.split('<code id="made">')[1].split("<", maxsplit=1)[0]


async def test_a_key_is_made_within_limits_and_shown_once(
    client: AsyncClient, house: House
) -> None:
    customer = await new_customer(house, plan="starter")
    guest = await signed_in(client, customer)
    made = await guest.send(
        "/console/keys",
        **ORDER,
        new_id=str(uuid4()),
        rate_per_minute="30",
        budget_credits="500",
        last_day="2099-12-31",
        ip_allow="127.0.0.0/8",
    )
    assert made.status_code == 201
    plaintext = text_of(made.text)
    async with house.sessions() as db:
        key = await key_row(db, plaintext)
    assert (key.name, key.env, key.scopes) == ("Shop", "live", ["cutout", "read"])
    assert (key.rate_per_minute, key.budget_credits) == (30, 500)
    assert key.ip_allow == ["127.0.0.0/8"]
    assert key.expires_at == datetime(2100, 1, 1, tzinfo=UTC), "it works through its last day"
    assert await audit_of(house, customer) == [(await actor_of(house, customer), "key.create")]
    listed = (await guest.get("/console/keys")).text
    assert key.key_id in listed
    assert plaintext not in listed
    await make_cutout(client, Customer(customer.account_id, plaintext))


async def test_a_form_sent_twice_makes_one_key(client: AsyncClient, house: House) -> None:
    customer = await new_customer(house)
    guest = await signed_in(client, customer)
    form = ORDER | {"new_id": str(uuid4())}
    assert (await guest.send("/console/keys", **form)).status_code == 201
    again = await guest.send("/console/keys", **form)
    assert again.status_code == 409
    assert "not shown again" in again.text
    assert len(await keys_of(house, customer)) == 2


async def test_a_form_sent_many_times_at_once_makes_one_key(
    client: AsyncClient, house: House
) -> None:
    customer = await new_customer(house)
    guest = await signed_in(client, customer)
    form = ORDER | {"new_id": str(uuid4())}
    answers = await asyncio.gather(*(guest.send("/console/keys", **form) for _ in range(5)))
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409, 409]
    assert len(await keys_of(house, customer)) == 2


async def test_what_no_text_can_hold_is_left_out_of_a_reason(
    client: AsyncClient, house: House
) -> None:
    customer = await new_customer(house)
    guest = await signed_in(client, customer)
    async with house.sessions() as db:
        other = await key_row(db, await new_key(house, customer.account_id))
    answer = await guest.send(f"/console/keys/{other.key_id}/revoke", reason="lost\x00")
    assert answer.status_code == 303


@pytest.mark.parametrize(
    "more",
    [
        {"env": "enterprise"},
        {"rate_per_minute": "61"},
        {"scope": ["root"]},
        {"name": ""},
        {"new_id": "x"},
    ],
)
async def test_more_than_the_signed_in_key_may_do_is_refused(
    client: AsyncClient, house: House, more: dict[str, str]
) -> None:
    customer = await new_customer(house)  # the free plan: 60 a minute
    guest = await signed_in(client, customer)
    answer = await guest.send("/console/keys", **(ORDER | {"new_id": str(uuid4())} | more))
    assert answer.status_code == 422
    assert len(await keys_of(house, customer)) == 1


@pytest.mark.parametrize(
    ("name", "said", "told"),
    [
        ("budget_credits", "-9", "“Credits a period” is a whole number from 0"),
        ("burst", "0", "“Calls in one burst” is a whole number from 1"),
        ("rate_per_minute", "9999", "“Calls a minute” is at most your own key"),
        ("ip_allow", "here", "“Only from these networks”"),
        ("last_day", "soon", "“Last day” is a date"),
    ],
)
async def test_a_mistake_brings_the_form_back_with_what_was_typed_and_names_the_field(
    client: AsyncClient, house: House, name: str, said: str, told: str
) -> None:
    guest = await signed_in(client, await new_customer(house))
    form = {"name": "Long thought of", "env": "test", "scope": ["read"], "last_day": "2099-12-31"}
    answer = await guest.send("/console/keys", **(form | {"new_id": str(uuid4()), name: said}))
    assert answer.status_code == 422
    assert told in answer.text
    assert "Make the key" in answer.text
    assert 'value="Long thought of"' in answer.text
    assert f'value="{said}"' in answer.text
    checked = [scope in answer.text for scope in ('value="read" checked', 'value="cutout" checked')]
    assert checked == [True, False]


async def test_a_form_without_a_scope_comes_back_without_one(
    client: AsyncClient, house: House
) -> None:
    guest = await signed_in(client, await new_customer(house))
    answer = await guest.send("/console/keys", name="Shop", env="live", new_id=str(uuid4()))
    assert answer.status_code == 422
    assert "“May”: choose at least one of the scopes." in answer.text
    assert "checked" not in answer.text


async def test_a_revoked_key_is_told_of(client: AsyncClient, house: House) -> None:
    customer = await new_customer(house)
    other = await new_key(house, customer.account_id, name="Old shop")
    async with house.sessions() as db:
        key_id = (await key_row(db, other)).key_id
    guest = await signed_in(client, customer)
    done = await guest.send(f"/console/keys/{key_id}/revoke")
    assert "The key is revoked" in (await guest.get(done.headers["location"])).text


@pytest.mark.parametrize(
    ("referer", "way_out"),
    [
        ("https://gateway/console/keys?x=1", '<a class="button" href="/console/keys?x=1">Back<'),
        ("https://elsewhere/console/keys", '<a class="button" href="/console">To the console<'),
        ("https://gateway//elsewhere/", '<a class="button" href="/console">To the console<'),
        ("https://[", '<a class="button" href="/console">To the console<'),
        ("", '<a class="button" href="/console">To the console<'),
    ],
)
async def test_what_is_refused_leads_back_where_one_came_from_and_never_elsewhere(
    client: AsyncClient, house: House, referer: str, way_out: str
) -> None:
    guest = await signed_in(client, await new_customer(house))
    answer = await guest.client.get("/console/jobs?state=lost", headers={"Referer": referer})
    assert answer.status_code == 404
    assert way_out in answer.text


async def test_a_test_key_lays_no_hand_on_a_live_one(client: AsyncClient, house: House) -> None:
    owner = await new_customer(house)
    tester = Customer(owner.account_id, await new_key(house, owner.account_id, env="test"))
    guest = await signed_in(client, tester)
    live = (await keys_of(house, owner))[0]
    for act in ("rotate", "revoke"):
        answer = await guest.send(f"/console/keys/{live.key_id}/{act}", grace="0")
        assert answer.status_code == 409, act
    refused = await guest.send("/console/keys", **ORDER, new_id=str(uuid4()))
    assert refused.status_code == 422
    made = await guest.send("/console/keys", **(ORDER | {"env": "test", "new_id": str(uuid4())}))
    assert made.status_code == 201
    assert (await keys_of(house, owner))[0].revoked_at is None


async def test_a_key_without_the_scope_may_look_and_not_manage(
    client: AsyncClient, house: House
) -> None:
    customer = await new_customer(house, scopes=["read"])
    guest = await signed_in(client, customer)
    key_id = (await keys_of(house, customer))[0].key_id
    assert "New key" not in (await guest.get("/console/keys")).text
    for path in ("/new", f"/{key_id}/rotate", f"/{key_id}/revoke"):
        assert (await guest.get(f"/console/keys{path}")).status_code == 403
    for path in ("", f"/{key_id}/rotate", f"/{key_id}/revoke"):
        answer = await guest.send(f"/console/keys{path}", **ORDER, new_id=str(uuid4()), grace="0")
        assert answer.status_code == 403
        assert "needs the scope “admin”" in answer.text
    (key,) = await keys_of(house, customer)
    assert key.revoked_at is None
    assert key.grace_until is None


async def test_another_accounts_keys_are_not_there(client: AsyncClient, house: House) -> None:
    other = await new_customer(house)
    theirs = (await keys_of(house, other))[0]
    guest = await signed_in(client, await new_customer(house))
    assert theirs.key_id not in (await guest.get("/console/keys")).text
    for act in ("rotate", "revoke"):
        assert (await guest.get(f"/console/keys/{theirs.key_id}/{act}")).status_code == 404
        answer = await guest.send(f"/console/keys/{theirs.key_id}/{act}", grace="0")
        assert answer.status_code == 404
    assert (await keys_of(house, other))[0].revoked_at is None


async def test_an_account_has_no_end_of_keys(
    client: AsyncClient, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_pages, "KEYS_MAX", 2)
    customer = await new_customer(house)
    guest = await signed_in(client, customer)
    statuses = [
        (await guest.send("/console/keys", **ORDER, new_id=str(uuid4()))).status_code
        for _ in range(2)
    ]
    assert statuses == [201, 409]
    assert len(await keys_of(house, customer)) == 2


async def test_a_rotation_without_grace_ends_the_session_and_still_shows_the_key(
    client: AsyncClient, house: House
) -> None:
    customer = await new_customer(house)
    guest = await signed_in(client, customer)
    (key,) = await keys_of(house, customer)
    made = await guest.send(f"/console/keys/{key.key_id}/rotate", grace="0")
    assert made.status_code == 201
    assert (await guest.get("/console/keys")).status_code == 303
    await signed_in(client, Customer(customer.account_id, text_of(made.text)))


async def test_what_a_budget_has_left_is_told(client: AsyncClient, house: House) -> None:
    owner = await new_customer(house)
    capped = await new_key(house, owner.account_id, name="Capped", budget_credits=100)
    await make_cutout(client, Customer(owner.account_id, capped))
    guest = await signed_in(client, owner)
    assert "25 of 100" in (await guest.get("/console/keys")).text


@needs_chromium
@pytest.mark.browser
class TestInABrowser:
    async def test_a_key_is_made_by_hand(self, visit: Visit, house: House) -> None:
        customer = await new_customer(house)
        page = visit.page
        await come_in(visit, customer)
        await page.get_by_role("link", name="Keys", exact=True).click()
        await page.get_by_role("link", name="New key").click()
        await page.get_by_label("Name").fill("Warehouse")
        await page.get_by_label("Kind").select_option("test")
        await visit.check_accessible()
        await page.get_by_role("button", name="Make the key").click()
        plaintext = await page.locator("#made").inner_text()
        await visit.check_accessible()
        async with house.sessions() as db:
            key = await key_row(db, plaintext)
        assert (key.name, key.env) == ("Warehouse", "test")
        await page.reload()  # asks for the list, and does not send the form again
        await expect(page.get_by_role("rowheader", name="Warehouse")).to_be_visible()
        assert len(await keys_of(house, customer)) == 2

    async def test_a_key_is_rotated_and_the_old_one_works_on(
        self, visit: Visit, house: House
    ) -> None:
        customer = await new_customer(house, name="Mine")
        page = visit.page
        await come_in(visit, customer)
        await visit.open("/console/keys")
        await page.get_by_role("link", name="Rotate Mine").click()
        await page.get_by_label("works on for").select_option("1")
        await visit.check_accessible()
        await page.get_by_role("button", name="Rotate").click()
        plaintext = await page.locator("#made").inner_text()
        async with house.sessions() as db:
            old, new = await key_row(db, customer.key), await key_row(db, plaintext)
            now = (await db.scalars(select(func.now()))).one()
        assert new.rotated_from == old.id
        assert old.grace_until is not None
        assert abs(old.grace_until - now - timedelta(hours=1)) < timedelta(minutes=2)
        events = await audit_of(house, customer)
        assert events == [(await actor_of(house, customer), "key.rotate")]
        await page.get_by_role("link", name="I have copied it").click()
        await expect(page.get_by_text("works until")).to_be_visible()

    async def test_revoking_the_key_one_is_signed_in_with_signs_out(
        self, visit: Visit, house: House
    ) -> None:
        customer = await new_customer(house, name="Mine")
        page = visit.page
        await come_in(visit, customer)
        await visit.open("/console/keys")
        await page.get_by_role("link", name="Revoke Mine").click()
        await expect(page.get_by_text("you are signed out at once")).to_be_visible()
        await page.get_by_label("Reason").fill("left in a repository")
        await visit.check_accessible()
        await page.get_by_role("button", name="Revoke the key").click()
        await expect(page.get_by_role("status")).to_contain_text("you are signed out")
        async with house.sessions() as db:
            assert (await key_row(db, customer.key)).revoked_at is not None
            reason = await db.scalar(
                select(AuditEvent.reason).where(
                    AuditEvent.account_id == customer.account_id, AuditEvent.action == "key.revoke"
                )
            )
        assert reason == "left in a repository"
        await visit.open("/console")
        await expect(page.get_by_label("API key")).to_be_visible()

    async def test_the_keyboard_alone_makes_a_key(self, visit: Visit, house: House) -> None:
        customer = await new_customer(house)
        page = visit.page
        await visit.open("/console/keys/new")
        await page.get_by_label("API key").focus()
        await page.keyboard.type(customer.key)
        await page.keyboard.press("Enter")
        await page.get_by_label("Name").wait_for()
        assert (await visit.tab_order(2))[0] == "Skip to the content"
        await page.get_by_label("Name").focus()
        await page.keyboard.type("By keyboard")
        order = await visit.tab_order(6)
        assert order[0].startswith("Kind")
        assert order[4:] == ["Limits of its own", "Make the key"]
        await page.keyboard.press("Enter")
        await page.locator("#made").wait_for()
        assert [key.name for key in await keys_of(house, customer)][1:] == ["By keyboard"]
