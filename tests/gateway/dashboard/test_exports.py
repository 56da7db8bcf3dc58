"""Exports: they foot, are the database's, are run by no spreadsheet, and who takes one is noted."""

import csv
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from io import StringIO
from itertools import pairwise
from pathlib import Path
from uuid import uuid4

import pytest
from playwright.async_api import expect
from sqlalchemy import select, text

from billing import audit
from billing.staff_tables import AuditEvent
from gateway.app import House
from tests.gateway.dashboard.calls import Caller, asked, new_caller
from tests.gateway.faces import Visit, needs_chromium
from tests.gateway.web import WorkOff

pytestmark = [needs_chromium, pytest.mark.browser]

SignIn = Callable[[str], Awaitable[str]]
PAGE = "/admin/exports"
SPAN = "since=2026-01-01&until=2027-01-01"


@pytest.fixture
async def caller(served: str, house: House, work: WorkOff) -> Caller:
    """Give a customer whose name is a formula, with a charge and a refusal behind them."""
    caller = await new_caller(served, house, f"=cmd|'/c calc'!{uuid4().hex[:8]}", plan="growth")
    await caller.submit()
    await caller.submit(b"no picture")
    await work()
    return caller


async def taken(visit: Visit, path: str) -> list[dict[str, str]]:
    """Take an export and read it as a spreadsheet would."""
    answer = await visit.page.request.get(f"{visit.address}{PAGE}/{path}")
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"].startswith("attachment; filename=")
    return list(csv.DictReader(StringIO(await answer.text())))


def this_year() -> str:
    year = datetime.now(UTC).year
    return f"since={year}-01-01&until={year}-12-31"


async def test_the_ledger_foots_and_is_the_databases(
    visit: Visit, signed_in: SignIn, house: House, caller: Caller
) -> None:
    await signed_in("finance")
    rows = await taken(visit, f"ledger.csv?{this_year()}")
    assert sum(int(row["amount"]) for row in rows) == 0
    by_txn: dict[str, int] = {}
    for row in rows:
        by_txn[row["txn_id"]] = by_txn.get(row["txn_id"], 0) + int(row["amount"])
    assert set(by_txn.values()) == {0}
    async with house.sessions() as db:
        known = await db.execute(
            text(
                "SELECT CAST(bucket AS text), sum(amount), count(*) FROM ledger_entry"
                " JOIN ledger_txn t ON t.id = txn_id"
                " WHERE t.effective_at >= date_trunc('year', now(), 'UTC') GROUP BY 1"
            )
        )
        sums = {bucket: (int(amount), count) for bucket, amount, count in known}
    for bucket, (amount, count) in sums.items():
        mine = [int(row["amount"]) for row in rows if row["bucket"] == bucket]
        assert (sum(mine), len(mine)) == (amount, count)
    ours = [row for row in rows if row["account_id"] == str(caller.account_id)]
    assert {row["op"] for row in ours} == {"grant", "hold", "capture", "release"}


async def test_one_accounts_ledger_is_its_own(
    visit: Visit, signed_in: SignIn, caller: Caller
) -> None:
    await signed_in("finance")
    rows = await taken(visit, f"ledger.csv?{this_year()}&account={caller.account_id}")
    assert {row["account_id"] for row in rows} == {str(caller.account_id)}
    available = [row for row in rows if row["bucket"] == "available"]
    assert available[-1]["balance_after"] == "49975"


async def test_usage_is_what_was_charged(
    visit: Visit, signed_in: SignIn, house: House, caller: Caller
) -> None:
    await signed_in("finance")
    month = datetime.now(UTC).strftime("since=%Y-%m-01&until=%Y-%m-%d")
    rows = await taken(visit, f"usage.csv?{month}")
    (mine,) = [
        r for r in rows if r["account_id"] == str(caller.account_id) and r["succeeded"] == "1"
    ]
    assert (mine["model"], mine["dialect"], mine["charged_credits"]) == (
        "cutout-lite",
        "revid",
        "25",
    )
    charged = await asked(
        house.sessions,
        "SELECT sum(e.amount) FROM ledger_entry e JOIN ledger_txn t ON t.id = e.txn_id"
        " WHERE e.bucket = 'consumed' AND t.op = 'capture'"
        " AND t.effective_at >= date_trunc('month', now(), 'UTC')",
    )
    assert sum(int(row["charged_credits"]) for row in rows) == charged


async def test_a_spreadsheet_shows_a_formula_and_does_not_run_it(
    visit: Visit, signed_in: SignIn, house: House, caller: Caller
) -> None:
    async with house.sessions.begin() as db:
        await audit.record(
            db,
            actor="@SUM(1)",
            action="test.formula",
            object_name="+1",
            reason="-2+3",
            account_id=caller.account_id,
        )
    await signed_in("finance")
    account = f"&account={caller.account_id}"
    for path in (f"ledger.csv?{this_year()}{account}", f"usage.csv?{this_year()}{account}"):
        rows = await taken(visit, path)
        assert {row["account"] for row in rows} == {f"'{caller.name}"}
    (event,) = [
        row
        for row in await taken(visit, f"audit.csv?{this_year()}{account}")
        if row["action"] == "test.formula"
    ]
    assert (event["actor"], event["object"], event["reason"]) == ("'@SUM(1)", "'+1", "'-2+3")
    month = await taken(visit, f"month.csv?month={datetime.now(UTC):%Y-%m}")
    assert [row["name"] for row in month if row["account_id"] == str(caller.account_id)] == [
        f"'{caller.name}"
    ]


async def test_a_month_foots_in_each_row_and_in_its_totals(
    visit: Visit, signed_in: SignIn, caller: Caller
) -> None:
    await signed_in("finance")
    *rows, total = await taken(visit, f"month.csv?month={datetime.now(UTC):%Y-%m}")
    assert {row["foots"] for row in (*rows, total)} == {"0"}
    for name in ("opening", "plan", "consumed", "closing"):
        assert sum(int(row[name]) for row in rows) == int(total[name])
    (mine,) = [row for row in rows if row["account_id"] == str(caller.account_id)]
    assert (mine["plan"], mine["consumed"], mine["closing"]) == ("50000", "25", "49975")


async def test_the_audit_trail_comes_whole_and_says_who_took_it(
    visit: Visit, signed_in: SignIn, house: House
) -> None:
    email = await signed_in("finance")
    rows = await taken(visit, f"audit.csv?{this_year()}")
    assert [int(row["seq"]) for row in rows] == list(range(1, len(rows) + 1))
    assert all(after["prev_hash"] == row["hash"] for row, after in pairwise(rows))
    async with house.sessions() as db:
        last = await db.scalar(select(AuditEvent).order_by(AuditEvent.seq.desc()).limit(1))
    assert last is not None
    assert (last.actor, last.action) == (f"staff:{email}", "export.audit")


async def test_who_clicks_gets_a_file(
    visit: Visit, signed_in: SignIn, caller: Caller, tmp_path: Path
) -> None:
    await signed_in("finance")
    await visit.open(PAGE)
    form = visit.page.get_by_role("form", name="Ledger")
    await form.get_by_label("Account").fill(str(caller.account_id))
    async with visit.page.expect_download() as download:
        await form.get_by_role("button").press("Enter")
    file = await download.value
    assert file.suggested_filename.startswith("ledger-")
    await file.save_as(tmp_path / "ledger.csv")
    rows = list(csv.DictReader(StringIO((tmp_path / "ledger.csv").read_text())))
    assert sum(int(row["amount"]) for row in rows) == 0
    assert len(rows) > 5


@pytest.mark.parametrize("role", ["viewer", "support"])
async def test_taking_everything_away_needs_finance(
    visit: Visit, signed_in: SignIn, role: str
) -> None:
    await signed_in(role)
    await visit.open(PAGE)
    await expect(visit.page.get_by_text("needs the role “finance”")).to_be_visible()
    for name in ("ledger", "usage", "audit", "month"):
        refused = await visit.page.request.get(f"{visit.address}{PAGE}/{name}.csv?{SPAN}")
        assert refused.status == 403


@pytest.mark.parametrize(
    "query",
    [
        "",
        "since=2026-01-01",
        "since=2020-01-01&until=2026-01-01",
        "since=x&until=y",
        "since=2026-02-01&until=2026-01-01",
        f"{SPAN}&account=me",
    ],
)
async def test_what_makes_no_sense_is_refused(visit: Visit, signed_in: SignIn, query: str) -> None:
    await signed_in("finance")
    refused = await visit.page.request.get(f"{visit.address}{PAGE}/ledger.csv?{query}")
    assert refused.status == 422
