"""Where a time lies in an account's sequence: the same as by looking at each operation."""

from datetime import timedelta

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from billing.sequence import LAST_BEFORE, last_before
from billing.tables import LedgerTxn
from tests.billing.conftest import JANUARY_31, Opens, captured

INSTANT = timedelta(microseconds=1)


async def test_a_time_is_found_as_by_looking_at_each_operation(
    db: AsyncSession, open_account: Opens
) -> None:
    account_id, other_id = await open_account(), await open_account()
    for hours in (0, 0, 1, 1, 1, 5, 26, 26, 900):  # several at one time, and periods between
        await captured(db, account_id, at=JANUARY_31 + timedelta(hours=hours))
        await captured(db, other_id, at=JANUARY_31 + timedelta(hours=2 * hours))
    mine = select(LedgerTxn.effective_at).where(LedgerTxn.account_id == account_id)
    times = (await db.scalars(mine.order_by(LedgerTxn.account_seq))).all()

    assert len(times) >= 20
    for moment in {at + offset for at in times for offset in (-INSTANT, INSTANT * 0, INSTANT)}:
        looked = sum(at < moment for at in times)
        assert await last_before(db, account_id, moment) == looked


async def test_an_account_without_operations_has_none_before_any_time(
    db: AsyncSession, open_account: Opens
) -> None:
    account_id = await open_account(plan="enterprise", at=JANUARY_31)
    assert await last_before(db, account_id, JANUARY_31 - INSTANT) == 0


async def test_no_row_is_looked_at_that_is_not_found_by_an_index(
    db: AsyncSession, open_account: Opens
) -> None:
    account_id = await open_account()
    await db.execute(text("SET LOCAL enable_seqscan = off"))
    arguments = {"account_id": account_id, "moment": JANUARY_31}
    plan = "\n".join(await db.scalars(text(f"EXPLAIN {LAST_BEFORE.text}"), arguments))
    assert "Seq Scan" not in plan
    assert "uq_ledger_txn_account_id_account_seq" in plan
