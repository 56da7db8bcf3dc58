"""How much the key may do, and how much of that is used now."""

from litestar import Controller, Response, get
from litestar.di import NamedDependency

from billing.db import SessionFactory
from billing.periods import catch_up
from billing.pricing import price_of
from gateway.console.overview import open_jobs_of, spending_budget
from gateway.console.visitor import Visitor
from gateway.limits import Limits
from gateway.settings import Settings
from gateway.web.pages import page


class LimitsController(Controller):
    @get("/limits")
    async def show(
        self,
        visitor: NamedDependency[Visitor],
        sessions: NamedDependency[SessionFactory],
        limits: NamedDependency[Limits],
        settings: NamedDependency[Settings],
    ) -> Response[str]:
        key = visitor.key
        state = await limits.look(
            str(key.api_key_id), rate_per_minute=key.rate_per_minute, burst=key.burst
        )
        async with sessions.begin() as db:
            await catch_up(db, visitor.account_id)
            open_jobs = await open_jobs_of(db, visitor.account_id)
            budget = await spending_budget(db, visitor)
        return page(
            "console/limits.html",
            visitor=visitor,
            key=key,
            state=state,
            open_jobs=open_jobs,
            budget=budget,
            price=price_of(key.env),
            settings=settings,
        )
