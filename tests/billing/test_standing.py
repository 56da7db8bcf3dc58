"""How one account stands, and its statement a page at a time."""

from datetime import timedelta

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.ext.asyncio import AsyncSession

from billing import ledger
from billing.accounts import create_account
from billing.db import SessionFactory
from billing.periods import advance
from billing.standing import Renewal, standing_of
from billing.statement_pages import balance_before, newest_lines, totals
from billing.statements import statement
from billing.tables import BillingPeriod
from tests.billing.conftest import JANUARY_31, Opens, captured, held
from tests.billing.test_statements import eventful_month

AT = JANUARY_31
DAY = timedelta(days=1)
AGES = AT + 3_650 * DAY


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    plan=st.sampled_from(["free", "starter"]),
    spent=st.lists(st.integers(1, 250), max_size=3),
    topup=st.integers(0, 40),
    months=st.integers(0, 5),
)
async def test_a_periods_end_brings_what_was_told(
    sessions: SessionFactory, plan: str, spent: list[int], topup: int, months: int
) -> None:
    async with sessions() as db:
        told, happened, ending = await _play(db, plan, spent, topup, months)
        await db.rollback()
    assert told == happened
    assert ending >= told.lapsed


async def _play(
    db: AsyncSession, plan: str, spent: list[int], topup: int, months: int
) -> tuple[Renewal, Renewal, int]:
    """Spend in one period of some; tell what its end was to bring, and what it has brought."""
    account = await create_account(db, name="Ada", plan=plan, actor="test", at=AT)
    now = await advance(db, account.id, at=AT + 31 * months * DAY + DAY)
    if topup:
        await ledger.grant_credits(
            db, account.id, amount=topup, source="topup", ref="t", actor="test", reason="", at=now
        )
    for amount in spent:
        if (await ledger.balance_of(db, account.id, at=now)).available >= amount:
            await captured(db, account.id, amount, at=now)
    standing = await standing_of(db, account.id)
    before = standing.balance
    await advance(db, account.id, at=standing.renewal.at)
    after = await ledger.balance_of(db, account.id, at=standing.renewal.at)
    period = await db.get_one(BillingPeriod, (account.id, standing.renewal.at))
    lapsed = after.expired - before.expired
    happened = Renewal(
        at=period.period_start,
        plan=plan,
        new_credits=after.available - before.available + lapsed,
        rolled=period.rolled_in,
        lapsed=lapsed,
    )
    # Years ago: all of it is within a week of now.
    return standing.renewal, happened, standing.ending.credits if standing.ending else 0


async def test_who_has_used_most_of_a_period_is_told_so(
    db: AsyncSession, open_account: Opens
) -> None:
    account_id = await open_account()
    assert not (await standing_of(db, account_id)).is_low
    await captured(db, account_id, 200, at=AT + DAY)
    assert not (await standing_of(db, account_id)).is_low, "50 of 250 are 20 %, not less"
    await held(db, account_id, 1, at=AT + DAY)
    standing = await standing_of(db, account_id)
    assert standing.is_low
    assert (standing.used, standing.whole) == (200, 250)


async def test_pages_tell_what_the_whole_statement_tells(
    db: AsyncSession, open_account: Opens
) -> None:
    account_id = await open_account()
    await eventful_month(db, account_id)
    whole = await statement(db, account_id, now=AT + 60 * DAY)
    for since, until in ((AT, AGES), (AT + timedelta(hours=2), AT + 14 * DAY)):
        expected = [line for line in whole if since <= line.at < until][::-1]
        read, before_seq = [], None
        while page := await newest_lines(
            db,
            account_id,
            since=since,
            until=until,
            before_seq=before_seq,
            has_unmoved=True,
            lines_max=3,
        ):
            read += page
            before_seq = page[-1].seq
        assert read == expected
        moved = await newest_lines(db, account_id, since=since, until=until, lines_max=100)
        assert moved == [line for line in expected if line.amount]


async def test_totals_lead_from_one_balance_to_the_other(
    db: AsyncSession, open_account: Opens
) -> None:
    account_id = await open_account()
    await eventful_month(db, account_id)
    whole = await statement(db, account_id, now=AT + 60 * DAY)
    for since, until in ((AT, AGES), (AT + timedelta(hours=2), AT + 14 * DAY)):
        sums = await totals(db, account_id, since=since, until=until)
        opening = await balance_before(db, account_id, since)
        last = next(line for line in reversed(whole) if line.at < until)
        assert opening + sums.change == last.balance
    sums = await totals(db, account_id, since=AT, until=AT + 14 * DAY)
    assert (sums.given, sums.spent, sums.expired, sums.corrected) == (1305, 25, 0, -33)
