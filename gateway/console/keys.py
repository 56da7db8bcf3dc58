"""The account's keys: listed, made, rotated, revoked, as far as the signed-in key reaches."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from uuid import UUID, uuid4

from litestar import Controller, Request, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath
from litestar.response import Redirect
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from billing.db import SessionFactory
from billing.key_lists import KeyLine, count_keys, ended_keys, living_keys
from billing.keys import create_key, end_of, revoke_key, rotate_key
from billing.periods import live_subscription
from billing.tables import ApiKey, KeyBudget, PlanVersion
from gateway.console.guard import SIGN_IN
from gateway.console.powers import LABELS, Hands, kinds_for, order_of
from gateway.console.sessions import ConsoleSessions
from gateway.console.visitor import Visitor, shown
from gateway.web.pages import HEADERS, page
from gateway.web.paging import page_number, pager_for
from gateway.web.refusals import ActRefusedError, FormError, MissingPageError

HERE: Final = "/console/keys"
KEYS_MAX: Final = 100
"""That live, of one account."""
ENDED_SHOWN: Final = 10
ENDED_A_PAGE: Final = 50
GRACES: Final = {
    "24": "24 hours",
    "1": "1 hour",
    "168": "7 days",
    "0": "none: the old key ends now",
}
SCOPE_WORDS: Final = {
    "cutout": "make cutouts",
    "read": "look at balance, usage and statement",
    "admin": "all of it, and manage keys and webhooks",
}
USUAL_SCOPES: Final = ("cutout", "read")
DONE: Final = {"revoked": "The key is revoked: its calls are refused within 5 seconds."}
REASON_LENGTH_MAX: Final = 500
SENT_BEFORE: Final = "This form was sent before: its key is made, and not shown again."


@dataclass(frozen=True, slots=True)
class ListedKey:
    """A key, and what the visitor's may do to it."""

    line: KeyLine
    shown: str
    is_mine: bool
    budget_used: int
    may_rotate: bool
    may_revoke: bool


class KeysController(Controller):
    path = "/keys"

    @get()
    async def show_all(
        self,
        request: Request[Any, Any, Any],
        visitor: NamedDependency[Visitor],
        sessions: NamedDependency[SessionFactory],
    ) -> Response[str]:
        async with sessions() as db:
            counts = await count_keys(db, visitor.account_id)
            living = await living_keys(db, visitor.account_id)
            ended = await ended_keys(db, visitor.account_id, rows_max=ENDED_SHOWN)
            listed = await _listed(db, visitor, [*living, *ended])
        return page(
            "console/keys.html",
            visitor=visitor,
            done=DONE.get(request.query_params.get("done", ""), ""),
            counts=counts,
            living=listed[: len(living)],
            ended=listed[len(living) :],
        )

    @get("/ended")
    async def show_ended(
        self,
        request: Request[Any, Any, Any],
        visitor: NamedDependency[Visitor],
        sessions: NamedDependency[SessionFactory],
    ) -> Response[str]:
        number = page_number(request)
        passed = (number - 1) * ENDED_A_PAGE
        async with sessions() as db:
            count = (await count_keys(db, visitor.account_id)).ended
            ended = await ended_keys(
                db, visitor.account_id, rows_max=ENDED_A_PAGE, rows_passed=passed
            )
            listed = await _listed(db, visitor, ended)
        return page(
            "console/keys_ended.html",
            visitor=visitor,
            count=count,
            listed=listed,
            pager=pager_for(
                number,
                rows_passed=passed,
                shown=len(listed),
                count=count,
                address=lambda beside: f"{HERE}/ended?page={beside}",
            ),
        )

    @get("/new", opt={"scope": "admin"}, sync_to_thread=False)
    def ask_new(self, visitor: NamedDependency[Visitor]) -> Response[str]:
        return _show_form(visitor, uuid4(), {}, USUAL_SCOPES)

    @post(status_code=201)
    async def make(
        self,
        request: Request[Any, Any, Any],
        visitor: NamedDependency[Visitor],
        sessions: NamedDependency[SessionFactory],
        console_sessions: NamedDependency[ConsoleSessions],
    ) -> Response[str]:
        form = await request.form()
        scopes = [str(scope) for scope in form.getall("scope", [])]
        try:
            new_id = _form_id(str(form.get("new_id", "")))
            order = order_of(form, scopes, visitor)
        except FormError as exc:
            return _show_form(visitor, uuid4(), form, scopes, error=exc)
        try:
            async with sessions.begin() as db:
                await _check_room(db, visitor, new_id)
                key, plaintext = await create_key(
                    db,
                    console_sessions.hasher,
                    account_id=visitor.account_id,
                    api_key_id=new_id,
                    actor=visitor.actor,
                    **order,
                )
        except IntegrityError:  # the same form came at the same moment, and was first
            raise ActRefusedError(SENT_BEFORE) from None
        return _made(visitor, key, plaintext)

    @get("/{key_id:str}/rotate", opt={"scope": "admin"})
    async def ask_rotate(
        self,
        key_id: FromPath[str],
        visitor: NamedDependency[Visitor],
        sessions: NamedDependency[SessionFactory],
    ) -> Response[str]:
        async with sessions() as db:
            key, hands = await _own(db, visitor, key_id)
        hands.check_rotate(key)
        return page(
            "console/key_rotate.html", visitor=visitor, key=key, shown=shown(key), graces=GRACES
        )

    @post("/{key_id:str}/rotate", status_code=201)
    async def rotate(
        self,
        request: Request[Any, Any, Any],
        key_id: FromPath[str],
        visitor: NamedDependency[Visitor],
        sessions: NamedDependency[SessionFactory],
        console_sessions: NamedDependency[ConsoleSessions],
    ) -> Response[str]:
        hours = str((await request.form()).get("grace", ""))
        if hours not in GRACES:
            raise FormError("Choose how long the old key works on.")
        async with sessions.begin() as db:
            key, hands = await _own(db, visitor, key_id)
            hands.check_rotate(key)
            new, plaintext = await rotate_key(
                db,
                console_sessions.hasher,
                key.id,
                grace=timedelta(hours=int(hours)),
                actor=visitor.actor,
            )
            await db.refresh(key)
        return _made(visitor, new, plaintext, former=key)

    @get("/{key_id:str}/revoke", opt={"scope": "admin"})
    async def ask_revoke(
        self,
        key_id: FromPath[str],
        visitor: NamedDependency[Visitor],
        sessions: NamedDependency[SessionFactory],
    ) -> Response[str]:
        async with sessions() as db:
            key, hands = await _own(db, visitor, key_id)
        hands.check_revoke(key)
        return page(
            "console/key_revoke.html",
            visitor=visitor,
            key=key,
            shown=shown(key),
            is_mine=key.id == visitor.api_key.id,
        )

    @post("/{key_id:str}/revoke", status_code=303)
    async def revoke(
        self,
        request: Request[Any, Any, Any],
        key_id: FromPath[str],
        visitor: NamedDependency[Visitor],
        sessions: NamedDependency[SessionFactory],
    ) -> Redirect:
        said = str((await request.form()).get("reason", ""))
        reason = said.replace("\x00", "").strip()[:REASON_LENGTH_MAX]
        async with sessions.begin() as db:
            key, hands = await _own(db, visitor, key_id)
            hands.check_revoke(key)
            await revoke_key(db, key.id, actor=visitor.actor, reason=reason)
        is_mine = key.id == visitor.api_key.id
        target = f"{SIGN_IN}?why=revoked" if is_mine else f"{HERE}?done=revoked"
        return Redirect(target, status_code=303, headers=HEADERS)


def _form_id(said: str) -> UUID:
    """Read the id that a form was made with: sent twice it makes one key."""
    try:
        return UUID(said)
    except ValueError:
        raise FormError("This form was not whole. Look through it and send it again.") from None


def _show_form(
    visitor: Visitor,
    new_id: UUID,
    said: Mapping[str, Any],
    scopes: Collection[str],
    *,
    error: FormError | None = None,
) -> Response[str]:
    """Ask for a new key; again, with what was said, where that could not be taken."""
    return page(
        "console/key_new.html",
        status=error.status if error else 200,
        visitor=visitor,
        new_id=new_id,
        kinds=kinds_for(visitor),
        scope_words=SCOPE_WORDS,
        end=end_of(visitor.api_key),
        said={name: str(value) for name, value in said.items()},
        scopes=scopes,
        labels=LABELS,
        error=error.hint if error else "",
    )


def _made(
    visitor: Visitor, key: ApiKey, plaintext: str, former: ApiKey | None = None
) -> Response[str]:
    """Show a key's text, this once."""
    return page(
        "console/key_made.html",
        status=201,
        visitor=visitor,
        key=key,
        plaintext=plaintext,
        former=former,
        former_shown=shown(former) if former else "",
    )


async def _check_room(db: AsyncSession, visitor: Visitor, new_id: UUID) -> None:
    if await db.get(ApiKey, new_id) is not None:
        raise ActRefusedError(SENT_BEFORE)
    if (await count_keys(db, visitor.account_id)).living >= KEYS_MAX:
        raise ActRefusedError(f"An account has at most {KEYS_MAX} keys. Revoke one first.")


async def _own(db: AsyncSession, visitor: Visitor, key_id: str) -> tuple[ApiKey, Hands]:
    """Find a key of this account; another's is not there.

    Raises:
        MissingPageError: this account has no such key.
    """
    chosen = select(ApiKey).where(ApiKey.key_id == key_id, ApiKey.account_id == visitor.account_id)
    key = await db.scalar(chosen)
    if key is None:
        raise MissingPageError
    return key, await _hands(db, visitor)


async def _hands(db: AsyncSession, visitor: Visitor) -> Hands:
    subscription = await live_subscription(db, visitor.account_id)
    if subscription is None:
        raise MissingPageError  # the account was closed a moment ago, and all its keys with it
    return Hands(visitor, await db.get_one(PlanVersion, subscription.plan_version_id))


async def _listed(db: AsyncSession, visitor: Visitor, lines: Sequence[KeyLine]) -> list[ListedKey]:
    """Tell of each key what it has spent, and what the visitor's may do to it."""
    hands = await _hands(db, visitor)
    subscription = await live_subscription(db, visitor.account_id)
    spent = select(KeyBudget).where(
        KeyBudget.api_key_id.in_([line.key.root_id or line.key.id for line in lines]),
        KeyBudget.period_start == (subscription.period_start if subscription else None),
    )
    used = {budget.api_key_id: budget.used for budget in await db.scalars(spent)}
    return [
        ListedKey(
            line=line,
            shown=shown(line.key),
            is_mine=line.key.id == visitor.api_key.id,
            budget_used=used.get(line.key.root_id or line.key.id, 0),
            may_rotate=line.state == "active" and hands.may_rotate(line.key),
            may_revoke=line.is_living and hands.may_revoke(line.key),
        )
        for line in lines
    ]
