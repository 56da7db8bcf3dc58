"""A browser's session: the secret in its cookie, the hash that is kept, the word its forms carry.

The cookie is out of reach of scripts and of other sites, and bound to this very host where there
is TLS. What is kept of it is a hash, so that whoever reads the table can sign in as nobody. The
word against forged forms is made from the secret: a page of another site cannot know it, and
nothing has to be stored.
"""

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from typing import Any, Final

from litestar import Request
from litestar.datastructures import Cookie

from gateway.web.refusals import ForgedFormError

FORM_WORD: Final = "form_word"


@dataclass(frozen=True, slots=True)
class SessionCookie:
    """One kind of session; `name` without the prefix that a browser holds to TLS."""

    name: str
    is_secure: bool

    @property
    def full_name(self) -> str:
        return f"__Host-{self.name}" if self.is_secure else self.name

    def issue(self, secret: str) -> Cookie:
        return self._cookie(secret, max_age=None)

    def forget(self) -> Cookie:
        return self._cookie("", max_age=0)

    def secret_of(self, request: Request[Any, Any, Any]) -> str | None:
        return request.cookies.get(self.full_name) or None

    def _cookie(self, value: str, *, max_age: int | None) -> Cookie:
        return Cookie(
            key=self.full_name,
            value=value,
            path="/",
            httponly=True,
            secure=self.is_secure,
            samesite="lax",
            max_age=max_age,
        )


def new_secret() -> str:
    return secrets.token_urlsafe(32)


def hash_of(secret: str) -> bytes:
    """Give what is kept of a session's secret: with 256 bits, a plain hash is enough."""
    return hashlib.sha256(secret.encode()).digest()


def form_word_of(secret: str) -> str:
    return hmac.digest(secret.encode(), b"form", "sha256").hex()


def check_origin(request: Request[Any, Any, Any], public_url: str) -> None:
    """Refuse a form that a page of another site has sent.

    Raises:
        ForgedFormError: the browser says that the form comes from elsewhere.
    """
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        is_ours = site in {"same-origin", "none"}
    else:
        origin = request.headers.get("origin")
        is_ours = origin is None or origin in {public_url.rstrip("/"), _own_origin(request)}
    if not is_ours:
        raise ForgedFormError


def check_form_word(sent: str | None, secret: str) -> None:
    """Refuse a form without the word that only a page of this session carries.

    Raises:
        ForgedFormError: it lacks the word, or has another session's.
    """
    if not hmac.compare_digest((sent or "").encode(), form_word_of(secret).encode()):
        raise ForgedFormError


def _own_origin(request: Request[Any, Any, Any]) -> str:
    return f"{request.url.scheme}://{request.headers.get('host', '')}"
