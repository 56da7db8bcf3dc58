"""The door of the console: an API key in, a session out."""

from datetime import timedelta
from typing import Any, Final

import structlog
from litestar import Controller, Request, Response, get, post
from litestar.di import NamedDependency
from litestar.response import Redirect

from billing.db import SessionFactory
from billing.errors import BillingError, KeyAddressError, KeyRevokedError
from billing.keys import KeyFacts
from gateway.auth import Authenticator
from gateway.console.guard import SIGN_IN, address_of
from gateway.console.sessions import ConsoleSessions
from gateway.errors import MissingKeyError, RateLimitedError
from gateway.limits import Limits
from gateway.web.guard import PUBLIC, inside
from gateway.web.pages import HEADERS, page, span

WRONG: Final = "This key is not known. It is the whole text that begins with cg_."
REVOKED: Final = "This key was revoked or has expired."
ELSEWHERE: Final = "This key may not be used from your address."
BLIND: Final = "This key may make cutouts but not look at the account: it lacks the scope “read”."
SIGN_INS_PER_MINUTE: Final = 30
"""With one key: a session is a row."""

log = structlog.get_logger()


class SignInController(Controller):
    @get("/sign-in", opt={"scope": PUBLIC}, sync_to_thread=False)
    def show(self, request: Request[Any, Any, Any]) -> Response[str]:
        query = request.query_params
        word = (
            "The key is revoked, and you are signed out." if query.get("why") == "revoked" else ""
        )
        return _form(target=query.get("next", ""), word=word)

    @post("/sign-in", opt={"scope": PUBLIC}, status_code=200)
    async def sign_in(
        self,
        request: Request[Any, Any, Any],
        sessions: NamedDependency[SessionFactory],
        console_sessions: NamedDependency[ConsoleSessions],
        authenticator: NamedDependency[Authenticator],
        limits: NamedDependency[Limits],
    ) -> Response[Any]:
        form = await request.form()
        target, plaintext = str(form.get("next", "")), str(form.get("key", "")).strip()
        try:
            key = await _key_of(plaintext, address_of(request), authenticator, limits)
            bucket = f"sign-in:{key.api_key_id}"
            await limits.take(
                bucket, rate_per_minute=SIGN_INS_PER_MINUTE, burst=SIGN_INS_PER_MINUTE
            )
        except RateLimitedError as exc:
            return _closed(target, exc.retry_after_s)
        except (BillingError, MissingKeyError) as exc:
            log.warning("sign_in.refused", address=address_of(request))
            return _form(target=target, error=_words_for(exc), status=403)
        if not key.scopes & {"read", "admin"}:
            return _form(target=target, error=BLIND, status=403)
        async with sessions.begin() as db:
            secret = await console_sessions.open(db, key)
        answer = Redirect(inside(target, "/console"), status_code=303, headers=HEADERS)
        answer.cookies.append(console_sessions.cookie.issue(secret))
        return answer

    @post("/sign-out", opt={"scope": "read"}, status_code=303)
    async def sign_out(
        self,
        request: Request[Any, Any, Any],
        console_sessions: NamedDependency[ConsoleSessions],
    ) -> Redirect:
        await console_sessions.close(console_sessions.cookie.secret_of(request) or "")
        answer = Redirect(SIGN_IN, status_code=303, headers=HEADERS)
        answer.cookies.append(console_sessions.cookie.forget())
        return answer


async def _key_of(
    plaintext: str, address: str, authenticator: Authenticator, limits: Limits
) -> KeyFacts:
    """Tell whose key it is; each that lets nobody in counts as a guess of its address."""
    try:
        return (await authenticator.caller_for(plaintext, address)).key
    except (BillingError, MissingKeyError):
        await limits.take_address(address)
        raise


def _words_for(exc: Exception) -> str:
    if isinstance(exc, KeyRevokedError):
        return REVOKED
    return ELSEWHERE if isinstance(exc, KeyAddressError) else WRONG


def _form(
    *,
    target: str,
    error: str = "",
    word: str = "",
    status: int = 200,
    headers: dict[str, str] | None = None,
) -> Response[str]:
    return page(
        "console/sign_in.html",
        status=status,
        headers=headers,
        next=target,
        error=error,
        word=word,
    )


def _closed(target: str, retry_after_s: int) -> Response[str]:
    wait = span(timedelta(seconds=retry_after_s))
    return _form(
        target=target,
        error=f"Too many attempts. Try again in {wait}.",
        status=429,
        headers={"Retry-After": str(retry_after_s)},
    )
