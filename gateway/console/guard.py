"""Nobody past this point without a session, the scope, and, where something is sent, our own form.

One guard for the whole of `/console`. Looking needs a key with the scope `read`; a handler that
changes something needs `admin` unless it names another by `opt={"scope": …}`, so that forgetting
it closes a door.
"""

from functools import partial
from typing import Any, Final

from litestar import Request, Response
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from litestar.types import ExceptionHandlersMap

from gateway.console.sessions import ConsoleSessions
from gateway.console.visitor import Visitor
from gateway.limits import Limits
from gateway.web.cookies import check_origin
from gateway.web.guard import (
    PUBLIC,
    SignInNeededError,
    as_request,
    is_reading,
    signed_in,
    to_sign_in,
)
from gateway.web.refusals import PageError, answer_with_page

SIGN_IN: Final = "/console/sign-in"
RATE_PER_MINUTE: Final = 600
"""Pages and pictures that one key may ask for; they cost nothing of its rate for calls."""
BURST: Final = 200


class ScopeError(PageError):
    """The key lacks the scope for this."""

    status = 403
    title = "This key may not do that"

    def __init__(self, needed: str) -> None:
        super().__init__(needed)
        self.needed = needed

    @property
    def hint(self) -> str:
        return f"It needs the scope “{self.needed}”. Sign in with a key that has it."


async def let_visitors_in(
    connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler
) -> None:
    """Put who is signed in where handlers find it (`visitor`), or refuse.

    Raises:
        SignInNeededError: no session, or its key has ended or may not be used from here.
        ScopeError: the key lacks the scope.
        ForgedFormError: something is sent that no page of this session has made.
        RateLimitedError: the key asks for too many pages.
    """
    request = as_request(connection)
    house = request.app.state.house
    if not is_reading(request):
        check_origin(request, house.settings.public_url)
    needed = handler.opt.get("scope", "read" if is_reading(request) else "admin")
    if needed == PUBLIC:
        return
    console: ConsoleSessions = house.console_sessions
    # What a page asks for by itself, every few seconds, keeps nobody signed in.
    is_used = "hx-request" not in request.headers
    find = partial(console.find, address=address_of(request), is_used=is_used)
    visitor: Visitor = await signed_in(request, console.cookie, find)
    request.state.visitor = visitor
    limits: Limits = house.limits
    bucket = f"console:{visitor.key.api_key_id}"
    await limits.take(bucket, rate_per_minute=RATE_PER_MINUTE, burst=BURST)
    if not visitor.may(needed):
        raise ScopeError(needed)


def visitor_of(request: Request[Any, Any, Any]) -> Visitor:
    """Give who is signed in, past the guard."""
    visitor: Visitor = request.state.visitor
    return visitor


def address_of(request: Request[Any, Any, Any]) -> str:
    """The peer's address; behind a proxy the server has put the forwarded one in its place."""
    return request.client.host if request.client else "unknown"


def ask_to_sign_in(request: Request[Any, Any, Any], _: Exception) -> Response[Any]:
    return to_sign_in(request, SIGN_IN)


EXCEPTION_HANDLERS: Final[ExceptionHandlersMap] = {
    SignInNeededError: ask_to_sign_in,
    Exception: answer_with_page,
}
