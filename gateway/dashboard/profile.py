"""One's own sign-in: the password, and one-time codes."""

from datetime import UTC, datetime
from typing import Any

from litestar import Controller, Request, Response, get, post
from litestar.di import NamedDependency
from litestar.response import Redirect
from markupsafe import Markup
from sqlalchemy.ext.asyncio import AsyncSession

from billing import audit
from billing.db import SessionFactory
from billing.staff_tables import AdminUser
from gateway.dashboard.codes import forget_codes, picture_of, secret_of, step_of_code
from gateway.dashboard.sign_in import address_of
from gateway.dashboard.staff import (
    Staff,
    at_the_door,
    is_password_of,
    note_attempt,
    set_password,
    wait_for_attempt,
)
from gateway.settings import Settings
from gateway.web.pages import HEADERS, page
from gateway.web.refusals import FormError

HERE = "/admin/profile"


class ProfileController(Controller):
    path = "/profile"

    @get()
    async def show(
        self,
        staff: NamedDependency[Staff],
        settings: NamedDependency[Settings],
        sessions: NamedDependency[SessionFactory],
    ) -> Response[str]:
        async with sessions() as db:
            user = await db.get_one(AdminUser, staff.admin_user_id)
        secret = secret_of(settings, user.id, user.totp_version)
        picture = Markup(picture_of(secret, user.email))  # noqa: S704 - drawn by segno from base32
        return page("dashboard/profile.html", staff=staff, secret=secret, picture=picture)

    @post("/password", opt={"role": "viewer"}, status_code=303)
    async def change_password(
        self,
        request: Request[Any, Any, Any],
        staff: NamedDependency[Staff],
        sessions: NamedDependency[SessionFactory],
    ) -> Redirect:
        form = await request.form()
        await _check_password(sessions, staff, request, form)
        async with sessions.begin() as db:
            user = await _own(db, staff)
            await set_password(db, user, str(form.get("new", "")), actor=staff.actor)
        return Redirect("/admin/sign-in", status_code=303, headers=HEADERS)

    @post("/codes", opt={"role": "viewer"}, status_code=303)
    async def turn_codes_on(
        self,
        request: Request[Any, Any, Any],
        staff: NamedDependency[Staff],
        settings: NamedDependency[Settings],
        sessions: NamedDependency[SessionFactory],
    ) -> Redirect:
        code = str((await request.form()).get("code", ""))
        async with sessions.begin() as db:
            user = await _own(db, staff)
            secret = secret_of(settings, user.id, user.totp_version)
            step = step_of_code(secret, code, datetime.now(UTC), last_step=user.totp_last_step)
            if step is None:
                raise FormError("This is not the code that the app shows now.")
            user.is_totp_on, user.totp_last_step = True, step
            await audit.record(
                db,
                actor=staff.actor,
                action="admin.codes_on",
                object_name=f"admin:{staff.email}",
            )
        return Redirect(HERE, status_code=303, headers=HEADERS)

    @post("/codes/off", opt={"role": "viewer"}, status_code=303)
    async def turn_codes_off(
        self,
        request: Request[Any, Any, Any],
        staff: NamedDependency[Staff],
        sessions: NamedDependency[SessionFactory],
    ) -> Redirect:
        form = await request.form()
        await _check_password(sessions, staff, request, form)
        async with sessions.begin() as db:
            user = await _own(db, staff)
            await forget_codes(db, user, actor=staff.actor)
        return Redirect(HERE, status_code=303, headers=HEADERS)


async def _own(db: AsyncSession, staff: Staff) -> AdminUser:
    return await db.get_one(AdminUser, staff.admin_user_id, with_for_update=True)


async def _check_password(
    sessions: SessionFactory, staff: Staff, request: Request[Any, Any, Any], form: Any
) -> None:
    """Ask for the password again; guesses count as at the door, and are noted if refused.

    Raises:
        FormError: it is wrong, or too many were.
    """
    address = address_of(request)
    async with at_the_door, sessions.begin() as db:
        if await wait_for_attempt(db, staff.email, address):
            raise FormError("Too many attempts. Try again in a quarter of an hour.")
        user = await _own(db, staff)
        is_right = await is_password_of(user, str(form.get("password", "")))
        await note_attempt(db, staff.email, address, is_ok=is_right)
    if not is_right:
        raise FormError("The password is wrong.")
