"""Invariants: each rule of the books, when it was asked, what it found, and a way to ask now."""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

import structlog
from litestar import Controller, Request, Response, get, post
from litestar.background_tasks import BackgroundTask
from litestar.di import NamedDependency
from litestar.params import FromPath
from litestar.response import Redirect

from billing import audit
from billing.db import SessionFactory
from billing.invariants import TITLES
from gateway.bookkeeping import Bookkeeper
from gateway.dashboard.rule_history import (
    SLOTS,
    breaches_of,
    history_by_rule,
    is_checking,
    last_findings,
    runs_of,
)
from gateway.dashboard.staff import Staff
from gateway.transactions import is_away
from gateway.web.pages import HEADERS, page
from gateway.web.refusals import MissingPageError

HERE: Final = "/admin/invariants"
# What no look at a state can tell; the page says who holds it.
UNSEEN: Final = {"I13": "advancing an account more often changes nothing"}
NUMBERS: Final = [f"I{number}" for number in range(1, 18)]

log = structlog.get_logger()


class BooksController(Controller):
    path = "/invariants"

    @get()
    async def show(
        self,
        request: Request[Any, Any, Any],
        staff: NamedDependency[Staff],
        sessions: NamedDependency[SessionFactory],
    ) -> Response[str]:
        is_asked = "asked" in request.query_params
        shown = await _shown(sessions)
        return page("dashboard/invariants.html", staff=staff, is_asked=is_asked, **shown)

    @get("/rules")
    async def show_rules(
        self, staff: NamedDependency[Staff], sessions: NamedDependency[SessionFactory]
    ) -> Response[str]:
        """Give the rules alone; the page asks for them again while it is open."""
        return page("dashboard/rules.html", staff=staff, **await _shown(sessions))

    @get("/{name:str}")
    async def show_rule(
        self,
        name: FromPath[str],
        staff: NamedDependency[Staff],
        sessions: NamedDependency[SessionFactory],
    ) -> Response[str]:
        if name not in TITLES:
            raise MissingPageError
        async with sessions() as db:
            breaches, runs = await breaches_of(db, name), await runs_of(db, name)
        return page(
            "dashboard/rule.html",
            staff=staff,
            name=name,
            title=TITLES[name],
            breaches=breaches,
            runs=runs,
        )

    @post("/check", opt={"role": "support"}, status_code=303)
    async def check_now(
        self, staff: NamedDependency[Staff], sessions: NamedDependency[SessionFactory]
    ) -> Redirect:
        """Ask every rule of all the books; the answer comes once it has been asked for."""
        async with sessions.begin() as db:
            if not await is_checking(db):
                await audit.record(
                    db, actor=staff.actor, action="invariants.check", object_name="books"
                )
        asking = BackgroundTask(_check, sessions)
        return Redirect(f"{HERE}?asked=now", status_code=303, headers=HEADERS, background=asking)


async def _check(sessions: SessionFactory) -> None:
    """Ask, after the answer has left: at a million entries it takes longer than a page may."""
    try:
        await Bookkeeper(sessions).check_everything()
    except Exception as exc:
        log.warning("invariants.failed", exc_info=None if is_away(exc) else exc)


async def _shown(sessions: SessionFactory) -> dict[str, Any]:
    async with sessions() as db:
        found = {run.name: run for run in await last_findings(db)}
        history = await history_by_rule(db)
        checking = await is_checking(db)
    last = max((run.started_at for run in found.values()), default=None)
    return {
        "rules": [
            {
                "name": name,
                "title": TITLES.get(name) or UNSEEN[name],
                "run": found.get(name),
                "slots": history.get(name, []),
                "is_seen": name in TITLES,
            }
            for name in NUMBERS
        ],
        "last": last,
        "age": datetime.now(UTC) - last if last else timedelta(0),
        "broken": [name for name, run in found.items() if not run.is_ok],
        "broken_lately": [
            name for name, slots in history.items() if any(slot.breaches for slot in slots)
        ],
        "is_checking": checking,
        "slots": SLOTS,
    }
