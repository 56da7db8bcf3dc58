"""The pages of accounts: found, sorted, paged; and one account as the database has it."""

from collections.abc import Awaitable, Callable
from uuid import UUID, uuid4

import pytest
from playwright.async_api import expect
from sqlalchemy import text, update

from billing.accounts import create_account, suspend_account
from billing.ledger import grant_credits
from billing.notes import add_note
from billing.tables import Account, CreditGrant
from gateway.app import House
from tests.gateway.dashboard.acting import Actor, new_account
from tests.gateway.dashboard.calls import Caller, new_caller
from tests.gateway.faces import Visit, needs_chromium
from tests.gateway.web import WorkOff

pytestmark = [needs_chromium, pytest.mark.browser]

SignIn = Callable[[str], Awaitable[str]]

# Past all of our own queries: each operation's own sum, and the running sum of all before it.
STATEMENT = text(
    """
    SELECT t.account_seq, t.op, sum(e.amount) AS amount,
        sum(sum(e.amount)) OVER (ORDER BY t.account_seq) AS balance
    FROM ledger_txn t
    JOIN ledger_entry e ON e.txn_id = t.id AND e.bucket IN ('available', 'held')
    WHERE t.account_id = :account_id
    GROUP BY t.account_seq, t.op ORDER BY t.account_seq DESC
    """
)


@pytest.fixture
async def viewer(visit: Visit, house: House, signed_in: SignIn) -> Actor:
    return Actor(visit, house, await signed_in("viewer"), await new_account(house))


async def named(house: House, *names: str, plan: str = "free") -> list[UUID]:
    return [await new_account(house, name=name, plan=plan) for name in names]


async def listed(visit: Visit) -> list[str]:
    return await visit.page.locator("tbody th").all_inner_texts()


async def search(visit: Visit, words: str) -> None:
    await visit.open("/admin/accounts")
    await visit.page.get_by_label("Search").fill(words)
    await visit.page.get_by_role("button", name="Find").click()


def number_in(words: str) -> int:
    return int(words.replace(",", "").replace("\N{MINUS SIGN}", "-").replace("+", ""))


async def test_an_account_is_found_by_name_by_id_and_by_a_key(viewer: Actor, house: House) -> None:
    mark = uuid4().hex[:10]
    (account_id, _) = await named(house, f"Zoe {mark} Ltd", f"Someone else than {mark[:3]}")
    key = await Actor(viewer.visit, house, "", account_id).new_key()
    for words in (mark.upper(), str(account_id)[:13], key.key_id, f"cg_live_{key.key_id}abcdef"):
        await search(viewer.visit, words)
        assert await listed(viewer.visit) == [f"Zoe {mark} Ltd"], words
    await viewer.page.get_by_role("link", name=f"Zoe {mark} Ltd").click()
    await expect(viewer.page.get_by_role("heading", level=1)).to_contain_text(mark)


async def test_a_pattern_s_characters_are_only_characters(viewer: Actor, house: House) -> None:
    mark = uuid4().hex[:10]
    await named(house, f"100% {mark}", f"1000 {mark}")
    await search(viewer.visit, f"100% {mark}")
    assert await listed(viewer.visit) == [f"100% {mark}"]


async def test_the_list_is_sorted_and_filtered(viewer: Actor, house: House) -> None:
    mark = uuid4().hex[:10]
    ids = await named(house, f"B {mark}", f"A {mark}")
    ids += await named(house, f"C {mark}", plan="starter")
    async with house.sessions.begin() as db:
        await grant_credits(
            db, ids[1], amount=100, source="topup", ref="1", actor="test", reason=""
        )
        await suspend_account(db, ids[0], actor="test", reason="")
    page = viewer.page
    await search(viewer.visit, mark)
    assert await listed(viewer.visit) == [f"A {mark}", f"B {mark}", f"C {mark}"]

    await page.get_by_role("link", name="Available").click()
    assert await listed(viewer.visit) == [f"C {mark}", f"A {mark}", f"B {mark}"]
    head = page.get_by_role("columnheader", name="Available")
    await expect(head).to_have_attribute("aria-sort", "descending")
    await page.get_by_role("link", name="Available").click()
    assert await listed(viewer.visit) == [f"B {mark}", f"A {mark}", f"C {mark}"]

    await page.get_by_label("Status").select_option("suspended")
    await page.get_by_role("button", name="Find").click()
    assert await listed(viewer.visit) == [f"B {mark}"]
    await page.get_by_label("Status").select_option("")
    await page.get_by_label("Plan").select_option("starter")
    await page.get_by_role("button", name="Find").click()
    assert await listed(viewer.visit) == [f"C {mark}"]


async def test_pages_follow_one_another_and_miss_nobody(viewer: Actor, house: House) -> None:
    mark = uuid4().hex[:10]
    async with house.sessions.begin() as db:
        await db.execute(
            text(
                """
                WITH new AS (
                    INSERT INTO account (id, name)
                    SELECT gen_random_uuid(), :mark || lpad(n::text, 3, '0')
                    FROM generate_series(1, 120) n RETURNING id
                )
                INSERT INTO credit_account (account_id, advanced_at) SELECT id, now() FROM new
                """
            ),
            {"mark": mark},
        )
    await search(viewer.visit, mark)
    seen = await listed(viewer.visit)
    await expect(viewer.page.get_by_text("1 to 50 of 120")).to_be_visible()
    while await viewer.page.get_by_role("link", name="Next").count():
        await viewer.page.get_by_role("link", name="Next").click()
        await viewer.page.wait_for_load_state()
        seen += await listed(viewer.visit)
    assert seen == [f"{mark}{n:03}" for n in range(1, 121)]


async def test_what_nobody_is_called_is_said_in_words(viewer: Actor) -> None:
    await search(viewer.visit, uuid4().hex)
    await expect(viewer.page.get_by_text("No account fits.")).to_be_visible()


@pytest.fixture
async def caller(served: str, house: House) -> Caller:
    return await new_caller(served, house, f"Whole {uuid4().hex[:8]}")


async def test_a_statement_has_the_numbers_of_the_ledger(
    visit: Visit, house: House, signed_in: SignIn, caller: Caller, work: WorkOff
) -> None:
    actor = Actor(visit, house, await signed_in("viewer"), caller.account_id)
    for _ in range(3):
        await actor.charged_job()
    job_id = await caller.submit()
    await caller.submit(b"no picture")
    await work()
    await actor.held_job()
    await visit.open(f"{actor.here}/statement?holds=1")

    rows = visit.page.locator("#statement tbody tr")
    shown = [await rows.nth(n).locator("td").all_inner_texts() for n in range(await rows.count())]
    async with house.sessions() as db:
        booked = (await db.execute(STATEMENT, {"account_id": caller.account_id})).all()
    assert [(number_in(row[0]), number_in(row[3]), number_in(row[4])) for row in shown] == [
        (line.account_seq, int(line.amount), int(line.balance)) for line in booked
    ]
    assert len(shown) == 12
    balance = await actor.balance()
    assert number_in(shown[0][5]) == balance.available
    assert number_in(shown[0][6]) == balance.held
    link = visit.page.locator(f'a[href="/admin/jobs/{job_id}"]').first
    await link.click()
    await expect(visit.page.get_by_role("heading", level=1)).to_contain_text(str(job_id)[:8])


async def test_a_long_statement_is_read_page_by_page(viewer: Actor) -> None:
    for _ in range(130):
        await viewer.charged_job(amount=1)
    await viewer.visit.open(f"{viewer.here}/statement")
    rows = viewer.page.locator("#statement tbody tr")
    seen: list[str] = []
    while True:
        seen += [
            await rows.nth(n).locator("td").first.inner_text() for n in range(await rows.count())
        ]
        older = viewer.page.get_by_role("link", name="Next")
        if not await older.count():
            break
        await older.click()
        await viewer.page.wait_for_load_state()
    assert len(seen) == len(set(seen)) == 131
    assert seen == sorted(seen, key=number_in, reverse=True)


async def test_grants_stand_in_the_order_in_which_they_pay(viewer: Actor, house: House) -> None:
    async with house.sessions.begin() as db:
        for source in ("topup", "promo"):
            await grant_credits(
                db,
                viewer.account_id,
                amount=60,
                source=source,
                ref=source,
                actor="test",
                reason=f"the {source}",
            )
    await viewer.held_job(80)
    await viewer.visit.open(viewer.here)

    rows = viewer.page.locator("#grants tbody tr")
    cells = [await rows.nth(n).locator("td").all_inner_texts() for n in range(3)]
    assert [row[1].split()[0] for row in cells] == ["promo", "plan", "topup"]
    assert [(row[2], row[3]) for row in cells] == [("0", "60"), ("230", "20"), ("60", "0")]
    await expect(viewer.page.locator("#holds tbody tr")).to_have_count(1)


async def test_what_ends_within_a_week_is_told(viewer: Actor, house: House) -> None:
    async with house.sessions.begin() as db:
        grant_id = await grant_credits(
            db,
            viewer.account_id,
            amount=40,
            source="promo",
            ref="soon",
            actor="test",
            reason="",
            expires_at=(await db.execute(text("SELECT now() + interval '3 days'"))).scalar_one(),
        )
        assert await db.get(CreditGrant, grant_id) is not None
    await viewer.visit.open(viewer.here)

    tile = viewer.page.locator(".tile", has_text="Ends within 7 days")
    await expect(tile.locator("strong")).to_have_text("40")


async def test_what_the_period_s_end_would_let_lapse_is_told_too(
    viewer: Actor, house: House
) -> None:
    async with house.sessions.begin() as db:
        # In its second period: 250 carried over, 250 new, and no more than 250 may be carried.
        opened_at = (await db.execute(text("SELECT now() - interval '57 days'"))).scalar_one()
        account = await create_account(db, name="Saver", plan="free", actor="test", at=opened_at)
    await viewer.visit.open(f"/admin/accounts/{account.id}")

    available = viewer.page.locator(".tile", has_text="Available")
    await expect(available.locator("strong")).to_have_text("500")
    ending = viewer.page.locator(".tile", has_text="Ends within 7 days")
    await expect(ending.locator("strong")).to_have_text("250")


async def test_the_page_shows_keys_notes_and_what_people_did(viewer: Actor, house: House) -> None:
    key = await viewer.new_key()
    async with house.sessions.begin() as db:
        await add_note(db, viewer.account_id, "Pays by invoice.", actor="staff:ada@example.com")
    await viewer.visit.open(viewer.here)

    await expect(viewer.page.locator("#keys")).to_contain_text(key.key_id)
    await expect(viewer.page.locator("#notes")).to_contain_text("Pays by invoice.")
    trail = viewer.page.locator("#audit")
    for action in ("account.create", "key.create", "account.note"):
        await expect(trail).to_contain_text(action)


async def test_a_name_is_text_and_nothing_else(viewer: Actor, house: House) -> None:
    async with house.sessions.begin() as db:
        name = "<img src=x onerror=alert(1)> & Söhne"
        mine = update(Account).where(Account.id == viewer.account_id)
        await db.execute(mine.values(name=name))
    await viewer.visit.open(viewer.here)
    await expect(viewer.page.get_by_role("heading", level=1)).to_contain_text(name)


async def test_a_name_without_end_pushes_no_column_away(viewer: Actor, house: House) -> None:
    name = f"{uuid4().hex}{'x' * 368}"
    async with house.sessions.begin() as db:  # from before names had a length
        await db.execute(update(Account).where(Account.id == viewer.account_id).values(name=name))
    await viewer.visit.open(f"/admin/accounts?q={name[:32]}")
    table = viewer.page.get_by_role("region", name="Accounts")
    await expect(table).to_contain_text(name)
    assert await table.evaluate("one => one.scrollWidth <= one.clientWidth")


async def test_the_pages_fit_and_are_accessible(viewer: Actor, phone_visit: Visit) -> None:
    await viewer.charged_job()
    await viewer.held_job()
    await viewer.new_key()
    await phone_visit.sign_in(viewer.email)
    for visit in (viewer.visit, phone_visit):
        for path in ("/admin/accounts", viewer.here, f"{viewer.here}/statement"):
            await visit.open(path)
            await visit.check_fits()
            await visit.check_accessible()
