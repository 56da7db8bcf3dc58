"""What a guard of signed-in pages checks first: the session, and where forms come from.

Each room has a guard of its own, which says who may do what; both stand on `signed_in`.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar
from urllib.parse import quote, urlsplit

from litestar import HttpMethod, MediaType, Request, Response
from litestar.connection import ASGIConnection
from litestar.response import Redirect

from gateway.web.cookies import FORM_WORD, SessionCookie, check_form_word
from gateway.web.pages import HEADERS
from gateway.web.refusals import MissingPageError

READING: Final = {HttpMethod.GET, HttpMethod.HEAD, HttpMethod.OPTIONS}
FORM_BYTES_MAX: Final = 64 * 1024
"""Of what a page sends: strangers send forms, too, and each is read whole before it is judged."""
PUBLIC: Final = "public"
"""What a handler needs that lets everybody in, as the form does that signs in."""

Person = TypeVar("Person")


class SignInNeededError(Exception):
    """Nobody is signed in here, or the session has ended."""


def as_request(connection: ASGIConnection[Any, Any, Any, Any]) -> Request[Any, Any, Any]:
    """Read what a guard is asked about.

    Raises:
        MissingPageError: its path has a NUL, which names nothing and the database cannot look for.
    """
    if "\x00" in connection.scope["path"]:
        raise MissingPageError
    return connection if isinstance(connection, Request) else Request(connection.scope)


def is_reading(request: Request[Any, Any, Any]) -> bool:
    return request.method in READING


async def signed_in(
    request: Request[Any, Any, Any],
    cookie: SessionCookie,
    find: Callable[[str], Awaitable[Person | None]],
) -> Person:
    """Find who is signed in; what they send has to come from a page of theirs.

    Raises:
        SignInNeededError: no session.
        ForgedFormError: something is sent that no page of this session has made.
    """
    secret = cookie.secret_of(request)
    person = await find(secret) if secret else None
    if person is None or secret is None:
        raise SignInNeededError
    if not is_reading(request):
        word = (await request.form()).get(FORM_WORD)
        check_form_word(word if isinstance(word, str) else None, secret)
    return person


def to_sign_in(request: Request[Any, Any, Any], sign_in: str) -> Response[Any]:
    """Send a browser to a sign-in page, and back afterwards where it only wanted to read."""
    if "hx-request" in request.headers:  # else the form would stand inside the page that asked
        page = urlsplit(request.headers.get("hx-current-url", ""))
        headers = {**HEADERS, "HX-Redirect": f"{sign_in}?next={_wanted(page.path, page.query)}"}
        return Response(b"", headers=headers, media_type=MediaType.HTML)
    wanted = _wanted(request.url.path, request.url.query)
    target = f"{sign_in}?next={wanted}" if is_reading(request) else sign_in
    return Redirect(target, status_code=303, headers=HEADERS)


def _wanted(path: str, query: str) -> str:
    return quote(f"{path}?{query}" if query else path)


def inside(target: str, room: str) -> str:
    """Go on to a page of `room`, never to wherever a link says."""
    is_ours = target == room or target.startswith((f"{room}/", f"{room}?"))
    is_page = not target.startswith(f"{room}/sign-")
    return target if is_ours and is_page and "\\" not in target and "//" not in target else room
