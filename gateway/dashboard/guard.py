"""Nobody past this point without a session, a role, and, where something is sent, our own form.

One guard for the whole of `/admin`. A handler names the role it needs by `opt={"role": …}`; one
that changes something and names none needs an owner, so that forgetting it closes a door.
"""

from typing import Any, Final

from litestar import HttpMethod, Request, Response
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from litestar.response import Redirect
from litestar.types import ExceptionHandlersMap

from gateway.dashboard.sessions import StaffSessions
from gateway.dashboard.staff import ROLES, Staff
from gateway.settings import Settings
from gateway.web.cookies import FORM_WORD, check_form_word, check_origin
from gateway.web.pages import HEADERS
from gateway.web.refusals import RoleError, answer_with_page

READING: Final = {HttpMethod.GET, HttpMethod.HEAD, HttpMethod.OPTIONS}
PUBLIC: Final = "public"
SIGN_IN: Final = "/admin/sign-in"


class SignInNeededError(Exception):
    """Nobody is signed in here, or the session has ended."""


async def let_staff_in(
    connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler
) -> None:
    """Put who is signed in where handlers find it (`staff`), or refuse.

    Raises:
        SignInNeededError: no session.
        RoleError: the role is too small.
        ForgedFormError: something is sent that no page of this session has made.
    """
    request = connection if isinstance(connection, Request) else Request(connection.scope)
    house = request.app.state.house
    settings: Settings = house.settings
    staff_sessions: StaffSessions = house.staff_sessions
    is_reading = request.method in READING
    if not is_reading:
        check_origin(request, settings.public_url)
    needed = handler.opt.get("role", ROLES[0] if is_reading else ROLES[-1])
    if needed == PUBLIC:
        return
    secret = staff_sessions.cookie.secret_of(request)
    staff = await staff_sessions.find(secret) if secret else None
    if staff is None or secret is None:
        raise SignInNeededError
    request.state.staff = staff
    if not staff.may(needed):
        raise RoleError(needed)
    if not is_reading:
        check_form_word((await request.form()).get(FORM_WORD), secret)


def staff_of(request: Request[Any, Any, Any]) -> Staff:
    """Give who is signed in, past the guard."""
    staff: Staff = request.state.staff
    return staff


def ask_to_sign_in(request: Request[Any, Any, Any], _: Exception) -> Response[Any]:
    """Send a browser to the sign-in page, and back afterwards where it only wanted to read."""
    target = f"{SIGN_IN}?next={request.url.path}" if request.method in READING else SIGN_IN
    return Redirect(target, status_code=303, headers=HEADERS)


EXCEPTION_HANDLERS: Final[ExceptionHandlersMap] = {
    SignInNeededError: ask_to_sign_in,
    Exception: answer_with_page,
}
