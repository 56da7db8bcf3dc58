"""Audit: who did what to whom and why, and whether anybody has touched the trail since."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from litestar import Controller, Request, Response, get, post
from litestar.di import NamedDependency
from sqlalchemy import ColumnElement, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from billing import audit
from billing.audit import ChainReport
from billing.db import SessionFactory
from billing.staff_tables import AuditEvent
from billing.tables import Account
from gateway.dashboard.asked import address, id_in, moment_in, number_in, word_in
from gateway.dashboard.staff import Staff
from gateway.web.pages import page

HERE: Final = "/admin/audit"
ROWS_PER_PAGE: Final = 50
ACCOUNTS_MAX: Final = 100
NAMES: Final = ("actor", "action", "account", "since", "until")
ACTIONS_MAX: Final = 200
# From one action to the next by the index: a step for each there is, however long the trail.
KNOWN_ACTIONS: Final = text(
    """
    WITH RECURSIVE known (action) AS (
        (SELECT action FROM audit_event ORDER BY action LIMIT 1)
        UNION ALL
        SELECT (SELECT e.action FROM audit_event e WHERE e.action > k.action
                ORDER BY e.action LIMIT 1)
        FROM known k WHERE k.action IS NOT NULL
    )
    SELECT action FROM known WHERE action IS NOT NULL LIMIT :actions_max
    """
)
PATIENCE: Final = text("SET LOCAL statement_timeout = '300s'")


@dataclass(frozen=True, slots=True)
class TrailPage:
    """Events with their accounts' names, newest first, and the pages beside this one."""

    rows: Sequence[Any]
    asked: Mapping[str, str]
    actions: list[str]
    has_more_actions: bool
    older: str
    newer: str


class TrailController(Controller):
    path = "/audit"

    @get()
    async def show(
        self,
        request: Request[Any, Any, Any],
        staff: NamedDependency[Staff],
        sessions: NamedDependency[SessionFactory],
    ) -> Response[str]:
        query = {name: str(values[-1]) for name, values in request.query_params.dict().items()}
        async with sessions() as db:
            found = await find_events(db, query)
        return page("dashboard/audit.html", staff=staff, found=found, report=None)

    @post("/verify", opt={"role": "viewer"}, status_code=200)
    async def verify(
        self, staff: NamedDependency[Staff], sessions: NamedDependency[SessionFactory]
    ) -> Response[str]:
        """Walk the whole chain, which takes a while, and show the newest events with the answer."""
        async with sessions() as db:
            await db.execute(PATIENCE)
            report: ChainReport = await audit.verify(db)
            found = await find_events(db, {})
        return page("dashboard/audit.html", staff=staff, found=found, report=report)


async def find_events(db: AsyncSession, query: Mapping[str, str]) -> TrailPage:
    """Give the page that `query` asks for by `before` or `after`, both sequence numbers.

    Raises:
        FormError: a time is none.
    """
    asked = {name: word for name in NAMES if (word := word_in(query, name))}
    before, after = number_in(query, "before"), number_in(query, "after")
    found = (
        select(AuditEvent, Account.name.label("account"))
        .outerjoin(Account, Account.id == AuditEvent.account_id)
        .where(*_conditions(asked))
    )
    if after is not None:
        found = found.where(AuditEvent.seq > after).order_by(AuditEvent.seq)
    else:
        if before is not None:
            found = found.where(AuditEvent.seq < before)
        found = found.order_by(AuditEvent.seq.desc())
    rows = list((await db.execute(found.limit(ROWS_PER_PAGE + 1))).all())
    has_more, rows = len(rows) > ROWS_PER_PAGE, rows[:ROWS_PER_PAGE]
    if after is not None:
        rows.reverse()
    has_older = after is not None or has_more
    has_newer = has_more if after is not None else before is not None
    actions = list(await db.scalars(KNOWN_ACTIONS, {"actions_max": ACTIONS_MAX + 1}))
    return TrailPage(
        rows=rows,
        asked=asked,
        actions=actions[:ACTIONS_MAX],
        has_more_actions=len(actions) > ACTIONS_MAX,
        older=_beside(asked, before=rows[-1].AuditEvent.seq) if rows and has_older else "",
        newer=_beside(asked, after=rows[0].AuditEvent.seq) if rows and has_newer else "",
    )


def _conditions(asked: Mapping[str, str]) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    if actor := asked.get("actor"):
        found.append(AuditEvent.actor.icontains(actor, autoescape=True))
    if action := asked.get("action"):
        found.append(AuditEvent.action == action)
    if account := asked.get("account"):
        account_id = id_in(account)
        named = select(Account.id).where(Account.name.icontains(account, autoescape=True))
        found.append(
            AuditEvent.account_id.in_(named.limit(ACCOUNTS_MAX))
            if account_id is None
            else AuditEvent.account_id == account_id
        )
    if since := moment_in(asked, "since"):
        found.append(AuditEvent.at >= since)
    if until := moment_in(asked, "until", is_end=True):
        found.append(AuditEvent.at < until)
    return found


def _beside(asked: Mapping[str, str], **cut: int) -> str:
    return address(HERE, asked, **{name: str(seq) for name, seq in cut.items()})
