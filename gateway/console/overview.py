"""The first page: what can be spent, until when, and what was spent of late."""

from collections import Counter
from datetime import date

from litestar import Controller, Response, get
from litestar.di import NamedDependency
from sqlalchemy.ext.asyncio import AsyncSession

from billing.budgets import Budget, budget_of
from billing.db import SessionFactory
from billing.periods import catch_up
from billing.pricing import CREDITS_PER_CUTOUT, price_of
from billing.standing import SOON, standing_of
from billing.tables import CreditAccount
from billing.usage import UsageLine, usage
from gateway.console.ranges import Days, days_of
from gateway.console.visitor import Visitor
from gateway.web.pages import page


class OverviewController(Controller):
    @get("/")
    async def show(
        self, visitor: NamedDependency[Visitor], sessions: NamedDependency[SessionFactory]
    ) -> Response[str]:
        days, account_id = days_of({}), visitor.account_id
        async with sessions.begin() as db:
            await catch_up(db, account_id)
        async with sessions() as db:
            standing = await standing_of(db, account_id)
            lines = await usage(db, account_id, since=days.since, until=days.until)
            open_jobs = await open_jobs_of(db, account_id)
            budget = await spending_budget(db, visitor)
        spendable = standing.balance.available + standing.balance.credit_limit
        if budget is not None:
            spendable = min(spendable, budget.left)
        return page(
            "console/overview.html",
            visitor=visitor,
            standing=standing,
            soon=SOON,
            price=price_of("live"),
            cutouts=max(0, spendable) // CREDITS_PER_CUTOUT,
            budget=budget,
            open_jobs=open_jobs,
            days=days,
            by_day=by_day(days, lines),
            calls=sum(line.succeeded + line.failed for line in lines),
        )


async def open_jobs_of(db: AsyncSession, account_id: object) -> int:
    """Count the jobs that wait or are worked on."""
    return (await db.get_one(CreditAccount, account_id)).open_holds


async def spending_budget(db: AsyncSession, visitor: Visitor) -> Budget | None:
    """Read the budget that bounds what the signed-in key spends; a test key's spends nothing."""
    if price_of(visitor.key.env) == 0:
        return None
    return await budget_of(db, visitor.api_key.id)


def by_day(days: Days, lines: list[UsageLine]) -> list[tuple[str, int, int]]:
    """Add calls up for each day, days without any included: made, failed."""
    made, failed = Counter[date](), Counter[date]()
    for line in lines:
        made[line.day] += line.succeeded
        failed[line.day] += line.failed
    return [(f"{day:%-d %b}", made[day], failed[day]) for day in days.each()]
