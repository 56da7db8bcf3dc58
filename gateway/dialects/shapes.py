"""A refusal in the shape of the dialect it was asked in, which the path tells.

One handler for every exception of the app: routing refuses an unknown path or method before any
dialect's own handler would be asked.
"""

from collections.abc import Callable
from typing import Any, Final

import structlog
from litestar import HttpMethod, Request, Response
from litestar.exceptions import HTTPException

from billing.errors import InsufficientCreditsError
from gateway import errors
from gateway.dialects import account, codia, revid
from gateway.dialects.facts import RequestFacts, facts_of
from gateway.dialects.headers import credit_headers
from gateway.dialects.words import words_for
from gateway.errors import Problem, RateLimitedError

AnyRequest = Request[Any, Any, Any]
Shape = Callable[[Problem, str], Response[Any]]

CONFLICT_RETRY_S: Final = 1
"""The earliest at which a request that waits for another of the same caller may come again."""
DIALECTS: Final[tuple[tuple[str, str, Shape], ...]] = (
    ("/v1/open", "codia", codia.shape_problem),
    ("/r", "codia", codia.shape_problem),
    ("/paid", "revid", revid.shape_problem),
    ("/api", "revid", revid.shape_problem),
    ("/output", "revid", revid.shape_problem),
)

log = structlog.get_logger()


def dialect_of(path: str) -> str:
    return _dialect(path)[0]


def _dialect(path: str) -> tuple[str, Shape]:
    for prefix, name, shape in DIALECTS:
        if path == prefix or path.startswith(f"{prefix}/"):
            return name, shape
    return "own", account.shape_problem


def answer_problem(request: AnyRequest, exc: Exception) -> Response[Any]:
    """Answer any exception; one that no table knows is a bug, logged with its trace."""
    problem = problem_of(exc)
    if problem is errors.INTERNAL:
        log.error("request.failed", exc_info=exc)
    facts = facts_of(request)
    facts.code = problem.code
    facts.job_id = facts.job_id or vars(exc).get("job_id")
    if isinstance(exc, RateLimitedError):
        facts.limit = exc.state or facts.limit
    _, shape = _dialect(request.scope["path"])
    answer = shape(problem, words_for(exc, problem))
    answer.headers.update(_headers(exc, problem))
    if request.method == HttpMethod.POST and facts.is_authenticated:  # a call for a cutout
        charged = facts.charged_credits if vars(exc).get("is_known_free", True) else None
        headers = credit_headers(charged=charged, remaining=_remaining(exc, facts))
        answer.headers.update(headers)
    return answer


def _remaining(exc: Exception, facts: RequestFacts) -> int | None:
    """Tell what was left at the last look: that of the hold, where it was placed in vain."""
    known = facts.remaining_credits
    if isinstance(exc, InsufficientCreditsError):
        return exc.available if known is None else min(known, exc.available)
    return known


def problem_of(exc: Exception) -> Problem:
    """Look up what was raised by us, or by Litestar before any code of ours ran."""
    if not isinstance(exc, HTTPException):
        return errors.problem_for(exc)
    known = {404: errors.NOT_FOUND, 405: errors.METHOD_NOT_ALLOWED, 413: errors.FILE_TOO_LARGE}
    if exc.status_code in known:
        return known[exc.status_code]
    is_callers = 400 <= exc.status_code < 500  # noqa: PLR2004 - the class of statuses
    return errors.INVALID_REQUEST if is_callers else errors.INTERNAL


def _headers(exc: Exception, problem: Problem) -> dict[str, str]:
    headers: dict[str, str] = dict(getattr(exc, "headers", None) or {})
    wait_s = getattr(exc, "retry_after_s", None)
    if wait_s is None and problem.retryable and problem.status in {409, 429, 503}:
        wait_s = CONFLICT_RETRY_S
    if wait_s is not None:
        headers["Retry-After"] = str(wait_s)
    if problem.status == 401:  # noqa: PLR2004 - Unauthorized
        headers["WWW-Authenticate"] = 'Bearer realm="cutout"'
    return headers
