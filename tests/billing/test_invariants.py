"""Each rule is seen to bite: the books are broken behind its back, and it says so."""

from datetime import timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, async_sessionmaker

from billing import accounts, audit, invariants, keys, ledger
from billing.staff_tables import InvariantRun
from tests.billing.conftest import captured, held

HALT = "ALTER TABLE {} DISABLE TRIGGER USER"
TABLES = ("ledger_txn", "ledger_entry", "hold", "credit_grant", "audit_event")

PARTS = {
    "its": "account_id = :account_id",
    "last_hold": (
        "(SELECT max(id) FROM ledger_txn WHERE op = 'hold' AND account_id = :account_id)"
    ),
    "last_capture": (
        "(SELECT max(id) FROM ledger_txn WHERE op = 'capture' AND account_id = :account_id)"
    ),
}

# rule: what an intruder with all rights does to break it
BREAKS = {
    "I1": "UPDATE ledger_entry SET amount = amount + 1 WHERE line = 1 AND txn_id = {last_capture}",
    "I3": "UPDATE credit_account SET consumed = consumed + 1 WHERE {its}",
    "I4": "UPDATE hold_slice SET amount = 1 WHERE job_id IN"
    " (SELECT job_id FROM hold WHERE state = 'held' AND {its})",
    "I5": "UPDATE ledger_txn SET reason = 'rewritten' WHERE id = {last_capture}",
    "I7": "UPDATE hold SET state = 'released' WHERE state = 'captured' AND {its}",
    "I10": "UPDATE credit_grant SET priority = 0 WHERE source = 'plan' AND {its}",
    "I11": "UPDATE billing_period SET closed_at = period_end WHERE {its}",
    "I12": "UPDATE credit_grant SET parent_id = id WHERE {its}",
    "I17": "UPDATE ledger_entry SET balance_after = 1 WHERE txn_id = {last_hold}",
}


@pytest.fixture
async def broken_ground(owner_engine: AsyncEngine) -> AsyncConnection:  # type: ignore[misc]
    """A connection of the owner, with the guards off; what it does is undone."""
    async with owner_engine.connect() as connection:
        outer = await connection.begin()
        yield connection
        await outer.rollback()


def session_on(connection: AsyncConnection) -> AsyncSession:
    return async_sessionmaker(
        connection, expire_on_commit=False, join_transaction_mode="create_savepoint"
    )()


@pytest.mark.parametrize("name", sorted(BREAKS))
async def test_a_broken_book_is_found(broken_ground: AsyncConnection, name: str) -> None:
    async with session_on(broken_ground) as db:
        account = await accounts.create_account(db, name="B", plan="free", actor="test")
        await ledger.grant_credits(
            db, account.id, amount=25, source="promo", ref="p", actor="test", reason="x"
        )
        await captured(db, account.id)
        await held(db, account.id)
        await db.flush()
        assert await invariants.check_account(db, account.id) == []
        await db.execute(text("SET CONSTRAINTS ALL IMMEDIATE"))
        for table in TABLES:
            await db.execute(text(HALT.format(table)))
        await db.execute(text(BREAKS[name].format(**PARTS)), {"account_id": account.id})
        found = {finding.name for finding in await invariants.check_account(db, account.id)}
        assert name in found
        lately = await invariants.check_all(db, account_id=account.id, window=timedelta(minutes=5))
        assert name in {finding.name for finding in lately if not finding.is_ok}


@pytest.mark.parametrize("window", [None, timedelta(minutes=5)])
async def test_a_grant_that_was_passed_over_is_found_although_nothing_is_left_of_it(
    broken_ground: AsyncConnection, window: timedelta | None
) -> None:
    async with session_on(broken_ground) as db:
        account = await accounts.create_account(db, name="B", plan="free", actor="test")
        await ledger.grant_credits(
            db, account.id, amount=50, source="promo", ref="p", actor="test", reason="x"
        )
        jobs = [await captured(db, account.id) for _ in range(12)]
        assert (await ledger.balance_of(db, account.id)).available == 0
        # The books are made to say that it was the other's turn, once for each of the two.
        await db.execute(text("SET CONSTRAINTS ALL IMMEDIATE"))
        await db.execute(text(HALT.format("credit_grant")))
        await db.execute(
            text(
                "UPDATE credit_grant SET priority = CASE source WHEN 'plan' THEN 90 ELSE 10 END"
                " WHERE account_id = :account_id"
            ),
            {"account_id": account.id},
        )
        first = await invariants.check_all(db, account_id=account.id, window=window)
        await db.execute(
            text(
                "UPDATE credit_grant SET priority = 100 - priority WHERE account_id = :account_id"
            ),
            {"account_id": account.id},
        )
        other = await invariants.check_all(db, account_id=account.id, window=window)
    counts = sorted(next(f.count for f in found if f.name == "I10") for found in (first, other))
    assert counts in ([0, 2], [0, 10])  # whichever paid first, the other's turn came after it
    assert len(jobs) == 12


async def test_a_rewritten_audit_event_is_found(broken_ground: AsyncConnection) -> None:
    async with session_on(broken_ground) as db:
        await accounts.create_account(db, name="B", plan="free", actor="test")
        await accounts.create_account(db, name="C", plan="free", actor="test")
        assert (await audit.verify(db)).is_whole
        await db.execute(text(HALT.format("audit_event")))
        await db.execute(
            text("UPDATE audit_event SET actor = 'nobody' WHERE seq ="
                 " (SELECT max(seq) - 1 FROM audit_event)")
        )  # fmt: skip
        db.expire_all()
        report = await audit.verify(db)
        assert not report.is_whole
        assert report.why == "it is not what was written"
        await db.execute(
            text("DELETE FROM audit_event WHERE seq = (SELECT max(seq) FROM audit_event)")
        )
        assert not (await audit.verify(db)).is_whole


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE audit_event SET actor = 'x' WHERE seq = (SELECT max(seq) - 1 FROM audit_event)",
        "DELETE FROM audit_event WHERE seq = (SELECT max(seq) FROM audit_event)",
    ],
)
async def test_the_rules_see_a_rewritten_audit_trail(
    broken_ground: AsyncConnection, change: str
) -> None:
    async with session_on(broken_ground) as db:
        await accounts.create_account(db, name="B", plan="free", actor="test")
        await accounts.create_account(db, name="C", plan="free", actor="test")
        await db.execute(text(HALT.format("audit_event")))
        before = {f.name: f.count for f in await invariants.check_all(db)}
        await db.execute(text(change))
        after = {f.name: f.count for f in await invariants.check_all(db)}
        assert after["I5"] > before["I5"]
        lately = await invariants.check_all(db, window=timedelta(minutes=5))
        is_seen_lately = not next(finding for finding in lately if finding.name == "I5").is_ok
        assert is_seen_lately == change.startswith("DELETE")


async def test_a_result_thrown_away_before_its_time_is_found(
    broken_ground: AsyncConnection,
) -> None:
    async with session_on(broken_ground) as db:
        account = await accounts.create_account(db, name="B", plan="free", actor="test")
        key, _ = await keys.create_key(
            db, keys.KeyHasher({1: "p"}), account_id=account.id, env="live", actor="test"
        )
        job_id = await captured(db, account.id)
        await db.execute(
            text(
                "INSERT INTO job (id, account_id, api_key_id, request_id, dialect, env,"
                " queue_class, is_async, state, deadline_at, model_asked, options, source_bytes,"
                " price_credits, charged_credits, result_ttl, result_key, result_expires_at,"
                " finished_at) VALUES (:id, :account_id, :key_id, 'r', 'codia', 'live',"
                " 'standard', false, 'succeeded', now(), 'auto', '{}', 1, 25, 25, '1 day', 'k',"
                " now() + interval '1 day', now())"
            ),
            {"id": job_id, "account_id": account.id, "key_id": key.id},
        )
        assert await invariants.check_account(db, account.id) == []
        await db.execute(text("UPDATE job SET purged_at = now() WHERE id = :id"), {"id": job_id})
        found = await invariants.check_account(db, account.id)
        assert [finding.name for finding in found] == ["I14"]


async def test_a_run_is_kept_rule_by_rule(db: AsyncSession) -> None:
    await accounts.create_account(db, name="B", plan="free", actor="test")
    findings = await invariants.run_and_record(db, window=timedelta(minutes=5))
    assert {finding.name for finding in findings} == set(invariants.TITLES)
    kept = (await db.execute(text("SELECT DISTINCT name FROM invariant_run"))).scalars()
    assert set(kept) >= set(invariants.TITLES)
    assert InvariantRun.__tablename__ == "invariant_run"
