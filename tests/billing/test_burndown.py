"""The pure burn-down, and the one in the database, put the same grant first."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID, uuid4

from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from billing import ledger
from billing.burndown import split
from billing.posting import open_grants
from billing.tables import CreditGrant, HoldSlice
from tests.billing.conftest import JANUARY_31, Opens, held, open_grants_of

AT = JANUARY_31


@dataclass(frozen=True)
class Given:
    id: UUID
    seq: int
    priority: int
    effective_at: datetime
    expires_at: datetime | None
    remaining: int


def later(days: int) -> datetime:
    return AT + timedelta(days=days)


some_grants = st.lists(
    st.tuples(
        st.integers(0, 2), st.integers(0, 2), st.none() | st.integers(3, 5), st.integers(0, 40)
    ),
    max_size=6,
).map(
    lambda rows: [
        Given(uuid4(), seq, priority, later(begins), later(ends) if ends else None, remaining)
        for seq, (priority, begins, ends, remaining) in enumerate(rows)
    ]
)


@given(grants=some_grants, amount=st.integers(1, 100))
def test_a_split_spends_all_of_a_grant_before_it_touches_the_next(
    grants: list[Given], amount: int
) -> None:
    parts = split(amount, grants)
    assert sum(part for _, part in parts) == amount
    assert all(part > 0 for _, part in parts)
    by_id = {grant.id: grant for grant in grants}
    payers = [by_id[grant_id] for grant_id, _ in parts if grant_id is not None]
    assert payers == sorted(
        payers,
        key=lambda g: (g.priority, g.expires_at is None, g.expires_at or AT, g.effective_at, g.seq),
    )
    for (grant_id, part), grant in zip(parts[:-1], payers[: len(parts) - 1], strict=True):
        assert (grant_id, part) == (grant.id, grant.remaining)
    if parts[-1][0] is None:
        assert amount > sum(grant.remaining for grant in grants)


async def test_the_database_splits_as_the_pure_function_does(
    db: AsyncSession, open_account: Opens
) -> None:
    account_id = await open_account(credit_limit=100)
    for n, (priority, days, amount) in enumerate(
        [(50, 9, 5), (50, 9, 7), (10, None, 3), (10, 40, 11), (90, 2, 13), (50, None, 17)]
    ):
        await ledger.grant_credits(
            db, account_id, amount=amount, source="promo", ref=str(n), actor="test", reason="x",
            priority=priority, expires_at=later(days) if days else None, at=AT,
        )  # fmt: skip
    for amount in (4, 25, 260, 90):
        expected = split(amount, await open_grants(db, account_id))
        job_id = await held(db, account_id, amount, at=AT)
        slices = await db.execute(
            select(HoldSlice.grant_id, HoldSlice.amount)
            .where(HoldSlice.job_id == job_id)
            .order_by(HoldSlice.line)
        )
        assert [tuple(slice_) for slice_ in slices] == expected


async def test_of_credits_that_begin_together_the_first_in_burn_down_order_covers_a_debt(
    db: AsyncSession, open_account: Opens
) -> None:
    account_id = await open_account(credit_limit=60)
    await held(db, account_id, 300, at=AT)
    for source in ("topup", "promo"):
        await ledger.grant_credits(
            db, account_id, amount=100, source=source, ref=source, actor="test", reason="x",
            effective_at=later(9), at=AT,
        )  # fmt: skip
    # The worst that the table can do to a question without an order: answer the other way round.
    for setting in (
        "enable_indexscan = off",
        "enable_bitmapscan = off",
        "plan_cache_mode = force_custom_plan",  # a plan that was kept would be by an index still
    ):
        await db.execute(text(f"SET LOCAL {setting}"))
    waiting = (CreditGrant.account_id == account_id, CreditGrant.activated_at.is_(None))
    while await db.scalar(select(CreditGrant.source).where(*waiting)) == "promo":
        moves = update(CreditGrant).where(*waiting, CreditGrant.source == "promo")
        await db.execute(moves.values(activated_at=None))  # written anew, and further down
    await ledger.balance_of(db, account_id, at=later(9))
    assert await open_grants_of(db, account_id) == [("plan", 0), ("topup", 100), ("promo", 50)]
