"""The door of the dashboard: signing in and out."""

from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from litestar import Controller, Request, Response, get, post
from litestar.di import NamedDependency
from litestar.response import Redirect
from sqlalchemy.ext.asyncio import AsyncSession

from billing.db import SessionFactory
from billing.staff_tables import AdminUser
from gateway.dashboard.act_forms import plain
from gateway.dashboard.codes import secret_of, step_of_code
from gateway.dashboard.sessions import StaffSessions
from gateway.dashboard.staff import (
    at_the_door,
    find_staff,
    is_password_of,
    note_attempt,
    wait_for_attempt,
)
from gateway.limits import bucket_for
from gateway.settings import Settings
from gateway.web.guard import PUBLIC, inside
from gateway.web.pages import HEADERS, page, span
from gateway.web.refusals import FormError

WRONG = "The email, the password or the code is wrong."

log = structlog.get_logger()


class SignInController(Controller):
    @get("/sign-in", opt={"role": PUBLIC}, sync_to_thread=False)
    def show(self, request: Request[Any, Any, Any]) -> Response[str]:
        return _form(target=request.query_params.get("next", ""))

    @post("/sign-in", opt={"role": PUBLIC}, status_code=200)
    async def sign_in(
        self,
        request: Request[Any, Any, Any],
        settings: NamedDependency[Settings],
        sessions: NamedDependency[SessionFactory],
        staff_sessions: NamedDependency[StaffSessions],
    ) -> Response[Any]:
        form = await request.form()
        email = plain(str(form.get("email", ""))).lower()[:254]
        target = str(form.get("next", ""))
        address = address_of(request)
        async with at_the_door, sessions.begin() as db:
            if wait := await wait_for_attempt(db, email, address):
                return _closed(email, target, wait)
            user = await _person(db, settings, email, form)
            await note_attempt(db, email, address, is_ok=user is not None)
            if user is None:
                log.warning("sign_in.refused", address=address)
                return _form(target=target, email=email, error=WRONG, status=403)
            secret = await staff_sessions.open(db, user)
        answer = Redirect(inside(target, "/admin"), status_code=303, headers=HEADERS)
        answer.cookies.append(staff_sessions.cookie.issue(secret))
        return answer

    @post("/sign-out", opt={"role": "viewer"}, status_code=303)
    async def sign_out(
        self,
        request: Request[Any, Any, Any],
        staff_sessions: NamedDependency[StaffSessions],
    ) -> Redirect:
        await staff_sessions.close(staff_sessions.cookie.secret_of(request) or "")
        answer = Redirect("/admin/sign-in", status_code=303, headers=HEADERS)
        answer.cookies.append(staff_sessions.cookie.forget())
        return answer


def address_of(request: Request[Any, Any, Any]) -> str:
    """Give what attempts are counted by: of IPv6 the /64, since its owner has all of that."""
    return bucket_for(request.client.host if request.client else "unknown")


async def _person(db: AsyncSession, settings: Settings, email: str, form: Any) -> AdminUser | None:
    """Find whose email, password and, where they have set it up, code these are."""
    try:
        user = await find_staff(db, email)
    except FormError:
        user = None
    if not await is_password_of(user, str(form.get("password", ""))) or user is None:
        return None
    if user.is_totp_on:
        secret = secret_of(settings, user.id, user.totp_version)
        step = step_of_code(
            secret, str(form.get("code", "")), datetime.now(UTC), last_step=user.totp_last_step
        )
        if step is None:
            return None
        user.totp_last_step = step
    return user


def _form(
    *,
    target: str,
    email: str = "",
    error: str = "",
    status: int = 200,
    headers: dict[str, str] | None = None,
) -> Response[str]:
    return page(
        "dashboard/sign_in.html",
        status=status,
        headers=headers,
        next=target,
        email=email,
        error=error,
    )


def _closed(email: str, target: str, wait: timedelta) -> Response[str]:
    seconds = max(1, round(wait.total_seconds()))
    return _form(
        target=target,
        email=email,
        error=f"Too many attempts. Try again in {span(timedelta(seconds=seconds + 59))}.",
        status=429,
        headers={"Retry-After": str(seconds)},
    )
