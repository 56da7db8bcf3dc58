"""Exports: ledger, usage, audit trail and a month's pack as CSV, streamed as they are read."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from litestar import Controller, Request, Response, get
from litestar.di import NamedDependency
from litestar.response import Stream

from billing import audit
from billing.db import SessionFactory
from billing.monthpack import catch_up_all, month_pack, month_pack_csv
from gateway.dashboard.asked import id_in, moment_in, word_in
from gateway.dashboard.export_rows import audit_csv, ledger_csv, usage_csv
from gateway.dashboard.staff import Staff
from gateway.web.pages import HEADERS, page
from gateway.web.refusals import FormError

NEEDED: Final = {"role": "finance"}
"""Who reads the pages may read all of it; who takes all of it away answers for it."""
DAYS_MAX: Final = 400
MONTH: Final = re.compile(r"(20\d\d)-(0[1-9]|1[0-2])")
PIECE_CHARS: Final = 64 * 1024
CSV: Final = "text/csv"

Rows = Callable[[SessionFactory, datetime, datetime, UUID | None], AsyncIterator[str]]


class ExportsController(Controller):
    path = "/exports"

    @get(sync_to_thread=False)
    def show(self, staff: NamedDependency[Staff]) -> Response[str]:
        today = datetime.now(UTC)
        last_month = today.replace(day=1) - timedelta(days=1)
        return page(
            "dashboard/exports.html",
            staff=staff,
            since=today.strftime("%Y-%m-01"),
            until=today.strftime("%Y-%m-%d"),
            month=last_month.strftime("%Y-%m"),
            days_max=DAYS_MAX,
        )

    @get("/ledger.csv", opt=NEEDED)
    async def take_ledger(
        self,
        request: Request[Any, Any, Any],
        staff: NamedDependency[Staff],
        sessions: NamedDependency[SessionFactory],
    ) -> Stream:
        return await _taken("ledger", ledger_csv, request, staff, sessions)

    @get("/usage.csv", opt=NEEDED)
    async def take_usage(
        self,
        request: Request[Any, Any, Any],
        staff: NamedDependency[Staff],
        sessions: NamedDependency[SessionFactory],
    ) -> Stream:
        return await _taken("usage", usage_csv, request, staff, sessions)

    @get("/audit.csv", opt=NEEDED)
    async def take_audit(
        self,
        request: Request[Any, Any, Any],
        staff: NamedDependency[Staff],
        sessions: NamedDependency[SessionFactory],
    ) -> Stream:
        return await _taken("audit", audit_csv, request, staff, sessions)

    @get("/month.csv", opt=NEEDED)
    async def take_month(
        self,
        request: Request[Any, Any, Any],
        staff: NamedDependency[Staff],
        sessions: NamedDependency[SessionFactory],
    ) -> Stream:
        """Give a calendar month of every account; each row and the totals foot to zero."""
        asked = word_in(_query(request), "month")
        found = MONTH.fullmatch(asked)
        if found is None:
            raise FormError("Say a month as 2026-10.")
        year, month = int(found[1]), int(found[2])
        await catch_up_all(sessions, year, month)
        async with sessions() as db:
            lines = await month_pack(db, year, month)
        await _note(sessions, staff, "month", asked)
        whole = await asyncio.to_thread(month_pack_csv, lines)
        return _file(_pieces(whole), f"month-{asked}.csv")


async def _taken(
    name: str,
    rows: Rows,
    request: Request[Any, Any, Any],
    staff: Staff,
    sessions: SessionFactory,
) -> Stream:
    since, until, account_id = _asked(request)
    span = f"{since:%Y-%m-%d}..{until:%Y-%m-%d}"
    await _note(sessions, staff, name, span, account_id)
    chunks = rows(sessions, since, until, account_id)
    return _file(chunks, f"{name}-{since:%Y%m%d}-{until:%Y%m%d}.csv")


def _asked(request: Request[Any, Any, Any]) -> tuple[datetime, datetime, UUID | None]:
    """Read the time and the account that an export is of.

    Raises:
        FormError: one of them makes no sense.
    """
    query = _query(request)
    since, until = moment_in(query, "since"), moment_in(query, "until", is_end=True)
    if since is None or until is None:
        raise FormError("Say from which day to which.")
    if not timedelta(0) < until - since <= timedelta(days=DAYS_MAX):
        raise FormError(f"An export is of a day at least and of {DAYS_MAX} days at most.")
    account = word_in(query, "account")
    account_id = id_in(account)
    if account and account_id is None:
        raise FormError(f"“{account}” is no account’s id.")
    return since, until, account_id


def _query(request: Request[Any, Any, Any]) -> dict[str, str]:
    return {name: str(values[-1]) for name, values in request.query_params.dict().items()}


async def _note(
    sessions: SessionFactory, staff: Staff, name: str, span: str, account_id: UUID | None = None
) -> None:
    """Keep who took what out of the house."""
    async with sessions.begin() as db:
        await audit.record(
            db,
            actor=staff.actor,
            action=f"export.{name}",
            object_name=span,
            account_id=account_id,
        )


def _file(chunks: AsyncIterator[str], name: str) -> Stream:
    headers = {**HEADERS, "Content-Disposition": f'attachment; filename="{name}"'}
    return Stream(_encoded(chunks), headers=headers, media_type=CSV)


async def _encoded(chunks: AsyncIterator[str]) -> AsyncIterator[bytes]:
    async for chunk in chunks:
        yield chunk.encode()


async def _pieces(whole: str) -> AsyncIterator[str]:
    for start in range(0, len(whole), PIECE_CHARS):
        yield whole[start : start + PIECE_CHARS]
