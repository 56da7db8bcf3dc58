"""The door of the console: who gets in, what is refused, what ends a session."""

from datetime import UTC, datetime, timedelta

import pytest
from httpx import ASGITransport, AsyncClient
from litestar import Litestar
from playwright.async_api import expect
from sqlalchemy import select, text, update

from billing.accounts import close_account
from billing.keys import revoke_key, rotate_key
from billing.staff_tables import ConsoleSession
from billing.tables import ApiKey
from gateway.app import House
from gateway.console.router import console_router
from tests.gateway.console.visitors import (
    COOKIE,
    SIGN_IN,
    come_in,
    key_row,
    new_customer,
    new_key,
    signed_in,
)
from tests.gateway.faces import Visit, form_word_on, needs_chromium
from tests.gateway.web import Customer

PAGES = ("", "/usage", "/statement", "/jobs", "/keys", "/limits", "/webhooks")
UNKNOWN = "cg_live_abcdefgh0123456789abcdefghijklmnopqrstuv000000"


@pytest.mark.parametrize("path", PAGES)
async def test_nobody_sees_a_page_without_signing_in(client: AsyncClient, path: str) -> None:
    answer = await client.get(f"/console{path}")
    assert answer.status_code == 303
    assert answer.headers["location"] == f"{SIGN_IN}?next=/console{path}"


@pytest.mark.parametrize("env", ["live", "test", "enterprise"])
async def test_every_kind_of_key_signs_in_and_sees_every_page(
    client: AsyncClient, house: House, env: str
) -> None:
    guest = await signed_in(client, await new_customer(house, env=env))
    for path in PAGES:
        assert (await guest.get(f"/console{path}")).status_code == 200, path


async def test_the_cookie_is_out_of_reach_and_bound_to_tls(
    client: AsyncClient, house: House
) -> None:
    customer = await new_customer(house)
    cookie = (await client.post(SIGN_IN, data={"key": customer.key})).headers["set-cookie"]
    assert cookie.startswith(f"{COOKIE}=")
    for part in ("HttpOnly", "Secure", "SameSite=lax", "Path=/"):
        assert part in cookie


async def test_the_door_says_which_keys_open_it(client: AsyncClient) -> None:
    words = (await client.get(SIGN_IN)).text
    assert "“read”: live, test or enterprise." in words


async def test_neither_key_nor_secret_is_kept(client: AsyncClient, house: House) -> None:
    customer = await new_customer(house)
    guest = await signed_in(client, customer)
    secret = client.cookies[COOKIE]
    async with house.sessions() as db:
        rows = (await db.execute(text("SELECT s::text FROM console_session s"))).scalars().all()
    assert rows
    for row in rows:
        assert secret not in row
        assert customer.key not in row
    for path in PAGES:
        assert customer.key[17:] not in (await guest.get(f"/console{path}")).text


@pytest.mark.parametrize("key", ["", "hello", UNKNOWN, UNKNOWN[:-6] + "abcdef"])
async def test_a_wrong_key_is_refused_in_plain_words(client: AsyncClient, key: str) -> None:
    answer = await client.post(SIGN_IN, data={"key": key})
    assert answer.status_code == 403
    assert "This key is not known" in answer.text
    assert "set-cookie" not in answer.headers


async def test_a_revoked_key_and_one_that_only_makes_cutouts_are_told_why(
    client: AsyncClient, house: House
) -> None:
    customer = await new_customer(house, scopes=["cutout"])
    blind = await client.post(SIGN_IN, data={"key": customer.key})
    assert blind.status_code == 403
    assert "lacks the scope" in blind.text
    revoked = await new_key(house, customer.account_id)
    async with house.sessions.begin() as db:
        key = await key_row(db, revoked)
        await revoke_key(db, key.id, actor="test", reason="")
    answer = await client.post(SIGN_IN, data={"key": revoked})
    assert answer.status_code == 403
    assert "revoked or has expired" in answer.text


async def test_guesses_are_limited_by_address(
    client: AsyncClient, app: Litestar, house: House
) -> None:
    del client  # it keeps the app alive
    # An address of its own, which this test uses up.
    transport = ASGITransport(app, client=("198.51.100.77", 1))  # type: ignore[arg-type]  # two spellings of ASGI
    async with AsyncClient(transport=transport, base_url="https://gateway") as guesser:
        tries = house.settings.ip_rate_per_minute + 20
        answers = [await guesser.post(SIGN_IN, data={"key": UNKNOWN}) for _ in range(tries)]
    closed = [answer for answer in answers if answer.status_code == 429]
    assert closed
    assert "Too many attempts" in closed[0].text
    assert int(closed[0].headers["retry-after"]) >= 1


async def ended(client: AsyncClient) -> bool:
    answer = await client.get("/console/limits")
    return answer.status_code == 303


async def test_a_session_ends_when_its_key_is_revoked(client: AsyncClient, house: House) -> None:
    customer = await new_customer(house)
    await signed_in(client, customer)
    async with house.sessions.begin() as db:
        await revoke_key(db, (await key_row(db, customer.key)).id, actor="test", reason="leaked")
    assert await ended(client)


async def test_a_session_ends_with_its_keys_last_day_its_grace_and_its_account(
    client: AsyncClient, house: House
) -> None:
    for end in ("expires_at", "grace_until"):
        customer = await new_customer(house)
        await signed_in(client, customer)
        async with house.sessions.begin() as db:
            key = await key_row(db, customer.key)
            past = datetime.now(UTC) - timedelta(seconds=1)
            await db.execute(update(ApiKey).where(ApiKey.id == key.id).values({end: past}))
        assert await ended(client), end
    customer = await new_customer(house)
    await signed_in(client, customer)
    async with house.sessions.begin() as db:
        await close_account(db, customer.account_id, actor="test", reason="gone")
    assert await ended(client)


async def test_a_rotated_keys_session_lives_as_long_as_its_grace(
    client: AsyncClient, house: House
) -> None:
    customer = await new_customer(house)
    await signed_in(client, customer)
    async with house.sessions.begin() as db:
        key = await key_row(db, customer.key)
        await rotate_key(db, house.console_sessions.hasher, key.id, actor="test")
    assert not await ended(client)


async def test_a_key_that_is_bound_to_networks_is_bound_to_them_here_too(
    client: AsyncClient, house: House
) -> None:
    customer = await new_customer(house, ip_allow=["203.0.113.0/24"])
    answer = await client.post(SIGN_IN, data={"key": customer.key})
    assert answer.status_code == 403
    assert "not be used from your address" in answer.text
    free = await new_customer(house)
    await signed_in(client, free)
    async with house.sessions.begin() as db:
        key = await key_row(db, free.key)
        key.ip_allow = ["203.0.113.0/24"]
    assert await ended(client)


@pytest.mark.parametrize("column", ["last_seen_at", "expires_at"])
async def test_a_session_ends_when_it_is_idle_and_when_it_is_old(
    client: AsyncClient, house: House, column: str
) -> None:
    customer = await new_customer(house)
    await signed_in(client, customer)
    back = {
        "last_seen_at": house.settings.sign_in_idle,
        "expires_at": house.settings.sign_in_lifetime,
    }[column]
    async with house.sessions.begin() as db:
        key = await key_row(db, customer.key)
        await db.execute(
            update(ConsoleSession)
            .where(ConsoleSession.api_key_id == key.id)
            .values({column: getattr(ConsoleSession, column) - back})
        )
    assert await ended(client)


async def test_what_a_page_asks_for_by_itself_keeps_nobody_signed_in(
    client: AsyncClient, house: House
) -> None:
    customer = await new_customer(house)
    await signed_in(client, customer)

    async def seen_at() -> datetime:
        async with house.sessions() as db:
            mine = ConsoleSession.api_key_id == (await key_row(db, customer.key)).id
            return (await db.scalars(select(ConsoleSession.last_seen_at).where(mine))).one()

    async with house.sessions.begin() as db:
        mine = ConsoleSession.api_key_id == (await key_row(db, customer.key)).id
        earlier = ConsoleSession.last_seen_at - timedelta(minutes=5)
        await db.execute(update(ConsoleSession).where(mine).values(last_seen_at=earlier))
    before = await seen_at()
    await client.get("/console/limits", headers={"HX-Request": "true"})
    assert await seen_at() == before
    await client.get("/console/limits")
    assert await seen_at() > before


async def test_signing_out_ends_the_session_and_not_only_the_cookie(
    client: AsyncClient, house: House
) -> None:
    guest = await signed_in(client, await new_customer(house))
    secret = client.cookies[COOKIE]
    assert (await guest.send("/console/sign-out")).headers["location"] == SIGN_IN
    client.cookies.set(COOKIE, secret)
    assert await ended(client)


@pytest.mark.parametrize("word", ["", "0" * 64])
async def test_a_form_without_the_sessions_word_is_refused(
    client: AsyncClient, house: House, word: str
) -> None:
    await signed_in(client, await new_customer(house))
    for path in ("sign-out", "keys", "webhooks/secret", "webhooks/rotate", "webhooks/alerts"):
        answer = await client.post(f"/console/{path}", data={"form_word": word})
        assert answer.status_code == 403
        assert "out of date" in answer.text
    assert not await ended(client)


@pytest.mark.parametrize(
    "headers", [{"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}]
)
async def test_a_form_of_another_site_is_refused(
    client: AsyncClient, house: House, headers: dict[str, str]
) -> None:
    guest = await signed_in(client, await new_customer(house))
    form = {"form_word": guest.word}
    answer = await client.post("/console/sign-out", data=form, headers=headers)
    assert answer.status_code == 403
    signing = await client.post(SIGN_IN, data={"key": guest.customer.key}, headers=headers)
    assert signing.status_code == 403


@pytest.mark.parametrize(
    "target",
    ["https://evil.example", "//evil.example", "/console//evil", "/\\evil", "/admin", "/consoles"],
)
async def test_signing_in_never_leads_elsewhere(
    client: AsyncClient, house: House, target: str
) -> None:
    customer = await new_customer(house)
    answer = await client.post(SIGN_IN, data={"key": customer.key, "next": target})
    assert answer.headers["location"] == "/console"


async def test_a_session_of_the_console_opens_no_page_of_the_dashboard(
    client: AsyncClient, house: House
) -> None:
    await signed_in(client, await new_customer(house))
    client.cookies.set("__Host-cutout_admin", client.cookies[COOKIE])
    assert (await client.get("/admin")).status_code == 303


def test_every_form_but_signing_in_and_out_needs_a_key_that_may_manage() -> None:
    open_to = {}
    for route in console_router.routes:
        for handler in getattr(route, "route_handlers", ()):
            if not handler.http_methods <= {"GET", "HEAD", "OPTIONS"}:
                open_to[route.path] = handler.opt.get("scope", "admin")
    assert {path: scope for path, scope in open_to.items() if scope != "admin"} == {
        "/console/sign-in": "public",
        "/console/sign-out": "read",
    }


@needs_chromium
@pytest.mark.browser
class TestInABrowser:
    async def test_a_customer_comes_in_with_a_key_and_goes_out(
        self, visit: Visit, house: House
    ) -> None:
        await come_in(visit, await new_customer(house))
        await expect(visit.page.get_by_role("heading", name="Available now")).to_be_visible()
        await visit.page.get_by_role("button", name="Sign out").click()
        await expect(visit.page.get_by_label("API key")).to_be_visible()
        await visit.open("/console/keys")
        await expect(visit.page.get_by_role("button", name="Sign in")).to_be_visible()

    async def test_a_wrong_key_is_refused_and_the_right_one_leads_where_one_wanted(
        self, visit: Visit, house: House
    ) -> None:
        visit.expected.append("403")
        customer = await new_customer(house)
        await visit.open("/console/limits")
        await visit.page.get_by_label("API key").fill(UNKNOWN)
        await visit.page.get_by_role("button", name="Sign in").click()
        await expect(visit.page.get_by_role("alert")).to_contain_text("not known")
        await visit.check_accessible()
        await visit.page.get_by_label("API key").fill(customer.key)
        await visit.page.keyboard.press("Enter")
        await expect(visit.page.get_by_role("heading", name="Limits")).to_be_visible()

    async def test_a_forged_form_changes_nothing(self, visit: Visit, house: House) -> None:
        visit.expected.append("403")
        customer: Customer = await new_customer(house)
        await come_in(visit, customer)
        assert len(await form_word_on(visit.page)) == 64
        await visit.page.eval_on_selector_all(
            'input[name="form_word"]', "all => all.forEach(one => (one.value = 'x'))"
        )
        await visit.page.get_by_role("button", name="Sign out").click()
        await expect(visit.page.get_by_text("out of date")).to_be_visible()
        await visit.open("/console")
        await expect(visit.page.get_by_role("button", name="Sign out")).to_be_visible()
