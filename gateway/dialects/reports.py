"""Our own customer endpoints that look back: what was called, and where every credit went."""

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, NamedTuple

from litestar import Controller, Request, Response, get
from litestar.di import NamedDependency, Provide
from litestar.params import QueryParameter
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from billing.periods import catch_up
from billing.statements import StatementLine, statement, statement_csv
from billing.tables import LedgerTxn
from billing.usage import UsageLine, usage
from gateway.auth import Caller
from gateway.dialects.account import account_caller
from gateway.dialects.door import PATIENCE, Door
from gateway.dialects.forms import NAME_SHOWN_MAX
from gateway.errors import InvalidRequestError
from gateway.transactions import persist

CSV: Final = "text/csv"
PARAMETERS: Final = ("from", "to")
SPAN_USUAL: Final = timedelta(days=30)
SPAN_MAX: Final = timedelta(days=366)
LINES_MAX: Final = 100_000
"""Of one statement: about 15 MB."""

Moment = Annotated[str | None, QueryParameter(name="from")]
Until = Annotated[str | None, QueryParameter(name="to")]


class Span(NamedTuple):
    """`since` <= time < `until`."""

    since: datetime
    until: datetime


def span_of(since: str | None, until: str | None) -> Span:
    """Read a report's span: the 30 days until now, or until `until`, unless it is said.

    Raises:
        InvalidRequestError: not ISO 8601, the wrong way round, or longer than a year.
    """
    end = _moment("to", until) if until else datetime.now(UTC)
    try:
        begin = _moment("from", since) if since else end - SPAN_USUAL
        if not timedelta(0) < end - begin <= SPAN_MAX:
            raise InvalidRequestError(f"from must be before to, by at most {SPAN_MAX.days} days")
    except OverflowError:
        raise InvalidRequestError("to is too early") from None
    return Span(begin, end)


def _refuse_unknown(request: Request[Any, Any, Any]) -> None:
    """Refuse a misspelt parameter: the answer would be about another span than was meant.

    Raises:
        InvalidRequestError: names it.
    """
    for name in request.query_params:
        if name not in PARAMETERS:
            known = " and ".join(PARAMETERS)
            raise InvalidRequestError(
                f"unknown parameter {name[:NAME_SHOWN_MAX]}: there are {known}"
            )


def _moment(name: str, said: str) -> datetime:
    """Read a date (its midnight) or a time; both are UTC's unless they say otherwise."""
    try:
        moment = datetime.fromisoformat(said)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise InvalidRequestError(f"{name} must be a date or a time of ISO 8601") from None


class ReportsController(Controller):
    @get("/v1/usage", dependencies={"caller": Provide(account_caller)})
    async def read_usage(
        self,
        request: Request[Any, Any, Any],
        caller: NamedDependency[Caller],
        door: NamedDependency[Door],
        since: Moment = None,
        until: Until = None,
    ) -> Response[dict[str, Any]]:
        """Tell the calls of the key's account by day, key, model and dialect."""
        _refuse_unknown(request)
        span = span_of(since, until)

        async def read(db: AsyncSession) -> list[UsageLine]:
            return await usage(db, caller.key.account_id, since=span.since, until=span.until)

        lines = await persist(door.sessions, read, patience=PATIENCE)
        return Response(usage_document(span, lines))

    @get("/v1/statement.csv", dependencies={"caller": Provide(account_caller)})
    async def read_statement(
        self,
        request: Request[Any, Any, Any],
        caller: NamedDependency[Caller],
        door: NamedDependency[Door],
        since: Moment = None,
        until: Until = None,
    ) -> Response[str]:
        """Tell every movement of the account's credits, with the balance after each."""
        _refuse_unknown(request)
        span, account_id = span_of(since, until), caller.key.account_id

        async def catch_up_first(db: AsyncSession) -> None:
            await catch_up(db, account_id)

        async def read(db: AsyncSession) -> list[StatementLine]:
            moved = select(func.count()).where(
                LedgerTxn.account_id == account_id,
                LedgerTxn.effective_at >= span.since,
                LedgerTxn.effective_at < span.until,
            )
            if (await db.scalar(moved) or 0) > LINES_MAX:
                raise InvalidRequestError(f"more than {LINES_MAX} lines: ask for a shorter span")
            return await statement(db, account_id, since=span.since, until=span.until)

        # On its own: the account's lock is given back before the history is read.
        await persist(door.sessions, catch_up_first, patience=PATIENCE)
        lines = await persist(door.sessions, read, patience=PATIENCE)
        text = await asyncio.to_thread(statement_csv, lines)
        name = f"statement-{span.since:%Y%m%d}-{span.until:%Y%m%d}.csv"
        disposition = f'attachment; filename="{name}"'
        return Response(text, media_type=CSV, headers={"Content-Disposition": disposition})


def usage_document(span: Span, lines: Sequence[UsageLine]) -> dict[str, Any]:
    names = ("succeeded", "failed", "charged_credits")
    return {
        "from": _written(span.since),
        "to": _written(span.until),
        "usage": [asdict(line) for line in lines],
        "total": {name: sum(getattr(line, name) for line in lines) for name in names},
    }


def _written(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
