"""`GET /v1/usage` and `GET /v1/statement.csv`: one's own account, whole, and footing."""

import csv
import io
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from httpx import AsyncClient
from hypothesis import given
from hypothesis import strategies as st

from billing.credits import grant_credits
from billing.db import SessionFactory
from gateway.dialects import reports
from gateway.dialects.reports import SPAN_MAX, span_of
from gateway.errors import InvalidRequestError
from tests.gateway.web import Customer, NewCustomer, WorkOff

PAGES = ("/v1/usage", "/v1/statement.csv")
REVID = "/paid/image/remove/background"


async def call(client: AsyncClient, customer: Customer, *sources: bytes) -> list[str]:
    """Submit each of `sources`; tell the tasks."""
    answers = [
        await client.post(
            REVID,
            headers=customer.x_api_key,
            data={"model": "cutout-lite"},
            files={"file": source},
        )
        for source in sources
    ]
    return [answer.json()["task_id"] for answer in answers]


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def foots(rows: Sequence[dict[str, str]]) -> bool:
    """Whether each line's balance follows from the one before, and is available and held."""
    follows = all(
        int(one["balance"]) + int(two["amount"]) == int(two["balance"])
        for one, two in pairwise(rows)
    )
    return follows and all(
        int(row["balance"]) == int(row["available"]) + int(row["held"]) for row in rows
    )


async def test_usage_counts_what_ended_by_day_key_model_and_dialect(
    client: AsyncClient, customer: Customer, work: WorkOff, astronaut: bytes
) -> None:
    await call(client, customer, astronaut, astronaut, b"GIF89a")
    await work()

    answer = await client.get("/v1/usage", headers=customer.bearer)

    document = answer.json()
    assert answer.headers["Cache-Control"] == "no-store"
    assert document["total"] == {"succeeded": 2, "failed": 1, "charged_credits": 50}
    (line,) = document["usage"]
    assert (line["model"], line["dialect"]) == ("cutout-lite", "revid")
    assert line["day"] == f"{datetime.now(UTC):%Y-%m-%d}"
    by_x_api_key = await client.get("/v1/usage", headers=customer.x_api_key)
    assert by_x_api_key.json()["usage"] == document["usage"]


async def test_a_statement_foots_and_names_each_job(
    client: AsyncClient,
    customer: Customer,
    committed_sessions: SessionFactory,
    work: WorkOff,
    astronaut: bytes,
) -> None:
    good, bad = await call(client, customer, astronaut, b"GIF89a")
    await work()
    async with committed_sessions.begin() as db:
        await grant_credits(
            db, customer.account_id, amount=7, source="topup", ref="r", actor="t", reason="=1+1"
        )

    answer = await client.get("/v1/statement.csv", headers=customer.x_api_key)

    rows = rows_of(answer.text)
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert answer.headers["Content-Disposition"].startswith('attachment; filename="statement-')
    assert foots(rows)
    assert sum(int(row["amount"]) for row in rows) == int(rows[-1]["balance"]) == 232
    moved = {(row["op"], row["job_id"]): row["amount"] for row in rows}
    assert moved["capture", good] == "-25"
    assert moved["release", bad] == "0"
    assert rows[-1]["reason"] == "'=1+1"  # a spreadsheet takes it for text


async def test_a_span_cuts_a_statement_without_breaking_its_balance(
    client: AsyncClient, customer: Customer, work: WorkOff, astronaut: bytes
) -> None:
    await call(client, customer, astronaut)
    await work()
    whole = rows_of((await client.get("/v1/statement.csv", headers=customer.bearer)).text)
    since = whole[1]["at"]
    page = "/v1/statement.csv"
    cut = await client.get(page, headers=customer.bearer, params={"from": since})
    assert rows_of(cut.text) == whole[1:]
    ended = await client.get("/v1/statement.csv", headers=customer.bearer, params={"to": since})
    assert rows_of(ended.text) == whole[:1]


@pytest.mark.parametrize("page", PAGES)
async def test_nobody_elses_account_is_told_of(
    client: AsyncClient, customer: Customer, new_customer: NewCustomer, work: WorkOff, page: str
) -> None:
    (task_id,) = await call(client, customer, b"GIF89a")
    await work()
    stranger = await new_customer()
    theirs = await client.get(page, headers=stranger.bearer)
    assert theirs.status_code == 200
    assert task_id not in theirs.text
    assert str(customer.account_id) not in theirs.text
    assert "cutout-lite" not in theirs.text


@pytest.mark.parametrize("page", PAGES)
async def test_a_key_without_the_scope_read_is_refused(
    client: AsyncClient, new_customer: NewCustomer, page: str
) -> None:
    customer = await new_customer(scopes=["cutout"])
    refused = await client.get(page, headers=customer.bearer)
    assert (refused.status_code, refused.json()["code"]) == (403, "key_not_allowed")
    nobody = await client.get(page)
    assert (nobody.status_code, nobody.json()["code"]) == (401, "missing_key")


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize(
    "params",
    [
        {"from": "yesterday"},
        {"to": "2026-13-01"},
        {"from": "2026-02-01", "to": "2026-01-01"},
        {"from": "2026-01-01", "to": "2026-01-01"},
        {"from": "2020-01-01", "to": "2026-01-01"},
        {"to": "0001-01-01"},
    ],
)
async def test_a_span_that_makes_no_sense_is_refused(
    client: AsyncClient, customer: Customer, page: str, params: dict[str, Any]
) -> None:
    refused = await client.get(page, headers=customer.bearer, params=params)
    assert (refused.status_code, refused.json()["code"]) == (400, "invalid_request")


async def test_a_statement_too_long_to_be_read_asks_for_a_shorter_span(
    client: AsyncClient,
    customer: Customer,
    astronaut: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reports, "LINES_MAX", 1)
    page = "/v1/statement.csv"
    assert (await client.get(page, headers=customer.bearer)).status_code == 200
    await call(client, customer, astronaut)
    refused = await client.get(page, headers=customer.bearer)
    assert refused.status_code == 400
    assert refused.json()["detail"].endswith("more than 1 lines: ask for a shorter span")


@given(st.text(max_size=30) | st.none(), st.text(max_size=30) | st.none())
def test_a_span_is_refused_or_makes_sense(since: str | None, until: str | None) -> None:
    try:
        span = span_of(since, until)
    except InvalidRequestError:
        return
    assert timedelta(0) < span.until - span.since <= SPAN_MAX


@given(st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001
def test_a_time_is_read_as_it_was_written(moment: datetime) -> None:
    later = moment + timedelta(days=1)
    assert span_of(moment.isoformat(), later.isoformat()) == (moment, later)
    assert span_of(moment.isoformat()[:26].replace("+00:00", ""), later.isoformat()).until == later


@pytest.mark.parametrize("path", ["/v1/usage", "/v1/statement.csv"])
async def test_a_misspelt_parameter_is_refused(
    client: AsyncClient, customer: Customer, path: str
) -> None:
    answer = await client.get(path, headers=customer.bearer, params={"form": "2026-01-01"})
    assert answer.status_code == 400
    assert answer.json()["code"] == "invalid_request"
    assert answer.json()["detail"].endswith("unknown parameter form: there are from and to")
