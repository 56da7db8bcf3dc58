"""Webhooks: where alerts go, the secret they are signed with, what was told and how that went."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from litestar import Controller, Request, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath
from litestar.response import Redirect
from sqlalchemy import func, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from billing import audit
from billing.db import SessionFactory
from gateway.console.places import place_of
from gateway.console.visitor import Visitor
from gateway.errors import UrlMalformedError, UrlNotAllowedError
from gateway.fetching.reach import Reach
from gateway.settings import Settings
from gateway.tables import DELIVERED, FAILED, PENDING, WebhookDelivery, WebhookEndpoint
from gateway.web.pages import HEADERS, page
from gateway.web.refusals import ActRefusedError, FormError, MissingPageError, PageError
from gateway.webhooks import deliveries
from gateway.webhooks.deliverer import name_of
from gateway.webhooks.endpoints import rotate_secret, secrets_of, set_alert_url
from gateway.webhooks.signing import master_of, written

HERE: Final = "/console/webhooks"
STATES: Final = (PENDING, DELIVERED, FAILED)
ROWS_MAX: Final = 50
GRACES: Final = {"24": "24 hours", "1": "1 hour", "168": "7 days"}
URL_LENGTH_MAX: Final = 2_000
DONE: Final = {
    "alerts": "The alert URL is saved.",
    "no_alerts": "The alert URL is removed: no alerts are sent.",
    "replayed": "It is told again, within a second or so.",
    "rotated": "The secret is rotated: fetch the new one by “Show the secret”.",
}
OUTCOMES: Final = {
    "delivered": "delivered",
    "gone": "410: the receiver wants no more of it",
    "not_allowed": "the URL is not allowed",
    "redirect": "a redirect, which is not followed",
    "status": "another answer than 2xx",
    "timeout": "no answer in time",
    "unreachable": "not reachable",
}


class WebhooksController(Controller):
    path = "/webhooks"

    @get()
    async def show_all(
        self,
        request: Request[Any, Any, Any],
        visitor: NamedDependency[Visitor],
        sessions: NamedDependency[SessionFactory],
    ) -> Response[str]:
        return await _show_log(sessions, visitor, request.query_params)

    @post("/secret", status_code=200)
    async def show_secret(
        self,
        visitor: NamedDependency[Visitor],
        sessions: NamedDependency[SessionFactory],
        settings: NamedDependency[Settings],
    ) -> Response[str]:
        """Show the secret; that it was shown is noted in the audit trail."""
        async with sessions.begin() as db:
            await _note(db, visitor, "webhook.show_secret", f"account {visitor.account_id}")
            secrets = await secrets_of(db, visitor.account_id, master_of(settings))
        return page(
            "console/secret.html", visitor=visitor, secrets=[written(one) for one in secrets]
        )

    @post("/rotate", status_code=303)
    async def rotate(
        self,
        request: Request[Any, Any, Any],
        visitor: NamedDependency[Visitor],
        sessions: NamedDependency[SessionFactory],
    ) -> Response[Any]:
        form = await request.form()
        hours = str(form.get("grace", ""))
        if hours not in GRACES:
            wrong = FormError("Choose how long the former secret signs along.")
            return await _show_log(sessions, visitor, {}, wrong=wrong)
        async with sessions.begin() as db:
            is_done = await rotate_secret(
                db,
                visitor.account_id,
                grace=timedelta(hours=int(hours)),
                actor=visitor.actor,
                is_forced=form.get("force") == "1",
            )
        if not is_done:
            refused = ActRefusedError(
                "The former secret still signs along, and would be dropped. Tick the box if that"
                " is what you want."
            )
            return await _show_log(sessions, visitor, {}, wrong=refused)
        return _done(HERE, "rotated")

    @post("/alerts", status_code=303)
    async def set_alerts(
        self,
        request: Request[Any, Any, Any],
        visitor: NamedDependency[Visitor],
        sessions: NamedDependency[SessionFactory],
        settings: NamedDependency[Settings],
    ) -> Response[Any]:
        url = str((await request.form()).get("alert_url", "")).strip()
        try:
            _check_url(url, Reach(settings))
        except FormError as wrong:
            return await _show_log(sessions, visitor, {}, wrong=wrong, alert_url=url)
        async with sessions.begin() as db:
            await set_alert_url(db, visitor.account_id, url or None, actor=visitor.actor)
        return _done(HERE, "alerts" if url else "no_alerts")

    @get("/{delivery_id:uuid}")
    async def show(
        self,
        request: Request[Any, Any, Any],
        delivery_id: FromPath[UUID],
        visitor: NamedDependency[Visitor],
        sessions: NamedDependency[SessionFactory],
    ) -> Response[str]:
        async with sessions() as db:
            delivery = await _own(db, visitor, delivery_id)
            attempts = await deliveries.attempts_at(db, delivery.id)
        return page(
            "console/delivery.html",
            visitor=visitor,
            delivery=delivery,
            name=name_of(delivery.id),
            done=_done_words(request.query_params),
            attempts=attempts,
            outcomes=OUTCOMES,
        )

    @post("/{delivery_id:uuid}/replay", status_code=303)
    async def replay(
        self,
        delivery_id: FromPath[UUID],
        visitor: NamedDependency[Visitor],
        sessions: NamedDependency[SessionFactory],
    ) -> Redirect:
        async with sessions.begin() as db:
            delivery = await _own(db, visitor, delivery_id)
            if await deliveries.replay(db, delivery.id) is None:
                raise ActRefusedError("It is being tried already.")
            await _note(db, visitor, "webhook.replay", f"webhook_delivery {delivery_id}")
        return _done(f"{HERE}/{delivery_id}", "replayed")


async def _newest(
    db: AsyncSession, account_id: UUID, query: Mapping[str, str]
) -> list[WebhookDelivery]:
    """List a page of deliveries, and one more where there is another page."""
    chosen = select(WebhookDelivery).where(WebhookDelivery.account_id == account_id)
    if state := query.get("state"):
        if state not in STATES:
            raise MissingPageError
        chosen = chosen.where(WebhookDelivery.state == state)
    if before := query.get("before"):
        place = tuple_(WebhookDelivery.created_at, WebhookDelivery.id)
        chosen = chosen.where(place < place_of(before))
    order = (WebhookDelivery.created_at.desc(), WebhookDelivery.id.desc())
    return list(await db.scalars(chosen.order_by(*order).limit(ROWS_MAX + 1)))


async def _show_log(
    sessions: SessionFactory,
    visitor: Visitor,
    query: Mapping[str, str],
    *,
    wrong: PageError | None = None,
    alert_url: str | None = None,
) -> Response[str]:
    """Show the page of webhooks; again, with what was said, where a form could not be taken."""
    async with sessions() as db:
        told = await _newest(db, visitor.account_id, query)
        endpoint = await _endpoint(db, visitor)
        now = await db.scalar(select(func.now()))
    until = endpoint.former_secret_until
    return page(
        "console/webhooks.html",
        status=wrong.status if wrong else 200,
        visitor=visitor,
        done=_done_words(query),
        told=told[:ROWS_MAX],
        has_more=len(told) > ROWS_MAX,
        is_first=not query.get("before"),
        state=query.get("state", ""),
        states=STATES,
        endpoint=endpoint,
        alert_url=endpoint.alert_url or "" if alert_url is None else alert_url,
        error=str(wrong or ""),
        former_until=until if until and now and until > now else None,
        graces=GRACES,
    )


def _check_url(url: str, reach: Reach) -> None:
    """Let a URL pass that alerts may go to; an empty one is for no alerts.

    Raises:
        FormError: it is no such URL.
    """
    if len(url) > URL_LENGTH_MAX:
        raise FormError(f"“Alert URL” has at most {URL_LENGTH_MAX:,} characters.")
    try:
        if url:
            reach.check(url)
    except UrlMalformedError:
        raise FormError("“Alert URL” is no http or https URL.") from None
    except UrlNotAllowedError:
        raise FormError("“Alert URL” is not allowed: it has to be one of the open web.") from None


def _done(path: str, what: str) -> Redirect:
    return Redirect(f"{path}?done={what}", status_code=303, headers=HEADERS)


def _done_words(query: Mapping[str, str]) -> str:
    return DONE.get(query.get("done", ""), "")


async def _endpoint(db: AsyncSession, visitor: Visitor) -> WebhookEndpoint:
    """Read what the account has set; one that has set nothing is at its first secret."""
    found = await db.get(WebhookEndpoint, visitor.account_id)
    return found or WebhookEndpoint(account_id=visitor.account_id, secret_version=1)


async def _own(db: AsyncSession, visitor: Visitor, delivery_id: UUID) -> WebhookDelivery:
    """Find a delivery of this account; another's is not there.

    Raises:
        MissingPageError: this account has no such delivery.
    """
    chosen = select(WebhookDelivery).where(
        WebhookDelivery.id == delivery_id, WebhookDelivery.account_id == visitor.account_id
    )
    delivery: WebhookDelivery | None = await db.scalar(chosen)
    if delivery is None:
        raise MissingPageError
    return delivery


async def _note(db: AsyncSession, visitor: Visitor, action: str, object_name: str) -> None:
    await audit.record(
        db,
        actor=visitor.actor,
        action=action,
        object_name=object_name,
        account_id=visitor.account_id,
    )
