"""What every answer carries and every request leaves behind: its id, its limits, one log line.

It wraps the whole app, since routing refuses unknown paths before any middleware of Litestar's
would see them. The log line names the route's template, never the path: a task's id is a key to its
result, and a link's query is its signature.
"""

import time
from typing import Any, Final

import structlog
from litestar.datastructures import MutableScopeHeaders
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from gateway.dialects.facts import STATE_KEY, RequestFacts, request_id_from
from gateway.dialects.shapes import dialect_of
from gateway.health import Metrics
from gateway.limits import rate_limit_headers
from gateway.refusal_counts import RefusalCounts

REQUEST_ID: Final = b"x-request-id"
OK: Final = "ok"
ASKING: Final = {("POST", "codia"), ("POST", "revid")}
"""Whoever sends something to a dialect asks for a cutout."""

log = structlog.get_logger()


class Envelope:
    """An ASGI app around an ASGI app."""

    def __init__(self, app: ASGIApp, metrics: Metrics, refusal_counts: RefusalCounts) -> None:
        self._app = app
        self._metrics = metrics
        self._refusal_counts = refusal_counts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        sent = next((value for name, value in scope["headers"] if name == REQUEST_ID), b"")
        facts = RequestFacts(request_id_from(sent.decode("latin-1")))
        scope["state"][STATE_KEY] = facts
        path = scope["path"]
        status = 0

        async def send_dressed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableScopeHeaders.from_message(message)
                headers.update(_headers(facts))
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        structlog.contextvars.bind_contextvars(request_id=facts.request_id)
        try:
            await self._app(scope, receive, send_dressed)
        finally:
            self._note(scope, path, status, facts)
            structlog.contextvars.clear_contextvars()

    def _note(self, scope: Any, path: str, status: int, facts: RequestFacts) -> None:
        took_s = time.perf_counter() - facts.started_at_s
        dialect = dialect_of(path)
        self._metrics.note_request(dialect, status, facts.code, took_s)
        self._metrics.note_cutout(facts.charged_credits, facts.stages_ms)
        if (scope["method"], dialect) in ASKING and facts.code != OK and facts.job_id is None:
            self._refusal_counts.note(dialect, facts.code)
        log.info(
            "request.finished",
            method=scope["method"],
            route=scope.get("path_template") or "unmatched",
            dialect=dialect,
            status=status,
            code=facts.code,
            ms=round(took_s * 1000),
            charged_credits=facts.charged_credits,
            job_id=str(facts.job_id) if facts.job_id else None,
        )


def _headers(facts: RequestFacts) -> dict[str, str]:
    headers = {"X-Request-Id": facts.request_id, "X-Content-Type-Options": "nosniff"}
    if facts.limit is not None:
        headers |= rate_limit_headers(facts.limit)
    return headers
