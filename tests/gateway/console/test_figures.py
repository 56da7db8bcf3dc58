"""What the console tells of credits: the same as the ledger, read by another's SQL."""

import csv
import io
import re
from datetime import UTC, datetime, timedelta
from html import unescape
from uuid import UUID

import pytest
from httpx import AsyncClient
from playwright.async_api import expect
from sqlalchemy import text, update

from billing import ledger
from billing.accounts import create_account, set_credit_limit, suspend_account
from billing.tables import Account, CreditGrant
from gateway.app import House
from tests.billing.conftest import JANUARY_31, captured
from tests.billing.test_statements import eventful_month
from tests.gateway.console import visitors
from tests.gateway.console.visitors import Guest, come_in, make_cutout, new_customer, signed_in
from tests.gateway.faces import Visit, needs_chromium
from tests.gateway.web import Customer

ROW = re.compile(
    r'<tr>\s*<td><time datetime="([^"]+)">.*?</td>.*?'
    r'<td class="number">([^<]+)</td>\s*<td class="number">([^<]+)</td>\s*</tr>',
    re.DOTALL,
)
TILE = re.compile(r"<dt>([^<]+)</dt>\s*<dd><strong>([^<]+)</strong>")
# No function of ours: sums of the entries, run up over the account's sequence.
INDEPENDENT = text(
    """
    SELECT * FROM (
        SELECT t.effective_at AS at, t.account_seq AS seq, sum(e.amount) AS amount,
            sum(sum(e.amount)) OVER (ORDER BY t.account_seq) AS balance
        FROM ledger_txn t JOIN ledger_entry e ON e.txn_id = t.id
        WHERE t.account_id = :account_id AND e.bucket IN ('available', 'held')
        GROUP BY t.id
    ) line
    WHERE at >= :since AND at < :until ORDER BY seq
    """
)


def number(said: str) -> int:
    return int(unescape(said).replace(",", "").replace("\N{MINUS SIGN}", "-").replace("+", ""))


def tiles_of(page: str) -> dict[str, str]:
    return {label: unescape(value) for label, value in TILE.findall(page)}


async def eventful(house: House) -> Customer:
    """Open an account that lived through a month of everything, long ago."""
    async with house.sessions.begin() as db:
        account = await create_account(db, name="Ada", plan="free", actor="test", at=JANUARY_31)
        await eventful_month(db, account.id)
    return Customer(account.id, await visitors.new_key(house, account.id))


async def independent(
    house: House, account_id: UUID, since: datetime, until: datetime
) -> list[tuple[datetime, int, int]]:
    arguments = {"account_id": account_id, "since": since, "until": until}
    async with house.sessions() as db:
        rows = await db.execute(INDEPENDENT, arguments)
        return [(row.at, int(row.amount), int(row.balance)) for row in rows]


async def read_csv(guest: Guest, path: str) -> list[dict[str, str]]:
    answer = await guest.get(path)
    assert answer.headers["content-type"].startswith("text/csv")
    assert "attachment" in answer.headers["content-disposition"]
    return list(csv.DictReader(io.StringIO(answer.text)))


async def test_a_periods_statement_is_what_independent_sql_says(
    client: AsyncClient, house: House
) -> None:
    customer = await eventful(house)
    guest = await signed_in(client, customer)
    since, until = JANUARY_31, datetime(2025, 2, 28, 12, 0, tzinfo=UTC)
    page = await guest.get(f"/console/statement?period={since.isoformat().replace('+', '%2B')}")
    expected = await independent(house, customer.account_id, since, until)
    told = [
        (datetime.fromisoformat(at), number(amount), number(balance))
        for at, amount, balance in ROW.findall(page.text)
    ]
    assert told == [line for line in reversed(expected) if line[1]]
    assert len(told) >= 7
    tiles = {label: number(value) for label, value in tiles_of(page.text).items()}
    assert tiles["Balance before"] == 0
    assert tiles["Balance after"] == expected[-1][2]
    parts = tiles["Given"] + tiles["Spent"] + tiles["Expired"] + tiles["Corrected"]
    assert tiles["Balance before"] + parts == tiles["Balance after"]


async def test_the_statements_csv_foots_and_holds_every_line(
    client: AsyncClient, house: House
) -> None:
    customer = await eventful(house)
    guest = await signed_in(client, customer)
    since, until = datetime(2025, 2, 1, tzinfo=UTC), datetime(2025, 4, 1, tzinfo=UTC)
    query = "from=2025-02-01&to=2025-03-31"
    rows = await read_csv(guest, f"/console/statement.csv?{query}")
    expected = await independent(house, customer.account_id, since, until)
    assert [
        (datetime.fromisoformat(row["at"]), int(row["amount"]), int(row["balance"])) for row in rows
    ] == expected
    tiles = tiles_of((await guest.get(f"/console/statement?{query}")).text)
    opening, closing = number(tiles["Balance before"]), number(tiles["Balance after"])
    assert opening + sum(int(row["amount"]) for row in rows) == closing
    assert closing == int(rows[-1]["balance"])


async def test_a_long_statement_is_read_page_by_page(
    client: AsyncClient, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.console.statement.LINES_MAX", 3)
    customer = await eventful(house)
    guest = await signed_in(client, customer)
    path, read = "/console/statement?from=2025-01-31&to=2025-02-27&all=1", []
    while path:
        page = (await guest.get(path)).text
        read += [(number(amount), number(balance)) for _, amount, balance in ROW.findall(page)]
        older = re.search(r'href="([^"]+)" rel="next"', page)
        path = unescape(older[1]) if older else ""
    since, until = JANUARY_31, datetime(2025, 2, 28, tzinfo=UTC)
    expected = await independent(house, customer.account_id, since, until)
    assert read == [line[1:] for line in reversed(expected)]


@pytest.mark.parametrize("place", ["usage", "statement"])
@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("from=2026-12-01&to=2020-01-01", "“From” comes before “To”"),
        ("from=abc", "“From” is a date"),
        ("to=abc", "“To” is a date"),
    ],
)
async def test_days_that_make_no_sense_leave_one_on_the_page(
    client: AsyncClient, house: House, place: str, asked: str, told: str
) -> None:
    guest = await signed_in(client, await new_customer(house))
    answer = await guest.get(f"/console/{place}?{asked}")
    assert answer.status_code == 422
    assert told in answer.text
    assert all(f'value="{said.split("=")[1]}"' in answer.text for said in asked.split("&"))
    assert f"<h1>{place.capitalize()}</h1>" in answer.text


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("statement?period=2025-01-31T00:00:00", 404),
        ("statement?from=yesterday", 422),
        ("statement?from=2025-02-02&to=2025-02-01", 422),
        ("statement?from=2020-01-01&to=2025-02-01", 422),
        ("statement.csv?from=0001-01-01&to=9999-12-31", 422),
        ("statement?before=x", 404),
        ("usage?from=0001-01-01&to=0001-01-01", 200),
        ("usage?to=0001-01-02", 422),
        ("usage?to=9999-12-31", 422),
        ("usage.csv?from=2025-13-01", 422),
        ("jobs?state=lost", 404),
        ("jobs?before=x", 404),
        ("webhooks?state=lost", 404),
        ("nowhere", 404),
    ],
)
async def test_an_address_that_makes_no_sense_is_answered_with_a_page(
    client: AsyncClient, house: House, path: str, status: int
) -> None:
    guest = await signed_in(client, await new_customer(house))
    answer = await guest.get(f"/console/{path}")
    assert answer.status_code == status
    assert answer.headers["content-type"].startswith("text/html")


async def test_usage_is_told_by_key_model_and_dialect_and_its_csv_sums_up(
    client: AsyncClient, house: House
) -> None:
    customer = await new_customer(house, name="Shop")
    await make_cutout(client, customer)
    await make_cutout(client, customer)
    guest = await signed_in(client, customer)
    page = (await guest.get("/console/usage")).text
    tiles = tiles_of(page)
    assert (tiles["Cutouts made"], tiles["Credits charged"], tiles["Failed"]) == ("2", "50", "0")
    for name in ("Shop", "cutout-lite", "codia"):
        assert name in page
    rows = await read_csv(guest, "/console/usage.csv")
    assert sum(int(row["charged_credits"]) for row in rows) == 50
    assert sum(int(row["succeeded"]) for row in rows) == 2
    before = await read_csv(guest, "/console/usage.csv?from=2025-01-01&to=2025-01-31")
    assert before == []


async def test_the_overview_tells_what_can_be_spent_and_until_when(
    client: AsyncClient, house: House
) -> None:
    customer = await new_customer(house)
    async with house.sessions.begin() as db:
        await ledger.grant_credits(
            db,
            customer.account_id,
            amount=40,
            source="promo",
            ref="hello",
            actor="test",
            reason="welcome",
            expires_at=datetime.now(UTC) + timedelta(days=3),
        )
    guest = await signed_in(client, customer)
    page = (await guest.get("/console")).text
    assert "<strong>290</strong> credits" in page
    assert "Enough for 11 cutouts" in page
    tiles = tiles_of(page)
    assert tiles["Expiring within 7 days"] == "40"
    assert tiles["Rolls over then"] == "250"
    assert page.index("Promotion") < page.index('<th scope="row">Plan'), "what is used first"


async def test_a_key_with_a_budget_is_told_what_that_leaves(
    client: AsyncClient, house: House
) -> None:
    owner = await new_customer(house)
    key = await visitors.new_key(house, owner.account_id, budget_credits=70)
    mine = Customer(owner.account_id, key)
    await make_cutout(client, mine)
    guest = await signed_in(client, mine)

    page = (await guest.get("/console")).text
    limits = (await guest.get("/console/limits")).text

    assert "<strong>225</strong> credits" in page, "the account's"
    assert "Enough for 1 cutout at 25 credits with this key" in page, "the key's"
    assert "45 of 70 credits left until" in page
    assert "<strong>45</strong> of 70 credits left" in limits
    await make_cutout(client, mine)
    assert "Yet this key has less left than one cutout costs" in (await guest.get("/console")).text
    without = await signed_in(client, owner)
    assert "budget" not in (await without.get("/console/limits")).text
    assert "Enough for 8 cutouts" in (await without.get("/console")).text


async def test_with_a_credit_limit_a_used_up_budget_is_still_the_reason(
    client: AsyncClient, house: House
) -> None:
    owner = await new_customer(house)
    key = await visitors.new_key(house, owner.account_id, budget_credits=20)
    async with house.sessions.begin() as db:
        await set_credit_limit(
            db, owner.account_id, credit_limit=1000, actor="test", reason="trust"
        )
    page = (await (await signed_in(client, Customer(owner.account_id, key))).get("/console")).text
    assert "Yet this key has less left than one cutout costs" in page


async def test_what_is_due_is_played_before_it_is_shown(client: AsyncClient, house: House) -> None:
    customer = await new_customer(house)
    async with house.sessions.begin() as db:
        grant_id = await ledger.grant_credits(
            db,
            customer.account_id,
            amount=40,
            source="promo",
            ref="hello",
            actor="test",
            reason="welcome",
            expires_at=datetime.now(UTC) + timedelta(seconds=1),
        )
    guest = await signed_in(client, customer)
    async with house.sessions() as db:
        await db.execute(text("SELECT pg_sleep(1.2)"))
    assert "<strong>250</strong> credits" in (await guest.get("/console")).text
    async with house.sessions() as db:
        assert (await db.get_one(CreditGrant, grant_id)).closed_reason == "expired"


async def test_one_who_runs_low_and_one_who_is_suspended_are_warned(
    client: AsyncClient, house: House
) -> None:
    customer = await new_customer(house)
    async with house.sessions.begin() as db:
        await captured(db, customer.account_id, 225)
    guest = await signed_in(client, customer)
    assert "Less than 20 % is left" in (await guest.get("/console")).text
    async with house.sessions.begin() as db:
        await captured(db, customer.account_id, 25)
        await suspend_account(db, customer.account_id, actor="test", reason="unpaid")
    page = (await guest.get("/console")).text
    assert "calls are refused with 402" in page
    assert "The account is suspended" in page


async def test_a_name_of_an_account_writes_no_markup(client: AsyncClient, house: House) -> None:
    customer = await new_customer(house, name="<script>alert(1)</script>")
    async with house.sessions.begin() as db:
        chosen = update(Account).where(Account.id == customer.account_id)
        await db.execute(chosen.values(name="<img src=x onerror=alert(2)>"))
    guest = await signed_in(client, customer)
    for path in ("", "/keys", "/usage"):
        page = (await guest.get(f"/console{path}")).text
        assert "<script>alert" not in page
        assert "<img src=x" not in page


@needs_chromium
@pytest.mark.browser
class TestInABrowser:
    async def test_the_overview_draws_its_chart_and_its_numbers(
        self, visit: Visit, house: House
    ) -> None:
        customer = await new_customer(house)
        async with AsyncClient(base_url=visit.address, timeout=60) as client:
            await make_cutout(client, customer)
        await come_in(visit, customer)
        figure = visit.page.locator("figure.drawn canvas")
        await expect(figure).to_be_visible()
        await visit.page.get_by_text("Show the numbers").click()
        await expect(visit.page.locator("figure tbody tr").last).to_contain_text("1")

    async def test_a_statement_is_chosen_read_and_downloaded(
        self, visit: Visit, house: House
    ) -> None:
        customer = await eventful(house)
        await come_in(visit, customer)
        await visit.open("/console/statement?from=2025-01-31&to=2025-02-27")
        first = visit.page.get_by_role("row").nth(1)
        expected = await independent(
            house, customer.account_id, JANUARY_31, datetime(2025, 2, 28, tzinfo=UTC)
        )
        shown = await first.locator("td").last.inner_text()
        assert number(shown) == expected[-1][2]
        async with visit.page.expect_download() as download:
            await visit.page.get_by_role("link", name="Download CSV").click()
        file = await download.value
        assert file.suggested_filename == "statement-20250131-20250228.csv"
        rows = list(csv.DictReader(io.StringIO((await file.path()).read_text())))
        assert len(rows) == len(expected)
        await visit.page.get_by_label("Period").select_option(index=1)
        await expect(visit.page).to_have_url(re.compile("period="))
