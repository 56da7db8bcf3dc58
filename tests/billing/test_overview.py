"""What is told of all accounts at once is what their books say, each reckoned anew by itself."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from billing import credits as books
from billing import ledger, overview
from billing.accounts import close_account
from billing.extensions import extend_grant
from billing.periods import advance
from billing.tables import CreditGrant
from tests.billing.conftest import Opens, captured, held

DAY = timedelta(days=1)
# A year that no other test's time gets to: what is told here is told of all accounts.
JANUARY_31 = datetime(2045, 1, 31, 12, 0, tzinfo=UTC)
SINCE, UNTIL = JANUARY_31 - DAY, JANUARY_31 + 60 * DAY


@pytest.fixture
def open_account(open_account: Opens) -> Opens:
    """Open an account in that year."""

    async def work(**options: Any) -> UUID:
        return await open_account(**({"at": JANUARY_31} | options))

    return work


async def summed(db: AsyncSession) -> overview.CreditDay:
    """Add the days of this test up; nothing else has happened in 2045."""
    days = await overview.credits_by_day(db, since=SINCE, until=UNTIL)
    fields = ("granted", "consumed", "expired", "rolled", "refunded", "taken_back")
    return overview.CreditDay(
        days[0].day, **{name: sum(getattr(day, name) for day in days) for name in fields}
    )


async def test_each_kind_of_movement_is_counted_on_its_day(
    db: AsyncSession, open_account: Opens
) -> None:
    account_id = await open_account(plan="starter")
    job_id = await captured(db, account_id, at=JANUARY_31 + DAY)
    await books.refund(db, job_id, actor="t", reason="r", at=JANUARY_31 + 2 * DAY)
    await books.grant_credits(
        db,
        account_id,
        amount=100,
        source="promo",
        ref="p",
        actor="t",
        reason="r",
        at=JANUARY_31 + 2 * DAY,
        expires_at=JANUARY_31 + 5 * DAY,
    )
    await advance(db, account_id, at=JANUARY_31 + 6 * DAY)
    await books.adjust(
        db, account_id, amount=-30, ref="a", actor="t", reason="r", at=JANUARY_31 + 7 * DAY
    )

    days = {
        day.day.isoformat(): day
        for day in await overview.credits_by_day(db, since=SINCE, until=UNTIL)
    }
    assert days["2045-01-31"].granted == 5_000
    assert days["2045-02-01"].consumed == 25
    assert (days["2045-02-02"].refunded, days["2045-02-02"].granted) == (25, 100)
    assert days["2045-02-05"].expired == 100
    assert days["2045-02-07"].taken_back == 30


async def test_a_period_s_end_rolls_and_lets_lapse(db: AsyncSession, open_account: Opens) -> None:
    account_id = await open_account()
    await captured(db, account_id, at=JANUARY_31 + DAY)
    await advance(db, account_id, at=JANUARY_31 + 35 * DAY)

    total = await summed(db)
    assert (total.granted, total.rolled, total.consumed) == (500, 225, 25)


async def test_the_days_add_up_to_the_balances(db: AsyncSession, open_account: Opens) -> None:
    account_id = await open_account(plan="starter")
    for n in range(3):
        await captured(db, account_id, at=JANUARY_31 + n * DAY)
    await held(db, account_id, at=JANUARY_31 + 4 * DAY)
    grant_id = await books.grant_credits(
        db,
        account_id,
        amount=70,
        source="topup",
        ref="t",
        actor="t",
        reason="r",
        at=JANUARY_31 + 5 * DAY,
        expires_at=JANUARY_31 + 20 * DAY,
    )
    later = JANUARY_31 + 40 * DAY
    at = JANUARY_31 + 6 * DAY
    await extend_grant(db, grant_id, expires_at=later, actor="t", reason="r", at=at)
    await advance(db, account_id, at=JANUARY_31 + 59 * DAY)

    total = await summed(db)
    balance = await ledger.balance_of(db, account_id, at=JANUARY_31 + 59 * DAY)
    given = total.granted + total.refunded
    gone = total.consumed + total.expired + total.taken_back
    assert given - gone == balance.available + balance.held


async def test_what_a_void_takes_back_is_no_expiry(db: AsyncSession, open_account: Opens) -> None:
    account_id = await open_account()
    await close_account(db, account_id, actor="t", reason="r", at=JANUARY_31 + DAY)

    total = await summed(db)
    assert (total.taken_back, total.expired) == (250, 0)


async def test_revenue_counts_live_subscriptions_only(
    db: AsyncSession, open_account: Opens
) -> None:
    before = {line.plan: line for line in await overview.revenue_by_plan(db)}
    await open_account(plan="growth")
    closed = await open_account(plan="growth")
    await close_account(db, closed, actor="t", reason="r")

    after = {line.plan: line for line in await overview.revenue_by_plan(db)}
    grown = before.get("growth")
    assert after["growth"].accounts == (grown.accounts if grown else 0) + 1
    assert after["growth"].mrr_minor == (grown.mrr_minor if grown else 0) + 14_900


async def owed(db: AsyncSession) -> dict[tuple[str, bool], int]:
    lines = await overview.liability(db)
    sums: dict[tuple[str, bool], int] = {}
    for line in lines:
        kind = (line.source, line.is_paid)
        sums[kind] = sums.get(kind, 0) + line.credits
    return sums


async def test_what_is_owed_is_what_was_paid_for_and_not_used(
    db: AsyncSession, open_account: Opens
) -> None:
    before = await owed(db)
    paying, free = await open_account(plan="starter"), await open_account()
    await captured(db, paying, at=JANUARY_31 + DAY)
    await books.grant_credits(
        db, free, amount=80, source="topup", ref="t", actor="t", reason="r", at=JANUARY_31
    )
    # Carried over, they are still what they were.
    await advance(db, paying, at=JANUARY_31 + 35 * DAY)
    await advance(db, free, at=JANUARY_31 + 35 * DAY)

    after = await owed(db)
    grown = {kind: after[kind] - before.get(kind, 0) for kind in after}
    assert grown["plan", True] == 5_000
    assert grown["rollover", True] == 4_975
    assert grown["topup", True] == 80
    assert grown["plan", False] == 250
    assert grown["rollover", False] == 250


async def test_all_sums_are_the_sums_of_all_accounts(db: AsyncSession, open_account: Opens) -> None:
    account_id = await open_account()
    await captured(db, account_id, at=JANUARY_31 + DAY)
    await held(db, account_id, at=JANUARY_31 + DAY)

    sums = await overview.credit_sums(db)
    assert sums.issued == sums.available + sums.held + sums.consumed + sums.expired
    entries = text("SELECT -sum(amount) FROM ledger_entry WHERE bucket = 'issued'")
    assert sums.issued == await db.scalar(entries)


async def test_who_used_most_comes_first(db: AsyncSession, open_account: Opens) -> None:
    little, much = await open_account(name="little"), await open_account(name="much")
    for _ in range(2):
        await captured(db, much, at=JANUARY_31 + DAY)
    await captured(db, little, at=JANUARY_31 + DAY)

    top = await overview.top_accounts(db, since=SINCE, until=UNTIL)
    assert [(line.name, line.calls, line.credits) for line in top] == [
        ("much", 2, 50),
        ("little", 1, 25),
    ]


@pytest.mark.parametrize(("used", "is_low"), [(200, False), (225, True)])
async def test_low_is_under_a_fifth_of_the_period(
    db: AsyncSession, open_account: Opens, used: int, *, is_low: bool
) -> None:
    now = datetime.now(UTC) - timedelta(minutes=1)
    account_id = await open_account(at=now, name=str(uuid4()))
    await captured(db, account_id, used, at=now)

    found, count = await overview.low_accounts(db, rows_max=10_000)
    assert (account_id in {line.account_id for line in found}) is is_low
    assert count == len(found)


async def test_an_extended_grant_is_not_given_twice(db: AsyncSession, open_account: Opens) -> None:
    account_id = await open_account()
    (grant,) = await db.scalars(select(CreditGrant).where(CreditGrant.account_id == account_id))
    later = JANUARY_31 + 300 * DAY
    await extend_grant(db, grant.id, expires_at=later, actor="t", reason="r", at=JANUARY_31 + DAY)

    assert (await summed(db)).granted == 250
