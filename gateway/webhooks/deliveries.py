"""The outbox of webhooks: what is to be told, claimed for one attempt, and how that went.

Functions take a session and never commit. An event is written by the transaction that makes it
true, so it is told if and only if it happened; `deliverer.py` tells it afterwards.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final
from uuid import UUID, uuid4

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from billing.alerts import Alert, cross_thresholds
from gateway.errors import INTERNAL, title_of
from gateway.tables import (
    DELIVERED,
    FAILED,
    PENDING,
    SUCCEEDED,
    Job,
    WebhookAttempt,
    WebhookDelivery,
    WebhookEndpoint,
)

JOB_KIND: Final = "cutout."
ALERT_KIND: Final = "credits.threshold_crossed"
PAUSE_GROWTH: Final = 3
PAUSE_MAX: Final = timedelta(hours=4)
LAST_CHANCE: Final = timedelta(minutes=1)
"""Before the end of its span: then a delivery is tried, however long its receiver asks for."""
ATTEMPTS_SHOWN_MAX: Final = 200
OVERDUE_ENDED_MAX: Final = 100
"""Deliveries that one claim gives up at most."""


class Outcome(StrEnum):
    """How an attempt went."""

    DELIVERED = "delivered"
    GONE = "gone"  # 410: the receiver wants no more of it
    NOT_ALLOWED = "not_allowed"  # the URL leads where we do not go
    REDIRECT = "redirect"
    STATUS = "status"  # any other answer than 2xx
    TIMEOUT = "timeout"
    UNREACHABLE = "unreachable"

    @property
    def is_final(self) -> bool:
        """Tell whether another attempt would be pointless."""
        return self in {Outcome.DELIVERED, Outcome.GONE, Outcome.NOT_ALLOWED}


@dataclass(frozen=True, slots=True)
class Told:
    """What an attempt brought."""

    outcome: Outcome
    status: int | None
    ms: int
    wait: timedelta | None = None
    """How long the receiver asks for, where it does."""


async def announce_end(db: AsyncSession, job: Job) -> None:
    """Write what is to be told of a job that this transaction has just ended."""
    if job.webhook_url is not None:
        db.add(
            WebhookDelivery(
                id=uuid4(),
                account_id=job.account_id,
                job_id=job.id,
                kind=JOB_KIND + job.state,
                url=job.webhook_url,
                facts=_job_facts(job),
            )
        )
    if job.charged_credits:
        await _announce_thresholds(db, job.account_id)


async def _announce_thresholds(db: AsyncSession, account_id: UUID) -> None:
    """Write an alert for each threshold that was crossed now, where the account wants to know."""
    alert_url = await db.scalar(
        select(WebhookEndpoint.alert_url).where(WebhookEndpoint.account_id == account_id)
    )
    if alert_url is None:
        return
    for alert in await cross_thresholds(db, account_id):
        db.add(
            WebhookDelivery(
                id=uuid4(),
                account_id=account_id,
                kind=ALERT_KIND,
                url=alert_url,
                facts=_alert_facts(alert),
            )
        )


async def claim(
    db: AsyncSession, *, lease: timedelta, span: timedelta, busy: Collection[UUID] = ()
) -> WebhookDelivery | None:
    """Take the delivery that is due longest for one attempt; None where none is.

    What was tried and is still due after `span` is ended first: its attempts were lost unnoted.

    Args:
        db: the session.
        lease: after it another may try, this attempt having been lost.
        span: how long a delivery is tried.
        busy: accounts that have enough under way.
    """
    await _end_overdue(db, span)
    due = (
        select(WebhookDelivery.id)
        .where(
            WebhookDelivery.state == PENDING,
            WebhookDelivery.next_attempt_at <= func.now(),
            WebhookDelivery.account_id.not_in(busy),
        )
        .order_by(WebhookDelivery.next_attempt_at)
        .limit(1)
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )
    delivery: WebhookDelivery | None = await db.scalar(
        update(WebhookDelivery)
        .where(WebhookDelivery.id == due)
        .values(
            attempt=WebhookDelivery.attempt + 1,
            tries=WebhookDelivery.tries + 1,
            next_attempt_at=func.now() + lease,
        )
        .returning(WebhookDelivery)
        .execution_options(synchronize_session=False, populate_existing=True)
    )
    if delivery is not None:
        db.add(WebhookAttempt(delivery_id=delivery.id, number=delivery.attempt))
    return delivery


async def _end_overdue(db: AsyncSession, span: timedelta) -> None:
    overdue = (
        select(WebhookDelivery.id)
        .where(
            WebhookDelivery.state == PENDING,
            WebhookDelivery.next_attempt_at <= func.now(),
            WebhookDelivery.pending_since < func.now() - span,
            WebhookDelivery.tries > 0,
        )
        .limit(OVERDUE_ENDED_MAX)
        .with_for_update(skip_locked=True)
    )
    await db.execute(
        update(WebhookDelivery)
        .where(WebhookDelivery.id.in_(overdue))
        .values(state=FAILED, finished_at=func.clock_timestamp())
        .execution_options(synchronize_session=False)
    )


async def note(
    db: AsyncSession, delivery: WebhookDelivery, told: Told, *, pause: timedelta, span: timedelta
) -> str:
    """Keep how an attempt went, and tell the delivery's state after it.

    One that was told is told, whoever has tried since; a failure counts only for the last attempt.
    A wait that the receiver asks for is kept, where it is longer than `pause`, up to `PAUSE_MAX`
    and to the end of `span`: to ask for much must not end the trying.
    """
    await db.execute(
        update(WebhookAttempt)
        .where(WebhookAttempt.delivery_id == delivery.id, WebhookAttempt.number == delivery.attempt)
        .values(ms=told.ms, status=told.status, outcome=told.outcome)
    )
    mine = (
        update(WebhookDelivery)
        .where(WebhookDelivery.id == delivery.id, WebhookDelivery.state == PENDING)
        .execution_options(synchronize_session=False)
    )
    if told.outcome != Outcome.DELIVERED:
        mine = mine.where(WebhookDelivery.attempt == delivery.attempt)
    now = (await db.scalars(select(func.now()))).one()
    left = delivery.pending_since + span - now
    is_over = left < pause
    if told.wait is not None:
        pause = max(pause, min(told.wait, PAUSE_MAX, left - LAST_CHANCE))
    if told.outcome.is_final or is_over:
        state = DELIVERED if told.outcome == Outcome.DELIVERED else FAILED
        await db.execute(mine.values(state=state, finished_at=func.clock_timestamp()))
        return state
    await db.execute(mine.values(next_attempt_at=func.now() + pause))
    return PENDING


def pause_after(tries: int, first: timedelta) -> timedelta:
    """Give the pause before the next attempt: three times the last one, up to `PAUSE_MAX`."""
    steps = min(tries - 1, 32)  # far past the longest, and no overflow
    seconds = first.total_seconds() * PAUSE_GROWTH**steps
    return timedelta(seconds=min(seconds, PAUSE_MAX.total_seconds()))


async def replay(db: AsyncSession, delivery_id: UUID) -> WebhookDelivery | None:
    """Tell an event again, under the same id, for another day; None unless it has ended."""
    replayed: WebhookDelivery | None = await db.scalar(
        update(WebhookDelivery)
        .where(WebhookDelivery.id == delivery_id, WebhookDelivery.state != PENDING)
        .values(
            state=PENDING,
            finished_at=None,
            tries=0,
            next_attempt_at=func.now(),
            pending_since=func.now(),
        )
        .returning(WebhookDelivery)
        .execution_options(synchronize_session=False, populate_existing=True)
    )
    return replayed


async def deliveries_of(
    db: AsyncSession, account_id: UUID, *, state: str | None = None, rows_max: int = 50
) -> list[WebhookDelivery]:
    """List an account's deliveries, newest first."""
    chosen = select(WebhookDelivery).where(WebhookDelivery.account_id == account_id)
    if state is not None:
        chosen = chosen.where(WebhookDelivery.state == state)
    newest = chosen.order_by(WebhookDelivery.created_at.desc()).limit(rows_max)
    return list(await db.scalars(newest))


async def attempts_at(db: AsyncSession, delivery_id: UUID) -> list[WebhookAttempt]:
    """List the attempts at one delivery, in order."""
    made = select(WebhookAttempt).where(WebhookAttempt.delivery_id == delivery_id)
    return list(await db.scalars(made.order_by(WebhookAttempt.number).limit(ATTEMPTS_SHOWN_MAX)))


def _job_facts(job: Job) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "job_id": str(job.id),
        "dialect": job.dialect,
        "request_id": job.request_id,
        "state": job.state,
        "created_at": _moment(job.created_at),
        "finished_at": _moment(job.finished_at),
        "charged_credits": job.charged_credits,
    }
    if job.state == SUCCEEDED:
        names = ("width_px", "height_px", "result_bytes", "media_type", "confidence")
        facts |= {name: getattr(job, name) for name in names}
        facts |= {
            "model": job.model_ran,
            "format": job.extension,
            "reasons": job.reasons,
            "warnings": job.warnings,
            "result_expires_at": _moment(job.result_expires_at),
        }
    if job.state == FAILED:
        code = job.error_code or INTERNAL.code
        facts["error"] = {"code": code, "message": title_of(job.error_kind, code)}
    return facts


def _alert_facts(alert: Alert) -> dict[str, Any]:
    return {
        "account_id": str(alert.account_id),
        "percent": alert.percent,
        "consumed": alert.consumed,
        "available": alert.available,
        "period_end": _moment(alert.period_end),
    }


def _moment(moment: datetime | None) -> str | None:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z") if moment else None
