"""Accounts: the list that is searched, sorted and paged, and the page of one."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid4

from litestar import Controller, Request, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath
from litestar.response import Redirect
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from billing import acts, directory, notes, portfolio
from billing.db import SessionFactory, transact
from billing.directory import PAGE_ROWS, SORTS, STATUSES, Search
from billing.key_lists import KeyCounts, KeyLine, count_keys, ended_keys, living_keys
from billing.keys import PREFIXES
from billing.periods import catch_up
from billing.portfolio import AccountFacts
from billing.standing import standing_of
from billing.statement_pages import newest_lines
from billing.tables import Hold
from gateway.dashboard.act_forms import plain
from gateway.dashboard.acts import HERE, done_words
from gateway.dashboard.asked import address, id_in, number_in, word_in
from gateway.dashboard.staff import Staff
from gateway.tables import FAILED, Job
from gateway.web.pages import HEADERS, page
from gateway.web.paging import page_number, pager_for
from gateway.web.refusals import FormError, MissingPageError
from gateway.webhooks.deliveries import deliveries_of

LINES_SHOWN: Final = 15
LINES_A_PAGE: Final = 100
ROWS_SHOWN: Final = 10
ENDED_KEYS_SHOWN: Final = 5
ENDED_KEYS_A_PAGE: Final = 50
USAGE_DAYS: Final = 30
LONG_AGO: Final = datetime(2000, 1, 1, tzinfo=UTC)
FAR_OFF: Final = datetime(9999, 1, 1, tzinfo=UTC)
HEADS: Final = (
    ("name", "Name", ""),
    ("", "Status", ""),
    ("plan", "Plan", ""),
    ("available", "Available", "number"),
    ("", "Held", "number"),
    ("used", "Used this period", "number"),
    ("", "Period ends", ""),
    ("created", "Created", ""),
)

Head = tuple[str, str, str, str, str]
"""What it sorts by, the label, its kind, where it leads, and how it is sorted now."""


class AccountsController(Controller):
    path = "/accounts"

    @get()
    async def show_list(
        self,
        request: Request[Any, Any, Any],
        staff: NamedDependency[Staff],
        sessions: NamedDependency[SessionFactory],
    ) -> Response[str]:
        query = request.query_params.dict()
        asked = {name: str(values[-1]) for name, values in query.items()}
        async with sessions() as db:
            plans = await directory.plan_codes(db)
            search = _search(asked, plans, page_number(request))
            found, count = await directory.find_accounts(db, search)
        return page(
            "dashboard/accounts.html",
            staff=staff,
            search=search,
            found=found,
            count=count,
            is_narrowed=bool(search.words or search.status or search.plan),
            statuses=[(status, status) for status in STATUSES],
            plans=[(plan, plan) for plan in plans],
            heads=_heads(asked, search),
            pager=pager_for(
                search.page,
                rows_passed=(search.page - 1) * PAGE_ROWS,
                shown=len(found),
                count=count,
                address=lambda beside: address(HERE, asked, page=str(beside)),
            ),
        )

    @get("/{account_id:uuid}")
    async def show_one(
        self,
        request: Request[Any, Any, Any],
        account_id: FromPath[UUID],
        staff: NamedDependency[Staff],
        sessions: NamedDependency[SessionFactory],
    ) -> Response[str]:
        account = await _account(sessions, account_id)
        async with sessions() as db:
            shown = await _shown(db, account)
        return page(
            "dashboard/account.html",
            staff=staff,
            account=account,
            done=done_words(str(request.query_params.get("done", ""))),
            form_id=uuid4(),
            **shown,
        )

    @get("/{account_id:uuid}/statement")
    async def show_statement(
        self,
        request: Request[Any, Any, Any],
        account_id: FromPath[UUID],
        staff: NamedDependency[Staff],
        sessions: NamedDependency[SessionFactory],
    ) -> Response[str]:
        query = request.query_params.dict()
        asked = {name: str(values[-1]) for name, values in query.items()}
        account = await _account(sessions, account_id)
        before, has_unmoved = number_in(asked, "before"), word_in(asked, "holds") == "1"
        async with sessions() as db:
            lines = await newest_lines(
                db,
                account_id,
                since=LONG_AGO,
                until=FAR_OFF,
                before_seq=before,
                has_unmoved=has_unmoved,
                lines_max=LINES_A_PAGE + 1,
            )
        here, is_last = f"{HERE}/{account_id}/statement", len(lines) <= LINES_A_PAGE
        lines = lines[:LINES_A_PAGE]
        return page(
            "dashboard/account_statement.html",
            staff=staff,
            account=account,
            lines=lines,
            has_unmoved=has_unmoved,
            older="" if is_last else address(here, asked, before=str(lines[-1].seq)),
            newer=address(here, asked, before="") if before is not None else "",
        )

    @get("/{account_id:uuid}/keys")
    async def show_ended_keys(
        self,
        request: Request[Any, Any, Any],
        account_id: FromPath[UUID],
        staff: NamedDependency[Staff],
        sessions: NamedDependency[SessionFactory],
    ) -> Response[str]:
        number = page_number(request)
        account = await _account(sessions, account_id)
        passed = (number - 1) * ENDED_KEYS_A_PAGE
        async with sessions() as db:
            count = (await count_keys(db, account_id)).ended
            keys = await ended_keys(db, account_id, rows_max=ENDED_KEYS_A_PAGE, rows_passed=passed)
        return page(
            "dashboard/account_keys.html",
            staff=staff,
            account=account,
            keys=_with_prefixes(keys),
            count=count,
            pager=pager_for(
                number,
                rows_passed=passed,
                shown=len(keys),
                count=count,
                address=lambda beside: f"{HERE}/{account_id}/keys?page={beside}",
            ),
        )

    @post("/{account_id:uuid}/notes", opt={"role": "support"}, status_code=303)
    async def add_note(
        self,
        request: Request[Any, Any, Any],
        account_id: FromPath[UUID],
        staff: NamedDependency[Staff],
        sessions: NamedDependency[SessionFactory],
    ) -> Redirect:
        form = await request.form()
        form_id, body = id_in(str(form.get("form_id", ""))), plain(str(form.get("body", "")))
        if form_id is None:
            raise FormError("This form is not whole. Go back, reload the page and send it again.")
        act_id = acts.act_id_of(form_id, staff.actor, "note", account_id, body)

        async def work(db: AsyncSession) -> None:
            if await acts.claim(db, act_id, actor=staff.actor, action="note"):
                await notes.add_note(db, account_id, body, actor=staff.actor)

        await transact(sessions, work)
        return Redirect(f"{HERE}/{account_id}#notes", status_code=303, headers=HEADERS)


def _search(asked: dict[str, str], plans: Sequence[str], number: int) -> Search:
    """Read what the address asks for; what makes no sense is left out."""
    status, plan, sort = (word_in(asked, name) for name in ("status", "plan", "sort"))
    return Search(
        words=word_in(asked, "q"),
        status=status if status in STATUSES else None,
        plan=plan if plan in plans else None,
        sort=sort if sort in SORTS else "name",
        is_descending=word_in(asked, "down") == "1",
        page=number,
    )


def _heads(asked: dict[str, str], search: Search) -> list[Head]:
    """Let each column that can be sorted by lead to that; the one it is, to the other direction."""
    heads = []
    for name, label, kind in HEADS:
        url = order = ""
        if name:
            is_this = name == search.sort
            # Numbers and dates are looked at from the largest, names from A.
            down = not search.is_descending if is_this else name not in {"name", "plan"}
            url = address(HERE, asked, sort=name, down="1" if down else "", page="")
            order = ("descending" if search.is_descending else "ascending") if is_this else ""
        heads.append((name, label, kind, url, order))
    return heads


async def _account(sessions: SessionFactory, account_id: UUID) -> AccountFacts:
    """Read an account, once what is due by the clock is done."""
    await transact(sessions, lambda db: catch_up(db, account_id))
    async with sessions() as db:
        account = await portfolio.account_facts(db, account_id)
    if account is None:
        raise MissingPageError
    return account


async def _shown(db: AsyncSession, account: AccountFacts) -> dict[str, Any]:
    """Read all that the page of an account shows."""
    now = datetime.now(UTC)
    tomorrow = now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    since = tomorrow - timedelta(days=USAGE_DAYS)
    used = await portfolio.usage_by_day(db, account.id, since=since, until=tomorrow)
    by_day = {day.day: day.credits for day in used}
    days = [(since + timedelta(days=n)).date() for n in range(USAGE_DAYS)]
    living = await living_keys(db, account.id)
    ended = await ended_keys(db, account.id, rows_max=ENDED_KEYS_SHOWN)
    return {
        # As its customer is told: what the period's end would let lapse is in it, too.
        "ending": (await standing_of(db, account.id)).ending if account.plan else None,
        "usage": [(f"{day:%m-%d}", by_day.get(day, 0)) for day in days],
        "grants": await portfolio.waterfall(db, account.id),
        "ended": await portfolio.closed_grants(db, account.id),
        "lines": await newest_lines(
            db, account.id, since=LONG_AGO, until=FAR_OFF, lines_max=LINES_SHOWN
        ),
        "holds": await _holds(db, account.id),
        "keys": _with_prefixes([*living, *ended]),
        "keys_shown": KeyCounts(len(living), len(ended)),
        "key_counts": await count_keys(db, account.id),
        "failed": await _failed(db, account.id),
        "deliveries": await deliveries_of(db, account.id, rows_max=ROWS_SHOWN),
        "notes": await notes.notes_of(db, account.id),
        "events": await portfolio.events_of(db, account.id),
    }


async def _holds(db: AsyncSession, account_id: UUID) -> Sequence[Any]:
    held = (
        select(Hold, Job.state)
        .outerjoin(Job, Job.id == Hold.job_id)
        .where(Hold.account_id == account_id, Hold.state == "held")
        .order_by(Hold.placed_at)
        .limit(ROWS_SHOWN * 2)
    )
    return (await db.execute(held)).all()


async def _failed(db: AsyncSession, account_id: UUID) -> Sequence[Job]:
    failed = select(Job).where(Job.account_id == account_id, Job.state == FAILED)
    return (await db.scalars(failed.order_by(Job.created_at.desc()).limit(ROWS_SHOWN))).all()


def _with_prefixes(lines: Sequence[KeyLine]) -> list[tuple[KeyLine, str]]:
    return [(line, PREFIXES[line.key.env]) for line in lines]
