"""Doing something to an account: a form, a confirmation that shows the effect, the deed.

The confirmation rehearses the act and takes it back, so what it shows is what the ledger will do;
the deed carries the id of its confirmation, so that it is done once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Final
from uuid import UUID, uuid4

from litestar import Controller, Request, Response, get, post
from litestar.di import NamedDependency, Provide
from litestar.params import FromPath
from litestar.response import Redirect
from sqlalchemy.ext.asyncio import AsyncSession

from billing import acts as billing_acts
from billing.acts import Effect, Snapshot
from billing.db import SessionFactory, transact
from billing.directory import price_list
from billing.errors import BillingError
from billing.keys import KeyHasher
from gateway.cutouts import Cutouts
from gateway.dashboard.act_forms import DAY, Act, Deed, Facts, Tools, Values, read_reason
from gateway.dashboard.credit_acts import CREDIT_ACTS
from gateway.dashboard.key_acts import KEY_ACTS
from gateway.dashboard.staff import Staff
from gateway.dashboard.standing_acts import OPEN, STANDING_ACTS
from gateway.dashboard.work_acts import WORK_ACTS
from gateway.reruns import Reruns
from gateway.settings import Settings
from gateway.web.pages import HEADERS, moment, page
from gateway.web.refusals import FormError, MissingPageError, RoleError

ACTS: Final[Mapping[str, Act]] = {
    act.name: act for act in (*CREDIT_ACTS, *STANDING_ACTS, *KEY_ACTS, *WORK_ACTS)
}
HERE: Final = "/admin/accounts"
LEAST_ROLE: Final = "support"
"""Of anybody who may do anything at all; each act then says its own."""
LABELS: Final = {
    "name": "Name",
    "status": "Status",
    "plan": "Plan",
    "next_plan": "Plan after this period",
    "period_end": "Period ends",
    "available": "Available",
    "held": "Held",
    "consumed": "Consumed in all",
    "expired": "Expired in all",
    "credit_limit": "Credit limit",
    "open_grants": "Open grants",
    "keys": "Working keys",
}

Form = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Asked:
    """Who asks for which act on which account (none yet, where it is to be opened)."""

    staff: Staff
    act: Act
    account_id: UUID | None
    account: Snapshot | None = None
    about: Sequence[tuple[str, str]] = ()
    plans: Sequence[tuple[str, str]] = ()

    def page(self, template: str, *, status: int = 200, **shown: Any) -> Response[str]:
        known = {field.name: getattr(self, field.name) for field in fields(self)}
        return page(template, status=status, **known, **shown)


def tools_of(
    settings: NamedDependency[Settings],
    sessions: NamedDependency[SessionFactory],
    cutouts: NamedDependency[Cutouts],
) -> Tools:
    """Gather what acts need from what the house has."""
    return Tools(
        sessions=sessions,
        hasher=KeyHasher(settings.peppers),
        reruns=Reruns(sessions, cutouts.storage, cutouts.bell, settings),
    )


class ActsController(Controller):
    path = "/accounts"
    dependencies = {"tools": Provide(tools_of, sync_to_thread=False)}  # noqa: RUF012 - Litestar's way

    @get("/new", opt={"role": OPEN.role})
    async def ask_for_account(
        self, staff: NamedDependency[Staff], tools: NamedDependency[Tools]
    ) -> Response[str]:
        return _show_form(await _asked_to_open(staff, tools), {})

    @post("/new", opt={"role": OPEN.role}, status_code=200)
    async def open_account(
        self,
        request: Request[Any, Any, Any],
        staff: NamedDependency[Staff],
        tools: NamedDependency[Tools],
    ) -> Response[Any]:
        return await _take(await _asked_to_open(staff, tools), await request.form(), tools)

    @get("/{account_id:uuid}/acts/{name:str}", opt={"role": LEAST_ROLE})
    async def ask(
        self,
        request: Request[Any, Any, Any],
        account_id: FromPath[UUID],
        name: FromPath[str],
        staff: NamedDependency[Staff],
        tools: NamedDependency[Tools],
    ) -> Response[str]:
        said = {key: values[-1] for key, values in request.query_params.dict().items()}
        return _show_form(await _asked(staff, name, account_id, said, tools), said)

    @post("/{account_id:uuid}/acts/{name:str}", opt={"role": LEAST_ROLE}, status_code=200)
    async def act(
        self,
        request: Request[Any, Any, Any],
        account_id: FromPath[UUID],
        name: FromPath[str],
        staff: NamedDependency[Staff],
        tools: NamedDependency[Tools],
    ) -> Response[Any]:
        form = await request.form()
        return await _take(await _asked(staff, name, account_id, form, tools), form, tools)


def _act(staff: Staff, name: str) -> Act:
    act = ACTS.get(name)
    if act is None:
        raise MissingPageError
    if not staff.may(act.role):
        raise RoleError(act.role)
    return act


async def _asked(staff: Staff, name: str, account_id: UUID, said: Form, tools: Tools) -> Asked:
    """Read what an act is about.

    Raises:
        MissingPageError: there is no such act, account, or thing of that account's.
        RoleError: it takes more than this person's role.
    """
    act = _act(staff, name)
    async with tools.sessions() as db:
        account = await billing_acts.snapshot_of(db, account_id)
        if account is None:
            raise MissingPageError
        about = await _about(db, act, account_id, said)
        return Asked(staff, act, account_id, account, about, await _plans(db))


async def _asked_to_open(staff: Staff, tools: Tools) -> Asked:
    async with tools.sessions() as db:
        return Asked(staff, OPEN, None, plans=await _plans(db))


async def _plans(db: AsyncSession) -> list[tuple[str, str]]:
    offered = await price_list(db)
    return [(plan, f"{plan}: {monthly:,} credits a month") for plan, monthly in offered]


async def _about(db: AsyncSession, act: Act, account_id: UUID, said: Form) -> list[tuple[str, str]]:
    """Tell what the act is about, once that is its account's own."""
    if act.subject is None or act.describe is None:
        return []
    try:
        values = {act.subject.name: act.subject.read(said)}
    except FormError:
        raise MissingPageError from None
    found = await act.describe(db, account_id, values)
    return [(label, _told(value)) for label, value in found]


def _told(value: Any) -> str:
    return f"{moment(value)} UTC" if isinstance(value, datetime) else str(value)


def _show_form(asked: Asked, said: Form, *, error: str = "", status: int = 200) -> Response[str]:
    return asked.page("dashboard/act_form.html", status=status, said={**said}, error=error)


async def _take(asked: Asked, form: Form, tools: Tools) -> Response[Any]:
    """Confirm what was asked, or do what was confirmed; ask again where that cannot be done."""
    act = asked.act
    try:
        values: Values = {field.name: field.read(form) for field in act.fields}
        form_id, actor = _form_id(form), asked.staff.actor
        said = [f"{name}={value}" for name, value in values.items()]
        act_id = billing_acts.act_id_of(form_id, actor, act.name, asked.account_id, *said)
        deed = Deed(act_id, asked.account_id or act_id, actor, read_reason(form), values, tools)
        if form.get("stage") == "do":
            return await _do(asked, deed)
        return await _confirm(asked, deed, form, form_id)
    except (BillingError, FormError) as exc:
        error = str(exc) or "This cannot be done."
        return _show_form(asked, form, error=error, status=FormError.status)


def _form_id(form: Form) -> UUID:
    """Read a confirmation's id, of which the act's is made; before one it is made here."""
    if form.get("stage") != "do":
        return uuid4()
    try:
        return UUID(str(form.get("form_id", "")))
    except ValueError:
        raise FormError("This form is not whole. Go back and send it again.") from None


async def _confirm(asked: Asked, deed: Deed, form: Form, form_id: UUID) -> Response[str]:
    """Show what would be done, and do nothing."""
    act = asked.act

    async def rehearse(db: AsyncSession) -> Effect:
        return await billing_acts.rehearse(db, deed.account_id, lambda db: act.perform(db, deed))

    async def tell(db: AsyncSession) -> Facts:
        return await act.preview(db, deed) if act.preview else ()

    told = {label: _told(value) for label, value in await transact(deed.tools.sessions, tell)}
    effect = await transact(deed.tools.sessions, rehearse)
    return asked.page(
        "dashboard/act_check.html",
        answers=list((dict(_answers(act, deed.values)) | told).items()),
        said={**form},
        deed=deed,
        form_id=form_id,
        changes=changes_of(effect),
        traces=effect.traces,
    )


def changes_of(effect: Effect) -> list[tuple[str, str, str, int | None]]:
    """List what an act changes of an account: the label, now, afterwards, and by how much."""
    changes = []
    for field in fields(Snapshot):
        before = getattr(effect.before, field.name) if effect.before else None
        after = getattr(effect.after, field.name) if effect.after else None
        if before == after:
            continue
        by = after - before if isinstance(after, int) and isinstance(before, int) else None
        changes.append((LABELS[field.name], _shown(before), _shown(after), by))
    return changes


def _shown(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else _told(value)


def _answers(act: Act, values: Values) -> list[tuple[str, str]]:
    """Repeat what was asked for, in the form's own words."""
    told = []
    for field in act.fields:
        value = values[field.name]
        if field.kind == "fixed" or value is None:
            continue
        # A day is kept as the moment of its end, and repeated as it was typed.
        words = f"{value - DAY:%Y-%m-%d}" if field.kind == "date" else _shown(value)
        told.append((field.label, dict(field.choices).get(value, words)))
    return told


async def _do(asked: Asked, deed: Deed) -> Response[Any]:
    """Do it, unless it was done; show what is shown once, or go to the account."""
    act = asked.act
    if act.execute is not None:
        await act.execute(deed)
        return _to_account(deed, act, is_new=True)

    async def work(db: AsyncSession) -> tuple[bool, str | None]:
        if not await billing_acts.claim(db, deed.act_id, actor=deed.actor, action=act.name):
            return False, None
        return True, await act.perform(db, deed)

    is_new, secret = await transact(deed.tools.sessions, work)
    if secret is None:
        return _to_account(deed, act, is_new=is_new)
    return asked.page("dashboard/act_done.html", secret=secret)


def _to_account(deed: Deed, act: Act, *, is_new: bool) -> Redirect:
    word = act.name if is_new else "nothing"
    return Redirect(f"{HERE}/{deed.account_id}?done={word}", status_code=303, headers=HEADERS)


def done_words(name: str) -> str:
    """Say what was done, on the page that follows."""
    if name == "nothing":
        return "That was done before; nothing was done again."
    act = OPEN if name == OPEN.name else ACTS.get(name)
    return act.done if act else ""
