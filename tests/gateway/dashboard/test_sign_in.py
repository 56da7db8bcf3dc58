"""The door of the dashboard, as a person meets it and as a stranger tries it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pyotp
import pytest
from httpx import URL, AsyncClient
from litestar import Litestar
from playwright.async_api import Browser, expect
from sqlalchemy import func, select, update
from sqlalchemy.pool import QueuePool

from billing.staff_tables import AdminSession, AdminUser, AuditEvent, SignInAttempt
from gateway.app import House
from gateway.dashboard import codes
from gateway.dashboard.router import admin_router
from gateway.dashboard.staff import AT_THE_DOOR_MAX, FAILURES_MAX, ROLES
from tests.gateway.faces import (
    PASSWORD,
    Visit,
    form_word_on,
    needs_chromium,
    new_context,
    new_staff,
)
from tests.gateway.web import living

SIGN_IN = "/admin/sign-in"
PROFILE = "/admin/profile"
browser_test = [needs_chromium, pytest.mark.browser]


@pytest.fixture
async def client(app: Litestar) -> AsyncIterator[AsyncClient]:
    """Speak to the app as behind TLS: a cookie that is bound to it is not sent without."""
    async with living(app) as client:
        client.base_url = URL("https://gateway")
        yield client


async def signed_in_client(client: AsyncClient, house: House, role: str) -> tuple[str, str]:
    """Sign the client in over HTTP alone; gives the email and the word for forms."""
    email = await new_staff(house.sessions, role)
    answer = await client.post(SIGN_IN, data={"email": email, "password": PASSWORD})
    assert answer.status_code == 303
    page = await client.get(PROFILE)
    return email, page.text.split('name="form_word" value="')[1].split('"')[0]


async def test_nobody_sees_a_page_without_signing_in(client: AsyncClient) -> None:
    for path in ("/admin", "/admin/profile"):
        answer = await client.get(path)
        assert answer.status_code == 303
        assert answer.headers["location"] == f"{SIGN_IN}?next={path}"


async def test_the_cookie_is_out_of_reach_and_bound_to_tls(
    client: AsyncClient, house: House
) -> None:
    email = await new_staff(house.sessions, "viewer")
    answer = await client.post(SIGN_IN, data={"email": email, "password": PASSWORD})
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("__Host-cutout_admin=")
    for part in ("HttpOnly", "Secure", "SameSite=lax", "Path=/"):
        assert part in cookie
    assert "Domain" not in cookie


async def test_what_is_kept_of_a_session_signs_nobody_in(client: AsyncClient, house: House) -> None:
    email, _ = await signed_in_client(client, house, "viewer")
    secret = client.cookies["__Host-cutout_admin"]
    async with house.sessions() as db:
        rows = await db.execute(
            select(AdminSession.id_hash).join(AdminUser).where(AdminUser.email == email)
        )
        kept = rows.scalar_one()
    assert secret.encode() not in kept
    client.cookies.set("__Host-cutout_admin", kept.hex())
    assert (await client.get(PROFILE)).status_code == 303


async def test_a_letter_that_no_text_can_hold_is_no_fault_of_the_server(
    client: AsyncClient, house: House
) -> None:
    form = {"email": "a\x00@example.com", "password": "\x00"}
    assert (await client.post(SIGN_IN, data=form)).status_code == 403
    await signed_in_client(client, house, "viewer")
    for path in ("accounts?q=%00", "accounts?q=a%00b", "jobs?account=%00", "audit?actor=%00"):
        assert (await client.get(f"/admin/{path}")).status_code == 200, path


@pytest.mark.parametrize("wrong", ["password", "email"])
async def test_a_wrong_word_is_refused_and_which_it_was_is_not_told(
    client: AsyncClient, house: House, wrong: str
) -> None:
    email = await new_staff(house.sessions, "owner")
    form = {"email": email, "password": PASSWORD} | {wrong: f"x{uuid4().hex}@example.com"}
    answer = await client.post(SIGN_IN, data=form)
    assert answer.status_code == 403
    assert "The email, the password or the code is wrong." in answer.text
    assert "set-cookie" not in answer.headers


async def test_too_many_attempts_close_the_door_even_to_the_right_password(
    client: AsyncClient, house: House
) -> None:
    email = await new_staff(house.sessions, "owner")
    for _ in range(FAILURES_MAX):
        wrong = await client.post(SIGN_IN, data={"email": email, "password": "nearly right"})
        assert wrong.status_code == 403
    closed = await client.post(SIGN_IN, data={"email": email, "password": PASSWORD})
    assert closed.status_code == 429
    assert "Too many attempts" in closed.text
    assert 0 < int(closed.headers["retry-after"]) <= 900
    async with house.sessions() as db:
        count = await db.scalar(
            select(func.count()).select_from(SignInAttempt).where(SignInAttempt.email == email)
        )
    assert count == FAILURES_MAX, "an attempt at a closed door is not one more"


@pytest.mark.parametrize("door", [SIGN_IN, "/console/sign-in"])
async def test_a_stranger_s_endless_form_is_not_read(client: AsyncClient, door: str) -> None:
    form = {f"field{n}": "x" * 90 for n in range(1_000)}
    assert (await client.post(door, data=form)).status_code == 413


async def test_a_crowd_at_the_door_leaves_the_calls_their_connections(
    client: AsyncClient, house: House
) -> None:
    form = {"email": await new_staff(house.sessions, "viewer"), "password": PASSWORD}
    pool, most = house.engine.pool, 0
    assert isinstance(pool, QueuePool)
    crowd = asyncio.gather(*(client.post(SIGN_IN, data=form) for _ in range(3 * AT_THE_DOOR_MAX)))
    while not crowd.done():
        most = max(most, pool.checkedout())
        await asyncio.sleep(0.001)
    assert {answer.status_code for answer in await crowd} == {303}
    assert 0 < most <= AT_THE_DOOR_MAX


async def test_a_found_browser_is_no_place_to_guess_the_password_in(
    client: AsyncClient, house: House
) -> None:
    _, word = await signed_in_client(client, house, "viewer")
    guess = {"form_word": word, "password": "nearly right", "new": "another long password"}
    for path in ("/password", "/codes/off", "/password", "/codes/off", "/password"):
        wrong = await client.post(PROFILE + path, data=guess)
        assert "The password is wrong." in wrong.text
    right = await client.post(f"{PROFILE}/password", data=guess | {"password": PASSWORD})
    assert right.status_code == 422
    assert "Too many attempts" in right.text


async def test_attempts_of_long_ago_are_forgotten_whoever_they_were_of(
    client: AsyncClient, house: House
) -> None:
    stranger = f"{uuid4().hex}@example.com"
    async with house.sessions.begin() as db:
        for days in (31, 29):
            at = datetime.now(UTC) - timedelta(days=days)
            db.add(SignInAttempt(email=stranger, address="::", at=at, is_ok=False))
            await db.flush()
    await client.post(SIGN_IN, data={"email": "nobody@example.com", "password": "x"})
    async with house.sessions() as db:
        mine = select(func.count()).select_from(SignInAttempt)
        kept = await db.scalar(mine.where(SignInAttempt.email == stranger))
    assert kept == 1


@pytest.mark.parametrize("column", ["last_seen_at", "expires_at"])
async def test_a_session_ends_when_it_is_idle_and_when_it_is_old(
    client: AsyncClient, house: House, column: str
) -> None:
    email, _ = await signed_in_client(client, house, "viewer")
    assert (await client.get(PROFILE)).status_code == 200
    back = {
        "last_seen_at": house.settings.sign_in_idle,
        "expires_at": house.settings.sign_in_lifetime,
    }[column]
    async with house.sessions.begin() as db:
        mine = select(AdminUser.id).where(AdminUser.email == email).scalar_subquery()
        await db.execute(
            update(AdminSession)
            .where(AdminSession.admin_user_id == mine)
            .values({column: getattr(AdminSession, column) - back})
        )
    assert (await client.get(PROFILE)).status_code == 303


async def test_signing_out_ends_the_session_and_not_only_the_cookie(
    client: AsyncClient, house: House
) -> None:
    _, word = await signed_in_client(client, house, "viewer")
    secret = client.cookies["__Host-cutout_admin"]
    await client.post("/admin/sign-out", data={"form_word": word})
    client.cookies.set("__Host-cutout_admin", secret)
    assert (await client.get(PROFILE)).status_code == 303


@pytest.mark.parametrize("word", ["", "0" * 64])
async def test_a_form_without_the_sessions_word_is_refused(
    client: AsyncClient, house: House, word: str
) -> None:
    await signed_in_client(client, house, "owner")
    answer = await client.post("/admin/sign-out", data={"form_word": word})
    assert answer.status_code == 403
    assert "out of date" in answer.text
    assert (await client.get(PROFILE)).status_code == 200


@pytest.mark.parametrize(
    "headers", [{"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}]
)
async def test_a_form_of_another_site_is_refused(
    client: AsyncClient, house: House, headers: dict[str, str]
) -> None:
    _, word = await signed_in_client(client, house, "owner")
    answer = await client.post("/admin/sign-out", data={"form_word": word}, headers=headers)
    assert answer.status_code == 403
    email = await new_staff(house.sessions, "owner")
    signing = {"email": email, "password": PASSWORD}
    assert (await client.post(SIGN_IN, data=signing, headers=headers)).status_code == 403


@pytest.mark.parametrize(
    "target", ["https://evil.example", "//evil.example", "/admin//evil.example", "/\\evil", "/r/x"]
)
async def test_signing_in_never_leads_elsewhere(
    client: AsyncClient, house: House, target: str
) -> None:
    email = await new_staff(house.sessions, "viewer")
    form = {"email": email, "password": PASSWORD, "next": target}
    assert (await client.post(SIGN_IN, data=form)).headers["location"] == "/admin"


@pytest.mark.parametrize("path", ["/admin/jobs?state=failed&account=a%26b", "/admin?range=30d"])
async def test_what_an_address_asks_for_is_not_lost_by_signing_in(
    client: AsyncClient, house: House, path: str
) -> None:
    email = await new_staff(house.sessions, "viewer")
    door = await client.get(path)
    wanted = door.next_request.url.params["next"] if door.next_request else ""
    form = {"email": email, "password": PASSWORD, "next": wanted}
    assert (await client.post(SIGN_IN, data=form)).headers["location"] == path


async def test_a_disabled_person_is_out_at_once(client: AsyncClient, house: House) -> None:
    email, _ = await signed_in_client(client, house, "owner")
    async with house.sessions.begin() as db:
        await db.execute(
            update(AdminUser)
            .where(AdminUser.email == email)
            .values(disabled_at=func.clock_timestamp())
        )
    assert (await client.get(PROFILE)).status_code == 303
    again = await client.post(SIGN_IN, data={"email": email, "password": PASSWORD})
    assert again.status_code == 403


def test_every_form_of_the_dashboard_says_which_role_it_needs() -> None:
    unsaid = []
    for route in admin_router.routes:
        for handler in getattr(route, "route_handlers", ()):
            reads = handler.http_methods <= {"GET", "HEAD", "OPTIONS"}
            if not reads and handler.opt.get("role") not in {*ROLES, "public"}:
                unsaid.append(str(handler))
    assert unsaid == []


async def test_a_code_is_asked_for_and_good_once(client: AsyncClient, house: House) -> None:
    email = await new_staff(house.sessions, "owner")
    async with house.sessions.begin() as db:
        user = (await db.scalars(select(AdminUser).where(AdminUser.email == email))).one()
        user.is_totp_on = True
        secret = codes.secret_of(house.settings, user.id, user.totp_version)
    form = {"email": email, "password": PASSWORD}
    assert (await client.post(SIGN_IN, data=form)).status_code == 403
    form["code"] = pyotp.TOTP(secret).at(datetime.now(UTC))
    assert (await client.post(SIGN_IN, data=form)).status_code == 303
    client.cookies.clear()
    assert (await client.post(SIGN_IN, data=form)).status_code == 403


class TestInABrowser:
    pytestmark = browser_test

    async def test_a_person_signs_in_and_out(
        self, visit: Visit, signed_in: Callable[[str], Awaitable[str]]
    ) -> None:
        email = await signed_in("viewer")
        page = visit.page
        await expect(page.get_by_role("button", name="Sign out")).to_be_visible()
        await expect(page.get_by_text(email)).to_be_visible()
        await page.get_by_role("button", name="Sign out").click()
        await expect(page.get_by_label("Email")).to_be_visible()
        await visit.open(PROFILE)
        await expect(page.get_by_role("button", name="Sign in")).to_be_visible()

    async def test_where_one_wanted_to_go_is_where_one_comes_after_signing_in(
        self, visit: Visit, house: House
    ) -> None:
        email = await new_staff(house.sessions, "viewer")
        await visit.open("/admin/profile")
        await visit.page.get_by_label("Email").fill(email)
        await visit.page.get_by_label("Password").fill(PASSWORD)
        await visit.page.keyboard.press("Enter")
        await expect(visit.page.get_by_role("heading", name="Your sign-in")).to_be_visible()

    async def test_codes_are_set_up_with_the_key_that_the_page_shows(
        self, visit: Visit, house: House, signed_in: Callable[[str], Awaitable[str]]
    ) -> None:
        email = await signed_in("owner")
        await visit.open("/admin/profile")
        key = await visit.page.locator("section code").inner_text()
        await visit.page.get_by_label("Code", exact=True).fill(pyotp.TOTP(key).now())
        await visit.page.get_by_role("button", name="Turn codes on").click()
        await expect(visit.page.get_by_text("Signing in asks for a code")).to_be_visible()
        async with house.sessions() as db:
            events = await db.scalars(
                select(AuditEvent.action).where(AuditEvent.object == f"admin:{email}")
            )
            assert list(events) == ["admin.created", "admin.codes_on"]

    async def test_a_new_password_signs_every_browser_out(
        self,
        visit: Visit,
        browser: Browser,
        signed_in: Callable[[str], Awaitable[str]],
    ) -> None:
        email = await signed_in("viewer")
        other = await new_context(browser)
        second = Visit(await other.new_page(), visit.address)
        await second.sign_in(email)
        await visit.open("/admin/profile")
        await visit.page.get_by_label("Password now").fill(PASSWORD)
        await visit.page.get_by_label("New password").fill("another long password")
        await visit.page.get_by_role("button", name="Change the password").click()
        await expect(visit.page.get_by_label("Email")).to_be_visible()
        await second.open(PROFILE)
        await expect(second.page.get_by_label("Email")).to_be_visible()
        await visit.sign_in(email, "another long password")
        await expect(visit.page.get_by_role("button", name="Sign out")).to_be_visible()
        await other.close()

    async def test_the_keyboard_alone_is_enough(self, visit: Visit, house: House) -> None:
        email = await new_staff(house.sessions, "viewer")
        await visit.open(PROFILE)
        assert (await visit.tab_order(3))[0] == "Skip to the content"
        await visit.page.get_by_label("Email").focus()
        await visit.page.keyboard.type(email)
        await visit.page.keyboard.press("Tab")
        await visit.page.keyboard.type(PASSWORD)
        await visit.page.keyboard.press("Enter")
        await expect(visit.page.get_by_role("button", name="Sign out")).to_be_visible()

    async def test_signing_in_and_the_profile_fit_and_are_accessible(
        self,
        visit: Visit,
        phone_visit: Visit,
        house: House,
    ) -> None:
        email = await new_staff(house.sessions, "owner")
        for one in (visit, phone_visit):
            await one.open(SIGN_IN)
            await one.check_fits()
            await one.check_accessible()
            await one.sign_in(email)
            await one.open("/admin/profile")
            await one.check_fits()
            await one.check_accessible()

    async def test_a_forged_form_changes_nothing(
        self, visit: Visit, signed_in: Callable[[str], Awaitable[str]]
    ) -> None:
        visit.expected.append("403")
        await signed_in("owner")
        await visit.open("/admin/profile")
        assert len(await form_word_on(visit.page)) == 64
        await visit.page.eval_on_selector_all(
            'input[name="form_word"]', "all => all.forEach(one => (one.value = 'x'))"
        )
        await visit.page.get_by_role("button", name="Sign out").click()
        await expect(visit.page.get_by_text("out of date")).to_be_visible()
        await visit.open(PROFILE)
        await expect(visit.page.get_by_role("button", name="Sign out")).to_be_visible()
