"""What a page refuses, and the page that says so.

The API's errors have shapes that programs read; these are read by a person in a browser, so they
have a table and a rendering of their own.
"""

from typing import Any, Final
from urllib.parse import SplitResult, urlsplit, urlunsplit

import structlog
from litestar import HttpMethod, Request, Response
from litestar.exceptions import HTTPException

from billing.errors import BillingError
from gateway.errors import INTERNAL, problem_for
from gateway.web.pages import page

log = structlog.get_logger()


class PageError(Exception):
    """A page or form that is refused."""

    status = 400
    title = "That did not work"


class ForgedFormError(PageError):
    """A form that did not come from a page of this session."""

    status = 403
    title = "This form is out of date"
    hint = "It was opened in another session. Go back, reload the page and send it again."


class RoleError(PageError):
    """The signed-in person's role does not allow this."""

    status = 403
    title = "Your role does not allow this"

    def __init__(self, needed: str) -> None:
        super().__init__(needed)
        self.needed = needed

    @property
    def hint(self) -> str:
        return f"It needs the role “{self.needed}”. Ask an owner."


class FormError(PageError):
    """A field of a form that cannot be taken as it is."""

    status = 422
    title = "Something in the form needs another look"

    def __init__(self, hint: str) -> None:
        super().__init__(hint)
        self.hint = hint


class ActRefusedError(PageError):
    """The act makes no sense any more, for instance because somebody did it already."""

    status = 409
    title = "This cannot be done"

    def __init__(self, hint: str) -> None:
        super().__init__(hint)
        self.hint = hint


class MissingPageError(PageError):
    """Nothing is there."""

    status = 404
    title = "Not found"
    hint = "There is nothing at this address."


STARTS: Final = {"/console": "To the console", "/admin": "To the dashboard"}
INTERNAL_HINT: Final = "It is our mistake and has been noted. Nothing was changed by this request."


def answer_with_page(request: Request[Any, Any, Any], exc: Exception) -> Response[Any]:
    """Answer an exception with a page; one that no table knows is a bug, logged with its trace."""
    status, title, hint = _told(exc)
    staff = request.scope["state"].get("staff")
    wait_s = getattr(exc, "retry_after_s", None)
    return page(
        "web/refusal.html",
        status=status,
        headers={"Retry-After": str(wait_s)} if wait_s else None,
        title=title,
        hint=hint,
        way_out=_way_out(request),
        request_id=structlog.contextvars.get_contextvars().get("request_id"),
        staff=staff,
    )


def _way_out(request: Request[Any, Any, Any]) -> tuple[str, str]:
    """Name where to go on: the page of ours that asked, or the start of the room."""
    here = (request.url.path, request.url.query)
    came = _split(request.headers.get("referer", ""))
    is_ours = came.netloc == request.headers.get("host", "") and came.path.startswith("/")
    is_back = request.method != HttpMethod.GET or (came.path, came.query) != here
    if is_ours and is_back and not came.path.startswith("//"):
        return urlunsplit(("", "", came.path, came.query, "")), "Back"
    for start, words in STARTS.items():
        if here[0].startswith(f"{start}/"):
            return start, words
    return "/", "To the front page"


def _split(referer: str) -> SplitResult:
    """Part an address that anybody may have made up."""
    try:
        return urlsplit(referer)
    except ValueError:
        return urlsplit("")


def _told(exc: Exception) -> tuple[int, str, str]:
    if isinstance(exc, PageError):
        return exc.status, exc.title, getattr(exc, "hint", "")
    if isinstance(exc, HTTPException):
        missing = MissingPageError
        if exc.status_code == missing.status:
            return missing.status, missing.title, missing.hint
        if exc.status_code < INTERNAL.status:
            return exc.status_code, PageError.title, "The form or the address is not complete."
    problem = problem_for(exc)
    if problem is INTERNAL:
        log.error("page.failed", exc_info=exc)
        return INTERNAL.status, "Something went wrong", INTERNAL_HINT
    # The ledger's own refusals are written for people and hold nothing but numbers and states.
    hint = str(exc) if isinstance(exc, BillingError) else ""
    return problem.status, problem.title, hint
