"""The first page: is all well, and how do calls, credits and money go."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

from litestar import Controller, Request, Response, get
from litestar.di import NamedDependency
from redis.asyncio import Redis
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from billing import overview as books
from billing.db import SessionFactory
from billing.overview import CreditDay
from gateway import figures
from gateway.dashboard.alarms import standing
from gateway.dashboard.remembered import Remembered
from gateway.dashboard.staff import Staff
from gateway.figures import Calls
from gateway.refusal_counts import Refused, refused_over_time
from gateway.web.pages import page

NOW: Final = text("SELECT clock_timestamp()")


@dataclass(frozen=True, slots=True)
class Range:
    """How far back the figures go: whole hours or days (UTC), the present one included."""

    name: str
    label: str
    steps: int
    step: str

    @property
    def step_length(self) -> timedelta:
        return timedelta(hours=1) if self.step == "hour" else timedelta(days=1)

    def since(self, now: datetime) -> datetime:
        """Find where the first step begins."""
        present = now.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
        if self.step == "day":
            present = present.replace(hour=0)
        return present - (self.steps - 1) * self.step_length


RANGES: Final = {
    known.name: known
    for known in (
        Range("24h", "24 hours", 24, "hour"),
        Range("7d", "7 days", 7, "day"),
        Range("30d", "30 days", 30, "day"),
        Range("90d", "90 days", 90, "day"),
    )
}
DEFAULT_RANGE: Final = RANGES["7d"]


class OverviewController(Controller):
    @get("/")
    async def show(
        self,
        request: Request[Any, Any, Any],
        staff: NamedDependency[Staff],
        sessions: NamedDependency[SessionFactory],
        redis: NamedDependency[Redis],
        remembered: NamedDependency[Remembered],
    ) -> Response[str]:
        chosen = RANGES.get(request.query_params.get("range", ""), DEFAULT_RANGE)

        async def reckon() -> dict[str, Any]:
            async with sessions() as db:
                return await _figures(db, chosen)

        reckoned = await remembered.get(("overview", chosen.name), reckon)
        async with sessions() as db:
            now = await standing(db, redis)
        return page(
            "dashboard/overview.html",
            staff=staff,
            standing=now,
            chosen=chosen,
            ranges=RANGES.values(),
            as_of=reckoned.as_of,
            **reckoned.value,
        )

    @get("/overview/standing")
    async def show_standing(
        self, sessions: NamedDependency[SessionFactory], redis: NamedDependency[Redis]
    ) -> Response[str]:
        """Give the live part alone; the page asks for it again and again."""
        async with sessions() as db:
            now = await standing(db, redis)
        return page("dashboard/standing.html", standing=now)


async def _figures(db: AsyncSession, chosen: Range) -> dict[str, Any]:
    until = (await db.execute(NOW)).scalar_one()
    span = {"since": chosen.since(until), "until": until}
    calls = await figures.calls_over_time(db, **span, step=chosen.step)
    refused = await refused_over_time(db, **span, step=chosen.step)
    credit_days = await books.credits_by_day(db, **span)
    low, low_count = await books.low_accounts(db)
    revenue = await books.revenue_by_plan(db)
    owed = await books.liability(db)
    paid = [kind for kind in owed if kind.is_paid]
    return {
        "calls": _call_rows(calls, refused, chosen, until),
        "call_sums": _call_sums(calls, refused),
        "credits": _credit_rows(credit_days, span["since"].date(), until.date()),
        "in_range": _sums(credit_days),
        "sums": await books.credit_sums(db),
        "latency": await figures.latency(db, **span),
        "revenue": revenue,
        "monthly": _by_currency((plan.currency, plan.mrr_minor) for plan in revenue),
        "owed": owed,
        "owed_credits": sum(kind.credits for kind in paid),
        "owed_worth": _by_currency((kind.currency, kind.value_minor) for kind in paid),
        "top": await books.top_accounts(db, **span),
        "low": low,
        "low_count": low_count,
    }


def _call_rows(
    calls: Sequence[Calls], refused: Sequence[Refused], chosen: Range, until: datetime
) -> list[tuple[str, int, int, int]]:
    """Give each step its row, those without a call too."""
    ended = {step.at: step for step in calls}
    turned_away: dict[datetime, int] = {}
    for reason in refused:
        turned_away[reason.at] = turned_away.get(reason.at, 0) + reason.calls
    at, form, rows = chosen.since(until), "%H:%M" if chosen.step == "hour" else "%b %d", []
    while at < until:
        found = ended.get(at, Calls(at, 0, 0, 0))
        rows.append((at.strftime(form), found.succeeded, found.failed, turned_away.get(at, 0)))
        at += chosen.step_length
    return rows


def _call_sums(calls: Sequence[Calls], refused: Sequence[Refused]) -> dict[str, int]:
    return {
        "succeeded": sum(step.succeeded for step in calls),
        "failed": sum(step.failed for step in calls),
        "canceled": sum(step.canceled for step in calls),
        "refused": sum(reason.calls for reason in refused),
    }


def _credit_rows(
    days: list[CreditDay], since: date, until: date
) -> dict[str, list[tuple[str, *tuple[int, ...]]]]:
    """Give each day its row in the charts of what was used, and of what was given and ended."""
    known = {day.day: day for day in days}
    rows: dict[str, list[tuple[str, *tuple[int, ...]]]] = {"used": [], "given": []}
    for offset in range((until - since).days + 1):
        day = since + timedelta(days=offset)
        found, name = known.get(day, CreditDay(day)), day.strftime("%b %d")
        rows["used"].append((name, found.consumed, found.refunded))
        rows["given"].append((name, found.granted, found.rolled, found.expired))
    return rows


def _sums(days: list[CreditDay]) -> dict[str, int]:
    names = ("granted", "consumed", "expired", "rolled", "refunded")
    return {name: sum(getattr(day, name) for day in days) for name in names}


def _by_currency(sums: Iterable[tuple[str | None, int | None]]) -> dict[str, int]:
    """Add up money that is there, each currency for itself."""
    totals: dict[str, int] = {}
    for currency, minor in sums:
        if currency is not None and minor:
            totals[currency] = totals.get(currency, 0) + minor
    return totals
