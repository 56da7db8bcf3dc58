"""A month and a day of one customer, printed as the statement in docs/billing.md.

    python -m bench.proofs.month

What happens is told beside each call; the times are given, so that it prints the same each time.
"""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from bench.proofs.ground import connected, database
from billing import accounts, ledger, monthpack, statements, subscriptions
from billing.invariants import check_account

BEGAN_AT = datetime(2026, 1, 31, 9, 0, tzinfo=UTC)
RENEWS_AT = datetime(2026, 2, 28, 9, 0, tzinfo=UTC)


def day(number: int, hour: int = 12) -> datetime:
    return BEGAN_AT.replace(hour=hour) + timedelta(days=number)


def job(number: int) -> UUID:
    return UUID(int=0xC0FFEE << 96 | 0x4000 << 64 | 0x8000 << 48 | number)


async def hold(db: AsyncSession, account_id: UUID, number: int, at: datetime) -> None:
    await ledger.place_hold(
        db, account_id=account_id, job_id=job(number), amount=25, concurrency_max=4, at=at
    )


async def live_a_month(db: AsyncSession) -> UUID:
    account = await accounts.create_account(
        db, name="Ada's Shop", plan="free", actor="cli", at=BEGAN_AT
    )
    for number in (1, 2):  # two cutouts
        await hold(db, account.id, number, day(1, 9 + number))
        await ledger.capture(db, job(number), at=day(1, 9 + number) + timedelta(seconds=1))
    await hold(db, account.id, 3, day(2))  # a file that was no picture: it costs nothing
    await ledger.release(db, job(3), reason="unreadable_image", at=day(2) + timedelta(seconds=1))
    await ledger.refund(db, job(2), actor="support", reason="hair was cut off", at=day(3))
    await ledger.grant_credits(
        db,
        account.id,
        amount=1000,
        source="topup",
        ref="payment-1001",
        actor="shop",
        reason="bought 1,000",
        at=day(7),
    )
    await subscriptions.change_plan(
        db, account.id, "starter", actor="customer", reason="upgrade", at=day(14, 9)
    )
    await hold(db, account.id, 4, RENEWS_AT - timedelta(seconds=1))  # settled in the next period
    await ledger.capture(db, job(4), at=RENEWS_AT + timedelta(seconds=1))
    await hold(db, account.id, 5, day(29))
    await ledger.capture(db, job(5), at=day(29) + timedelta(seconds=1))
    return account.id


async def tell(db: AsyncSession) -> None:
    account_id = await live_a_month(db)
    now = day(30)
    print("| time (UTC) | what | job or reference | credits | balance | available | held |")
    print("|---|---|---|--:|--:|--:|--:|")
    for line in await statements.statement(db, account_id, now=now):
        which = f"job {line.job_id.int & 0xFFFF}" if line.job_id else line.ref
        reason = f" ({line.reason})" if line.reason else ""
        print(
            f"| {line.at:%m-%d %H:%M:%S} | {line.op}{reason} | {which} | {line.amount:+d} |"
            f" {line.balance} | {line.available} | {line.held} |"
        )
    print()
    for month in (1, 2, 3):
        lines = await monthpack.month_pack(db, 2026, month, now=now)
        mine = [line for line in lines if line.account_id == str(account_id)]
        print(monthpack.month_pack_csv(mine).replace(str(account_id), "…"))
    assert await check_account(db, account_id) == []


def main() -> None:
    with (
        database(is_durable=False) as url,
        asyncio.Runner() as runner,
        connected(url, runner) as sessions,
    ):

        async def work() -> None:
            async with sessions.begin() as db:
                await tell(db)

        runner.run(work())


if __name__ == "__main__":
    main()
