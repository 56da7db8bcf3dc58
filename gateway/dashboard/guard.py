"""Nobody past this point without a session, a role, and, where something is sent, our own form.

One guard for the whole of `/admin`. A handler names the role it needs by `opt={"role": …}`; one
that changes something and names none needs an owner, so that forgetting it closes a door.
"""

from functools import partial
from typing import Any, Final

from litestar import Request, Response
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from litestar.types import ExceptionHandlersMap

from gateway.dashboard.staff import ROLES, Staff
from gateway.web.cookies import check_origin
from gateway.web.guard import (
    PUBLIC,
    SignInNeededError,
    as_request,
    is_reading,
    signed_in,
    to_sign_in,
)
from gateway.web.refusals import RoleError, answer_with_page

SIGN_IN: Final = "/admin/sign-in"


async def let_staff_in(
    connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler
) -> None:
    """Put who is signed in where handlers find it (`staff`), or refuse.

    Raises:
        SignInNeededError: no session.
        RoleError: the role is too small.
        ForgedFormError: something is sent that no page of this session has made.
    """
    request = as_request(connection)
    house = request.app.state.house
    if not is_reading(request):
        check_origin(request, house.settings.public_url)
    needed = handler.opt.get("role", ROLES[0] if is_reading(request) else ROLES[-1])
    if needed == PUBLIC:
        return
    # What a page asks for by itself, every few seconds, keeps nobody signed in.
    find = partial(house.staff_sessions.find, is_used="hx-request" not in request.headers)
    staff: Staff = await signed_in(request, house.staff_sessions.cookie, find)
    request.state.staff = staff
    if not staff.may(needed):
        raise RoleError(needed)


def staff_of(request: Request[Any, Any, Any]) -> Staff:
    """Give who is signed in, past the guard."""
    staff: Staff = request.state.staff
    return staff


def ask_to_sign_in(request: Request[Any, Any, Any], _: Exception) -> Response[Any]:
    return to_sign_in(request, SIGN_IN)


EXCEPTION_HANDLERS: Final[ExceptionHandlersMap] = {
    SignInNeededError: ask_to_sign_in,
    Exception: answer_with_page,
}
