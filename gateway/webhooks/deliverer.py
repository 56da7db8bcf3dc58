"""Tells events to their receivers: signed, with pauses for a day, never to a private address.

Runs in each worker. Postgres says what is due; an attempt that is lost with its worker is made
again by another once its lease is over, so a receiver may hear an event twice; it has one id.
"""

import asyncio
import contextlib
import random
import ssl
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final
from uuid import UUID

import httpcore
import msgspec
import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from billing.db import SessionFactory
from gateway.errors import OverloadedError, UrlNotAllowedError
from gateway.fetching.pinned import PinnedBackend
from gateway.fetching.reach import Reach, system_tls
from gateway.links import Links
from gateway.settings import Settings
from gateway.tables import WebhookDelivery
from gateway.transactions import is_away, persist
from gateway.webhooks import deliveries
from gateway.webhooks.deliveries import Outcome, Told
from gateway.webhooks.endpoints import secrets_of
from gateway.webhooks.retry_after import wait_asked
from gateway.webhooks.signing import Headers, master_of, sign

POLL_S: Final = 1.0
LEASE_SLACK: Final = timedelta(seconds=10)
"""Beyond an attempt's deadline: to note how it went, Postgres being slow."""
JITTER: Final = 0.2
GONE: Final = 410
SENT_HEADERS: Final = (
    ("User-Agent", "cutout-gateway"),
    ("Content-Type", "application/json"),
    ("Connection", "close"),
)

log = structlog.get_logger()


class Deliverer:
    """Makes the attempts that are due, so many at once."""

    def __init__(
        self,
        sessions: SessionFactory,
        settings: Settings,
        *,
        reach: Reach | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Take the rules from `settings`; `reach` and `tls` are the system's unless given."""
        self._sessions = sessions
        self._settings = settings
        self._reach = reach or Reach(settings)
        self._tls = tls or system_tls()
        self._master = master_of(settings)
        self._links = Links(settings.public_url, settings.link_secret.get_secret_value())
        self._lease = settings.webhook_deadline + LEASE_SLACK
        self._share_max = max(1, settings.webhook_concurrency_max // 4)
        self._under_way: dict[asyncio.Task[None], UUID] = {}

    async def run_forever(self) -> None:
        """Deliver whatever is due, whatever happens; end by being cancelled."""
        try:
            while True:
                try:
                    await self._start_due()
                except Exception as exc:
                    log.warning("webhooks.failed", exc_info=_worth_a_trace(exc))
                await self._wait()
        finally:
            for task in self._under_way:
                task.cancel()
            await asyncio.gather(*self._under_way, return_exceptions=True)

    async def deliver_due(self) -> int:
        """Make one attempt at everything that is due now, and tell how many that were."""
        count = 0
        while True:
            count += await self._start_due()
            if not self._under_way:
                return count
            await asyncio.wait(self._under_way, return_when=asyncio.FIRST_COMPLETED)

    async def _wait(self) -> None:
        """Until an attempt has ended, or it is time to look again."""
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=POLL_S, return_when=asyncio.FIRST_COMPLETED)
        else:
            await asyncio.sleep(POLL_S)

    async def _start_due(self) -> int:
        count = 0
        while len(self._under_way) < self._settings.webhook_concurrency_max:
            shares = Counter(self._under_way.values())
            busy = [account_id for account_id, n in shares.items() if n >= self._share_max]
            claiming = partial(self._claim, busy)
            claimed = await persist(self._sessions, claiming, patience=self._lease)
            if claimed is None:
                break
            delivery, secrets = claimed
            task = asyncio.create_task(self._deliver(delivery, secrets))
            self._under_way[task] = delivery.account_id
            task.add_done_callback(self._under_way.pop)
            count += 1
        return count

    async def _claim(
        self, busy: list[UUID], db: AsyncSession
    ) -> tuple[WebhookDelivery, list[bytes]] | None:
        delivery = await deliveries.claim(
            db, lease=self._lease, span=self._settings.webhook_retry_span, busy=busy
        )
        if delivery is None:
            return None
        return delivery, await secrets_of(db, delivery.account_id, self._master)

    async def _deliver(self, delivery: WebhookDelivery, secrets: list[bytes]) -> None:
        try:
            told = await self._tell(delivery, secrets)
            pause = deliveries.pause_after(delivery.tries, self._settings.webhook_retry_pause)
            pause *= random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - no secret
            noting = partial(
                deliveries.note,
                delivery=delivery,
                told=told,
                pause=pause,
                span=self._settings.webhook_retry_span,
            )
            state = await persist(self._sessions, noting, patience=self._lease)
        except Exception as exc:
            # It is due again when its lease is over.
            log.warning("webhook.lost", exc_info=_worth_a_trace(exc), **_names(delivery))
            return
        facts = {"outcome": told.outcome, "status": told.status, "ms": told.ms, "state": state}
        log.info("webhook.attempted", attempt=delivery.attempt, **facts, **_names(delivery))

    async def _tell(self, delivery: WebhookDelivery, secrets: list[bytes]) -> Told:
        body = msgspec.json.encode(self.document_of(delivery))
        headers = sign(name_of(delivery.id), datetime.now(UTC), body, secrets)
        started_at = time.monotonic()
        outcome, status, wait = await self._post(delivery.url, headers, body)
        return Told(outcome, status, round((time.monotonic() - started_at) * 1000), wait)

    def document_of(self, delivery: WebhookDelivery) -> dict[str, Any]:
        """Say what happened; the link is signed at each attempt, and the rest never changes."""
        facts = dict(delivery.facts)
        if "format" in facts:
            left = datetime.fromisoformat(facts["result_expires_at"]) - datetime.now(UTC)
            ttl = min(self._settings.link_ttl, left)
            facts["image_url"] = self._links.sign(UUID(facts["job_id"]), facts["format"], ttl)
        at = delivery.created_at.astimezone(UTC).isoformat().replace("+00:00", "Z")
        return {"type": delivery.kind, "timestamp": at, "data": facts}

    async def _post(
        self, url: str, headers: Headers, body: bytes
    ) -> tuple[Outcome, int | None, timedelta | None]:
        """Send, and look at the answer's status and `Retry-After` and at nothing else of it."""
        try:
            async with asyncio.timeout(self._settings.webhook_deadline.total_seconds()):
                answer = await self._send(url, headers, body)
        except UrlNotAllowedError:
            return Outcome.NOT_ALLOWED, None, None
        except (TimeoutError, httpcore.TimeoutException):
            return Outcome.TIMEOUT, None, None
        except (httpcore.NetworkError, httpcore.ProtocolError, OSError):
            return Outcome.UNREACHABLE, None, None
        wait = wait_asked(answer.status, answer.headers, datetime.now(UTC))
        return _outcome_of(answer.status), answer.status, wait

    async def _send(self, url: str, headers: Headers, body: bytes) -> httpcore.Response:
        target = self._reach.check(url)
        connection = httpcore.AsyncHTTPConnection(
            httpcore.Origin(target.scheme.encode(), target.host.encode(), target.port),
            ssl_context=self._tls,
            network_backend=PinnedBackend(await self._reach.addresses_of(target)),
        )
        request = httpcore.Request(
            "POST",
            httpcore.URL(
                scheme=target.scheme, host=target.host, port=target.port, target=target.path
            ),
            headers=[
                ("Host", target.host_header),
                ("Content-Length", str(len(body))),
                *SENT_HEADERS,
                *headers.items(),
            ],
            content=body,
        )
        async with connection:
            response = await connection.handle_async_request(request)
            with contextlib.suppress(httpcore.NetworkError, httpcore.ProtocolError):
                await response.aclose()
            return response


def _outcome_of(status: int) -> Outcome:
    match status // 100:
        case 2:
            return Outcome.DELIVERED
        case 3:
            return Outcome.REDIRECT
    return Outcome.GONE if status == GONE else Outcome.STATUS


def name_of(delivery_id: UUID) -> str:
    """Name a delivery for its receiver: the `webhook-id`."""
    return f"msg_{delivery_id.hex}"


def _worth_a_trace(exc: Exception) -> Exception | None:
    """Only what is not Postgres being away."""
    return None if is_away(exc) or isinstance(exc, OverloadedError) else exc


def _names(delivery: WebhookDelivery) -> dict[str, Any]:
    return {
        "delivery_id": str(delivery.id),
        "account_id": str(delivery.account_id),
        "job_id": str(delivery.job_id) if delivery.job_id else None,
        "kind": delivery.kind,
    }
