"""The commands of whoever runs the place: plans, standing, corrections, keys, the books."""

import asyncio
import csv
import io
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from types import ModuleType
from typing import TypeVar
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from typer.testing import CliRunner, Result

from billing.audit import ChainReport
from billing.db import make_engine, make_sessions, transact
from billing.invariant_queries import QUERIES
from billing.invariants import TITLES
from billing.ledger import capture, place_hold
from billing.staff_tables import AuditEvent
from billing.tables import ApiKey
from gateway.cli import account, audit, billing, key

T = TypeVar("T")
runner = CliRunner()
WHY = ["--reason", "asked for"]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, database_url: str) -> None:
    monkeypatch.setenv("CUTOUT_DATABASE_URL", database_url)
    monkeypatch.setenv("CUTOUT_KEY_PEPPERS", '{"1": "pepper-of-the-tests-and-nobody-else"}')
    monkeypatch.setenv("CUTOUT_LINK_SECRET", "link-secret-of-the-tests-and-nobody-else")
    monkeypatch.setenv("COLUMNS", "160")


def call(module: ModuleType, *arguments: str, said: str | None = None) -> Result:
    return runner.invoke(module.app, list(arguments), input=said)


def done(module: ModuleType, *arguments: str, said: str | None = None) -> str:
    result = call(module, *arguments, said=said)
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(module: ModuleType, *arguments: str) -> str:
    result = call(module, *arguments)
    assert result.exit_code == 1, result.output
    assert "Traceback" not in result.output
    return result.output


@pytest.fixture
def account_id() -> str:
    return done(account, "create", "Acme[eu]", "--plan", "starter").strip()


def available(account_id: str) -> int:
    lines = done(account, "list").splitlines()
    return int(next(li for li in lines if account_id in li).split()[3].replace(",", ""))


def in_database(url: str, work: Callable[[AsyncSession], Awaitable[T]]) -> T:
    async def in_transaction() -> T:
        engine = make_engine(url)
        try:
            return await transact(make_sessions(engine), work)
        finally:
            await engine.dispose()

    return asyncio.run(in_transaction())


def charged_job(url: str, account_id: str) -> UUID:
    job_id = uuid4()

    async def work(db: AsyncSession) -> None:
        await place_hold(
            db, account_id=UUID(account_id), job_id=job_id, amount=25, concurrency_max=None
        )
        await capture(db, job_id)

    in_database(url, work)
    return job_id


def last_event_of(url: str, account_id: str) -> AuditEvent:
    async def work(db: AsyncSession) -> AuditEvent:
        found = select(AuditEvent).where(AuditEvent.account_id == UUID(account_id))
        return (await db.scalars(found.order_by(AuditEvent.seq.desc()).limit(1))).one()

    return in_database(url, work)


def test_an_upgrade_is_told_then_made(account_id: str) -> None:
    told = done(account, "plan", account_id, "growth", "--preview")
    assert "starter → growth at once" in told
    assert available(account_id) == 5_000

    assert "starter → growth at once" in done(account, "plan", account_id, "growth", *WHY)
    assert 45_000 < available(account_id) <= 50_000
    assert "on growth already" in refused(account, "plan", account_id, "growth", *WHY)


def test_a_plan_that_there_is_not_is_answered_with_those_that_there_are(account_id: str) -> None:
    for words in (["create", "Acme", "--plan", "gold"], ["plan", account_id, "gold", *WHY]):
        told = refused(account, *words)
        assert "there is no plan 'gold': there are " in told
        for plan in ("free", "starter", "growth", "scale", "enterprise"):
            assert plan in told


@pytest.mark.parametrize("name", ["", " \t"])
def test_an_account_without_a_name_is_refused(name: str) -> None:
    assert "an account needs a name" in refused(account, "create", name)


def test_an_account_s_name_has_a_bound() -> None:
    assert "at most 80 characters" in refused(account, "create", "x" * 81)
    done(account, "create", "x" * 80)


def test_a_downgrade_waits_and_can_be_called_off(account_id: str) -> None:
    assert "when the period ends" in done(account, "plan", account_id, "free", said="cheaper\n")
    done(account, "keep", account_id)
    assert "no change of plan is waiting" in refused(account, "keep", account_id)


def test_an_account_is_suspended_resumed_and_closed_for_ever(account_id: str) -> None:
    done(account, "suspend", account_id, *WHY)
    assert "suspended" in done(account, "list")
    done(account, "resume", account_id, *WHY)
    assert call(account, "close", account_id, *WHY, said="n\n").exit_code == 1
    assert available(account_id) == 5_000

    done(account, "close", account_id, *WHY, "--yes")

    assert available(account_id) == 0
    assert "closed" in refused(account, "resume", account_id, *WHY)


def test_a_reason_is_asked_for_and_cannot_be_blank(account_id: str) -> None:
    assert call(account, "suspend", account_id, said="").exit_code == 1
    assert call(account, "suspend", account_id, "--reason", " ").exit_code == 2
    assert "Suspended" in done(account, "suspend", account_id, said="unpaid\n")


def test_credits_are_put_right_up_and_down_each_reference_once(account_id: str) -> None:
    up = ["adjust", account_id, "--credits=30", *WHY, "--ref", "ticket-7"]
    assert "+30 credits; 5,030 available" in done(account, *up)
    refused(account, *up)
    assert "4,930 available" in done(account, "adjust", account_id, "--credits=-100", *WHY)
    refused(account, "adjust", account_id, "--credits=-5000", *WHY)
    done(account, "limit", account_id, "100", *WHY)
    assert "-70 available" in done(account, "adjust", account_id, "--credits=-5000", *WHY)


def test_a_grant_is_listed_and_taken_back(account_id: str) -> None:
    done(account, "grant", account_id, "100")
    lines = done(account, "grants", account_id).splitlines()[1:]
    assert [line.split()[1:3] for line in lines] == [["plan", "5,000"], ["topup", "100"]]
    topup = lines[1].split()[0]

    assert "5,000 available" in done(account, "void", topup, *WHY)
    assert "voided" in refused(account, "void", topup, *WHY)


def test_a_charge_is_refunded_once_and_counted_as_used(account_id: str, database_url: str) -> None:
    job_id = str(charged_job(database_url, account_id))

    assert "5,000 available" in done(account, "refund", job_id, *WHY)
    refused(account, "refund", job_id, *WHY)
    refused(account, "refund", str(uuid4()), *WHY)

    (line,) = done(account, "usage", account_id).splitlines()[1:]
    assert line.split()[-3:] == ["1", "0", "25"]
    refused(account, "usage", str(uuid4()))


def test_who_did_what_and_why_is_in_the_audit_trail(account_id: str, database_url: str) -> None:
    done(account, "suspend", account_id, "--reason", "unpaid since May")
    event = last_event_of(database_url, account_id)
    assert (event.action, event.reason) == ("account.suspended", "unpaid since May")
    assert event.actor.startswith("cli:")
    assert re.search(r"\d events, the chain is whole", done(audit, "verify"))


def test_a_broken_audit_trail_ends_the_command_with_1(monkeypatch: pytest.MonkeyPatch) -> None:
    # That a rewritten event is found is shown in tests/billing/test_invariants.py, where the
    # owner of the tables may break what is undone afterwards.
    async def broken(_: object) -> ChainReport:
        return ChainReport(6, 7, "it is not what was written")

    monkeypatch.setattr(audit, "verify_chain", broken)
    assert "broken at event 7: it is not what was written" in refused(audit, "verify")


def test_a_key_is_bounded_as_asked(account_id: str, database_url: str) -> None:
    tomorrow = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)
    bounds = [
        *("--scope", "read", "--ip", "192.0.2.0/24", "--ip", "2001:db8::1"),
        *("--expires", f"{tomorrow:%Y-%m-%dT%H:%M:%S}", "--budget", "500"),
        *("--rate-per-minute", "30", "--burst", "5", "--at-once", "2", "--queue", "priority"),
    ]

    created = done(key, "create", account_id, "--env", "enterprise", *bounds)

    async def read(db: AsyncSession) -> ApiKey:
        return (await db.scalars(select(ApiKey).where(ApiKey.key_id == created[7:15]))).one()

    made = in_database(database_url, read)
    assert made.scopes == ["read"]
    assert made.ip_allow == ["192.0.2.0/24", "2001:db8::1/128"]
    assert made.expires_at == tomorrow
    limits = (made.rate_per_minute, made.burst, made.concurrency_max, made.queue_class)
    assert (*limits, made.budget_credits) == (30, 5, 2, "priority", 500)
    event = last_event_of(database_url, account_id)
    assert event.after is not None
    assert event.after["budget_credits"] == 500
    assert event.after["expires_at"] == tomorrow.isoformat()


@pytest.mark.parametrize(
    ("option", "said", "way"),
    [
        ("--scope", "everything", "none of admin, cutout, read"),
        ("--ip", "banana", "no network: write 203.0.113.0/24"),
    ],
)
def test_a_senseless_bound_of_a_key_is_named_with_what_it_may_be(
    account_id: str, option: str, said: str, way: str
) -> None:
    result = call(key, "create", account_id, option, said)
    assert result.exit_code == 2
    words = " ".join(result.output.replace("│", " ").split())
    assert f"'{option}'" in words
    assert f"'{said}' is" in words
    assert way in words


def test_a_key_for_nobody_or_for_the_past_is_refused(account_id: str) -> None:
    refused(key, "create", str(uuid4()))
    assert call(key, "create", account_id, "--expires", "2020-01-01").exit_code == 2


def test_good_books_pass_the_check(account_id: str) -> None:
    del account_id
    lines = done(billing, "check").splitlines()
    assert [line.split()[:2] for line in lines[1:-1]] == [[rule, "0"] for rule in QUERIES]
    assert "no breach" in lines[-1]


def test_a_breach_ends_the_check_with_1_and_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    # The books themselves cannot be broken by the application: a rule that calls good books bad.
    monkeypatch.setitem(QUERIES, "I3", ("SELECT n AS txn_id FROM generate_series(1, 7) n",))
    shown = refused(billing, "check")
    assert re.search(rf"I3 +7 +\d+ +{TITLES['I3']}", shown)
    assert "I3, for example:" in shown
    assert shown.count("txn_id=") == 5


def test_a_month_of_every_account_foots(account_id: str) -> None:
    pack = done(billing, "month", f"{datetime.now(UTC):%Y-%m}")
    rows = list(csv.DictReader(io.StringIO(pack)))
    assert {row["foots"] for row in rows} == {"0"}
    assert next(row for row in rows if row["account_id"] == account_id)["plan"] == "5000"
    assert rows[-1]["name"] == "total"
    assert call(billing, "month", "2026-13").exit_code == 2
