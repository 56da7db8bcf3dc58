"""What months, rollover, expiry and late releases do to credits."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from billing import anchors, ledger, periods, plans, statements, subscriptions
from billing.invariants import check_account
from billing.posting import Balance
from billing.tables import CreditGrant
from tests.billing.conftest import (
    JANUARY_31,
    Opens,
    captured,
    entries_of,
    held,
    open_grants_of,
)

AT = JANUARY_31
FEBRUARY_28 = datetime(2025, 2, 28, 12, 0, tzinfo=UTC)
MARCH_31 = datetime(2025, 3, 31, 12, 0, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
FIRST_ANCHOR = datetime(2000, 1, 1)  # noqa: DTZ001 - hypothesis adds the zone


@pytest.mark.parametrize(
    ("anchor", "renewals"),
    [
        ("2025-01-31", ["2025-02-28", "2025-03-31", "2025-04-30", "2025-05-31"]),
        ("2024-01-31", ["2024-02-29", "2024-03-31"]),
        ("2023-12-30", ["2024-01-30", "2024-02-29", "2024-03-30"]),
        ("2024-01-29", ["2024-02-29", "2024-03-29"]),
        ("2025-01-29", ["2025-02-28", "2025-03-29"]),
        ("2024-02-29", ["2024-03-29", "2024-04-29"]),
    ],
)
def test_a_period_ends_on_its_anchors_day_or_on_the_months_last(
    anchor: str, renewals: list[str]
) -> None:
    at = datetime.fromisoformat(anchor).replace(tzinfo=UTC)
    found = []
    for _ in renewals:
        at = anchors.boundary_after(datetime.fromisoformat(anchor).replace(tzinfo=UTC), at)
        found.append(at.date().isoformat())
    assert found == renewals


@given(st.datetimes(FIRST_ANCHOR, FIRST_ANCHOR + timedelta(days=40 * 365), timezones=st.just(UTC)))
def test_forty_years_of_periods_have_no_gap_and_no_drift(anchor: datetime) -> None:
    at = anchor
    for month in range(1, 40 * 12):
        after = anchors.boundary_after(anchor, at)
        assert timedelta(days=28) <= after - at <= timedelta(days=31)
        assert after.time() == anchor.time()
        assert after == anchors.boundary(anchor, month)
        assert anchors.months_since(anchor, after) == month
        at = after


async def test_unused_plan_credits_are_carried_into_the_next_period(
    db: AsyncSession, open_account: Opens
) -> None:
    account_id = await open_account()
    await captured(db, account_id, 100, at=AT)
    balance = await ledger.balance_of(db, account_id, at=FEBRUARY_28)
    assert balance == Balance(400, 0, 100, 0, 0)
    assert await open_grants_of(db, account_id) == [("rollover", 150), ("plan", 250)]


async def test_a_period_lasts_to_its_last_microsecond(
    db: AsyncSession, open_account: Opens
) -> None:
    account_id = await open_account()
    before = await ledger.balance_of(db, account_id, at=FEBRUARY_28 - MICROSECOND)
    after = await ledger.balance_of(db, account_id, at=FEBRUARY_28)
    assert (before.available, after.available) == (250, 500)


async def test_rollover_is_capped_and_the_oldest_is_trimmed_first(
    db: AsyncSession, open_account: Opens
) -> None:
    account_id = await open_account()
    # 250 carried, 250 new; the cap is 250, so of 500 the older 250 are breakage.
    balance = await ledger.balance_of(db, account_id, at=MARCH_31)
    assert balance == Balance(500, 0, 0, 250, 0)
    grants = list(
        await db.scalars(
            select(CreditGrant)
            .where(CreditGrant.account_id == account_id, CreditGrant.closed_at.is_(None))
            .order_by(CreditGrant.seq)
        )
    )
    assert [(grant.source, grant.generation) for grant in grants] == [("rollover", 1), ("plan", 0)]
    assert await check_account(db, account_id) == []


async def test_carried_credits_are_spent_before_new_ones_and_end_after_three_periods(
    db: AsyncSession, open_account: Opens
) -> None:
    account_id = await open_account()
    await captured(db, account_id, 240, at=AT)  # leaves 10, which roll three times
    for month in (1, 2, 3):
        at = anchors.boundary(AT, month)
        await captured(db, account_id, 250 if month < 3 else 0, at=at)
    grants = await open_grants_of(db, account_id)
    assert grants == [("rollover", 10), ("plan", 250)]
    end = anchors.boundary(AT, 4)
    assert (await ledger.balance_of(db, account_id, at=end)).expired == 10


async def test_it_does_not_matter_how_often_time_is_looked_at(
    db: AsyncSession, open_account: Opens
) -> None:
    often, seldom = await open_account(), await open_account()
    for account_id in (often, seldom):
        await captured(db, account_id, 30, at=AT)
        await ledger.grant_credits(
            db, account_id, amount=77, source="promo", ref="p", actor="test", reason="hello",
            expires_at=AT + timedelta(days=45), at=AT,
        )  # fmt: skip
    for days in range(0, 150, 7):
        await periods.advance(db, often, at=AT + timedelta(days=days))
    end = AT + timedelta(days=150)
    assert await ledger.balance_of(db, often, at=end) == await ledger.balance_of(db, seldom, at=end)
    kinds = [
        [(line.at, line.op, line.amount, line.balance) for line in await statements.statement(
            db, account_id, now=end)]
        for account_id in (often, seldom)
    ]  # fmt: skip
    assert kinds[0] == kinds[1]


async def test_topups_promotions_and_refunds_outlive_every_period(
    db: AsyncSession, open_account: Opens
) -> None:
    account_id = await open_account(plan="free")
    job_id = await captured(db, account_id, 25, at=AT)
    for source, amount in (("topup", 1000), ("promo", 70)):
        await ledger.grant_credits(
            db, account_id, amount=amount, source=source, ref="1", actor="test", reason="x", at=AT
        )
    await ledger.refund(db, job_id, actor="test", reason="bad edge", at=AT)
    await subscriptions.change_plan(db, account_id, "starter", actor="test", at=AT)
    grants = await open_grants_of(db, account_id)
    await ledger.balance_of(db, account_id, at=MARCH_31)
    kept = dict(await open_grants_of(db, account_id))
    assert dict(grants)["topup"] == kept["topup"] == 1000
    assert dict(grants)["promo"] == kept["promo"] == 70
    assert dict(grants)["refund"] == kept["refund"] == 25


async def test_expired_credits_cannot_be_spent_however_late_the_sweeper_is(
    db: AsyncSession, open_account: Opens
) -> None:
    account_id = await open_account(plan="free")
    ends = AT + timedelta(days=3)
    await ledger.grant_credits(
        db, account_id, amount=500, source="promo", ref="p", actor="test", reason="x",
        expires_at=ends, at=AT,
    )  # fmt: skip
    await held(db, account_id, 260, at=AT)
    last = await ledger.balance_of(db, account_id, at=ends - MICROSECOND)
    assert last.available == 490
    after = await ledger.balance_of(db, account_id, at=ends)
    assert (after.available, after.held, after.expired) == (250, 260, 240)
    [line] = [
        line
        for line in await statements.statement(db, account_id, now=ends + timedelta(days=9))
        if line.op == "expire"
    ]
    assert (line.at, line.amount) == (ends, -240)


async def test_a_hold_made_in_time_may_be_captured_after_its_credits_expired(
    db: AsyncSession, open_account: Opens
) -> None:
    account_id = await open_account()
    ends = AT + timedelta(days=3)
    await ledger.grant_credits(
        db, account_id, amount=25, source="promo", ref="p", actor="test", reason="x",
        expires_at=ends, at=AT,
    )  # fmt: skip
    job_id = await held(db, account_id, at=AT)
    balance = await ledger.capture(db, job_id, at=ends + timedelta(hours=1))
    assert balance == Balance(250, 0, 25, 0, 0)
    assert await check_account(db, account_id) == []


async def test_a_late_release_of_expired_credits_is_breakage(
    db: AsyncSession, open_account: Opens
) -> None:
    account_id = await open_account()
    ends = AT + timedelta(days=3)
    await ledger.grant_credits(
        db, account_id, amount=25, source="promo", ref="p", actor="test", reason="x",
        expires_at=ends, at=AT,
    )  # fmt: skip
    job_id = await held(db, account_id, at=AT)
    balance = await ledger.release(db, job_id, reason="failed", at=ends)
    assert balance == Balance(250, 0, 0, 25, 0)
    assert await entries_of(db, account_id, "release") == [("held", -25), ("expired", 25)]


async def test_a_late_release_follows_its_credits_into_the_next_period_up_to_the_cap(
    db: AsyncSession, open_account: Opens
) -> None:
    account_id = await open_account()
    first, second = [await held(db, account_id, 100, at=AT) for _ in range(2)]
    balance = await ledger.release(db, first, reason="late", at=FEBRUARY_28)
    assert balance == Balance(400, 100, 0, 0, 0)  # 50 carried at the close, 100 now, 250 new
    assert await open_grants_of(db, account_id) == [
        ("rollover", 50), ("plan", 250), ("rollover", 100),
    ]  # fmt: skip
    assert (await ledger.release(db, second, reason="late", at=FEBRUARY_28)).available == 500
    assert await check_account(db, account_id) == []


async def test_a_late_release_over_the_cap_is_breakage(
    db: AsyncSession, open_account: Opens
) -> None:
    account_id = await open_account()
    await ledger.balance_of(db, account_id, at=FEBRUARY_28)
    job_id = await held(db, account_id, 100, at=FEBRUARY_28)  # out of the 250 carried
    # At the close 150 + 250 are unused, 250 are carried: the cap is full when the 100 come back.
    balance = await ledger.release(db, job_id, reason="late", at=MARCH_31)
    assert balance == Balance(500, 0, 0, 250, 0)
    assert await check_account(db, account_id) == []


async def test_a_scheduled_grant_begins_in_its_time(db: AsyncSession, open_account: Opens) -> None:
    account_id = await open_account()
    begins = AT + timedelta(days=5)
    await ledger.grant_credits(
        db, account_id, amount=40, source="promo", ref="soon", actor="test", reason="x",
        effective_at=begins, at=AT,
    )  # fmt: skip
    assert (await ledger.balance_of(db, account_id, at=begins - MICROSECOND)).available == 250
    assert (await ledger.balance_of(db, account_id, at=begins)).available == 290


async def test_an_upgrade_adds_the_difference_for_what_is_left_of_the_period(
    db: AsyncSession, open_account: Opens
) -> None:
    account_id = await open_account(plan="free")
    early = AT + (FEBRUARY_28 - AT) / 4
    preview = await subscriptions.preview_change(db, account_id, "starter", at=early)
    assert (preview.is_immediate, preview.credits_now) == (True, (5000 - 250) * 3 // 4)
    done = await subscriptions.change_plan(db, account_id, "starter", actor="test", at=early)
    assert done == preview
    assert (await ledger.balance_of(db, account_id, at=early)).available == 250 + 3562
    later = await ledger.balance_of(db, account_id, at=FEBRUARY_28)
    assert later.available == 250 + 3562 + 5000


async def test_a_downgrade_waits_for_the_periods_end(db: AsyncSession, open_account: Opens) -> None:
    account_id = await open_account(plan="starter")
    change = await subscriptions.change_plan(db, account_id, "free", actor="test", at=AT)
    assert (change.is_immediate, change.takes_effect_at, change.credits_now) == (
        False, FEBRUARY_28, 0,
    )  # fmt: skip
    assert (await ledger.balance_of(db, account_id, at=AT)).available == 5000
    # What was paid for under the old plan is carried by the old plan's rules.
    assert (await ledger.balance_of(db, account_id, at=FEBRUARY_28)).available == 5000 + 250


async def test_a_downgrade_can_be_called_off(db: AsyncSession, open_account: Opens) -> None:
    account_id = await open_account(plan="starter")
    await subscriptions.change_plan(db, account_id, "free", actor="test", at=AT)
    await subscriptions.cancel_change(db, account_id, actor="test", at=AT)
    assert (await ledger.balance_of(db, account_id, at=FEBRUARY_28)).available == 10_000


async def test_an_edit_of_a_plan_touches_nobody_who_is_on_it(
    db: AsyncSession, open_account: Opens
) -> None:
    account_id = await open_account(plan="starter")
    await plans.add_version(
        db, "starter", actor="test", reason="dearer", monthly_credits=10, rollover_cap=0
    )
    assert (await ledger.balance_of(db, account_id, at=AT)).available == 5000
    assert (await ledger.balance_of(db, account_id, at=FEBRUARY_28)).available == 10_000
    new = await open_account(plan="starter")
    assert (await ledger.balance_of(db, new, at=AT)).available == 10
