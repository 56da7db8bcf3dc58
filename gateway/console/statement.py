"""Where every credit went: by period or by dates, with the balance after each line, and as CSV."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import urlencode

from litestar import Controller, Request, Response, get
from litestar.di import NamedDependency
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from billing.db import SessionFactory
from billing.periods import catch_up
from billing.statement_pages import balance_before, newest_lines, totals
from billing.statements import statement, statement_csv
from billing.tables import BillingPeriod, LedgerTxn
from gateway.console.ranges import days_of
from gateway.console.usage import answer_csv
from gateway.console.visitor import Visitor
from gateway.web.pages import page
from gateway.web.refusals import FormError, MissingPageError

AnyRequest = Request[Any, Any, Any]
LINES_MAX: Final = 50
CSV_LINES_MAX: Final = 100_000
PERIODS_MAX: Final = 24


@dataclass(frozen=True, slots=True)
class Span:
    """What a statement is of: `since` <= time < `until`."""

    since: datetime
    until: datetime
    period: datetime | None
    query: str

    @property
    def last(self) -> datetime:
        """A moment of the last day that belongs to it."""
        return self.until - timedelta.resolution


class StatementController(Controller):
    @get("/statement")
    async def show(
        self,
        request: AnyRequest,
        visitor: NamedDependency[Visitor],
        sessions: NamedDependency[SessionFactory],
    ) -> Response[str]:
        query, account_id = request.query_params, visitor.account_id
        async with sessions.begin() as db:
            await catch_up(db, account_id)
        async with sessions() as db:
            periods = await _periods(db, account_id)
            span, wrong = _span_or_newest(query, periods)
            lines = await newest_lines(
                db,
                account_id,
                since=span.since,
                until=span.until,
                before_seq=_seq(query.get("before")),
                has_unmoved=query.get("all") == "1",
                lines_max=LINES_MAX + 1,
            )
            opening = await balance_before(db, account_id, span.since)
            sums = await totals(db, account_id, since=span.since, until=span.until)
        return page(
            "console/statement.html",
            status=wrong.status if wrong else 200,
            error=str(wrong or ""),
            said=query if wrong else {},
            visitor=visitor,
            periods=periods,
            span=span,
            lines=lines[:LINES_MAX],
            has_more=len(lines) > LINES_MAX,
            is_first=not query.get("before"),
            is_all=query.get("all") == "1",
            opening=opening,
            totals=sums,
            closing=opening + sums.change,
        )

    @get("/statement.csv")
    async def download(
        self,
        request: AnyRequest,
        visitor: NamedDependency[Visitor],
        sessions: NamedDependency[SessionFactory],
    ) -> Response[str]:
        account_id = visitor.account_id
        async with sessions.begin() as db:
            await catch_up(db, account_id)
        async with sessions() as db:
            span = _span_of(request.query_params, await _periods(db, account_id))
            await _check_length(db, account_id, span)
            lines = await statement(db, account_id, since=span.since, until=span.until)
        text = await asyncio.to_thread(statement_csv, lines)
        return answer_csv(text, f"statement-{span.since:%Y%m%d}-{span.until:%Y%m%d}.csv")


async def _periods(db: AsyncSession, account_id: Any) -> list[BillingPeriod]:
    """List the account's periods, newest first; the first is the one that it is in."""
    chosen = select(BillingPeriod).where(BillingPeriod.account_id == account_id)
    newest = chosen.order_by(BillingPeriod.period_start.desc()).limit(PERIODS_MAX)
    return list(await db.scalars(newest))


def _span_of(query: Mapping[str, str], periods: list[BillingPeriod]) -> Span:
    """Read a period, or dates; the period that the account is in unless one of them is said.

    Raises:
        FormError: the dates make no sense.
        MissingPageError: the account has no such period.
    """
    if query.get("from") or query.get("to"):
        days = days_of(query)
        return Span(days.since, days.until, None, days.query)
    asked = query.get("period")
    for period in periods:
        if asked in {None, "", period.period_start.isoformat()}:
            start = period.period_start
            return Span(start, period.period_end, start, urlencode({"period": start.isoformat()}))
    raise MissingPageError


def _span_or_newest(
    query: Mapping[str, str], periods: list[BillingPeriod]
) -> tuple[Span, FormError | None]:
    """Read what is asked for; where the dates make no sense the period now, and what is wrong."""
    try:
        return _span_of(query, periods), None
    except FormError as wrong:
        return _span_of({}, periods), wrong


def _seq(said: str | None) -> int | None:
    if not said:
        return None
    if not said.isdecimal() or len(said) > len("999999999999999999"):
        raise MissingPageError
    return int(said)


async def _check_length(db: AsyncSession, account_id: Any, span: Span) -> None:
    moved = select(func.count()).where(
        LedgerTxn.account_id == account_id,
        LedgerTxn.effective_at >= span.since,
        LedgerTxn.effective_at < span.until,
    )
    if (await db.scalar(moved) or 0) > CSV_LINES_MAX:
        raise FormError(f"This is more than {CSV_LINES_MAX:,} lines. Choose fewer days.")
