"""`cutout webhook`: the operator's commands, on a real database."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TypeVar
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select
from typer.testing import CliRunner, Result

from billing.db import SessionFactory, make_engine, make_sessions
from billing.staff_tables import AuditEvent
from gateway.cli import account, webhook
from gateway.tables import WebhookDelivery

T = TypeVar("T")
runner = CliRunner()
NOWHERE = "https://example.com/hook"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, database_url: str) -> None:
    monkeypatch.setenv("CUTOUT_DATABASE_URL", database_url)
    monkeypatch.setenv("CUTOUT_KEY_PEPPERS", '{"1": "pepper-of-the-tests-and-nobody-else"}')
    monkeypatch.setenv("CUTOUT_LINK_SECRET", "link-secret-of-the-tests-and-nobody-else")
    monkeypatch.setenv("COLUMNS", "200")


def done(*words: str) -> str:
    result: Result = runner.invoke(webhook.app, list(words))
    assert result.exit_code == 0, result.output
    return result.stdout.strip()


@pytest.fixture
def account_id() -> str:
    return runner.invoke(account.app, ["create", "Acme"]).stdout.strip()


def test_a_secret_stays_until_it_is_rotated_and_each_look_is_on_record(
    account_id: str, database_url: str
) -> None:
    first = done("secret", account_id)
    assert first.startswith("whsec_")
    assert done("secret", account_id) == first
    second = done("rotate", account_id)
    assert second == done("secret", account_id) != first

    async def actions(sessions: SessionFactory) -> list[str]:
        async with sessions() as db:
            mine = select(AuditEvent.action).where(AuditEvent.account_id == UUID(account_id))
            return list(await db.scalars(mine.order_by(AuditEvent.seq)))

    show, rotate = "webhook.show_secret", "webhook.rotate_secret"
    assert with_sessions(database_url, actions)[1:] == [show, show, rotate, show]

    too_soon = runner.invoke(webhook.app, ["rotate", account_id])
    assert too_soon.exit_code == 1
    assert "still signs" in too_soon.output
    assert done("secret", account_id) == second
    assert done("rotate", account_id, "--force") != second


def test_alerts_go_to_a_public_url_or_nowhere(account_id: str) -> None:
    assert done("alerts", account_id, NOWHERE) == "Alerts will be sent there."
    assert done("alerts", account_id) == "No alerts will be sent."
    refused = runner.invoke(webhook.app, ["alerts", account_id, "http://10.0.0.1/"])
    assert refused.exit_code == 1


def test_nobodys_account_has_no_secret_and_no_deliveries() -> None:
    for command in ("secret", "list"):
        refused = runner.invoke(webhook.app, [command, missing := str(uuid4())])
        assert refused.exit_code == 1
        assert f"no account {missing}" in refused.output


def test_what_was_given_up_is_listed_and_replayed(account_id: str, database_url: str) -> None:
    delivery_id = str(uuid4())

    async def write(sessions: SessionFactory) -> None:
        async with sessions.begin() as db:
            db.add(
                WebhookDelivery(
                    id=UUID(delivery_id),
                    account_id=UUID(account_id),
                    kind="credits.threshold_crossed",
                    url=NOWHERE,
                    facts={},
                    state="failed",
                    finished_at=datetime.now(UTC),
                )
            )

    with_sessions(database_url, write)
    assert delivery_id in done("list", account_id, "--state", "failed")
    done("replay", delivery_id)
    assert "pending" in done("list", account_id)
    assert runner.invoke(webhook.app, ["replay", delivery_id]).exit_code == 1
    assert len(done("attempts", delivery_id).splitlines()) == 1


def with_sessions(url: str, work: Callable[[SessionFactory], Awaitable[T]]) -> T:
    async def run() -> T:
        engine = make_engine(url)
        try:
            return await work(make_sessions(engine))
        finally:
            await engine.dispose()

    return asyncio.run(run())
