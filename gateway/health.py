"""Is it alive, is it ready, what has it done: three pages for machines, nothing secret on them.

Live: the event loop turns. Ready: a cutout that is asked for now can be made. Without Redis the
gateway is degraded and still ready, since Redis is only a hint.
"""

import asyncio
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from litestar import Controller, Response, get
from litestar.di import NamedDependency
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy import func, select, text

from billing import invariant_history
from billing.db import SessionFactory
from gateway.admission import Admission
from gateway.inference import Inference
from gateway.settings import Settings
from gateway.tables import PROCESSING, QUEUED, Job
from gateway.transactions import is_away
from gateway.webhooks import gauges
from gateway.webhooks.gauges import Telling

CHECK_DEADLINE_S: Final = 2.0
SECONDS: Final = (0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60)
TEXT: Final = CONTENT_TYPE_LATEST.removesuffix("; charset=utf-8")  # Litestar adds it
STAGE_SECONDS: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5)
OK: Final = "ok"
AWAY: Final = "away"


class WebhookGauges:
    """How telling goes, as the database says; the same on each gateway."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._owed = Gauge(
            "cutout_webhooks_owed", "Webhooks that are still to be told.", registry=registry
        )
        self._oldest_s = Gauge(
            "cutout_webhooks_oldest_owed_seconds",
            "How long the longest owed webhook has been owed.",
            registry=registry,
        )
        self._ended = Gauge(
            "cutout_webhooks_ended",
            "Webhooks told or given up in the last five minutes.",
            ("state",),
            registry=registry,
        )
        self._attempts = Gauge(
            "cutout_webhook_attempts",
            "Attempts at webhooks in the last five minutes.",
            ("outcome",),
            registry=registry,
        )

    def note(self, telling: Telling) -> None:
        self._owed.set(telling.owed_count)
        self._oldest_s.set(telling.oldest_owed_s)
        for state, count in telling.ended.items():
            self._ended.labels(state).set(count)
        for outcome, count in telling.attempts.items():
            self._attempts.labels(outcome).set(count)


class Metrics:
    """One gateway's counters, in a registry of its own: two apps in one process do not mix."""

    def __init__(self, admission: Admission) -> None:
        """Count from now; what waits and what runs is read off `admission` when asked."""
        registry = self.registry = CollectorRegistry()
        self._requests = Counter(
            "cutout_requests",
            "Requests answered.",
            ("dialect", "status", "code"),
            registry=registry,
        )
        self._request_s = Histogram(
            "cutout_request_seconds",
            "From a request's arrival to the end of its answer.",
            ("dialect",),
            buckets=SECONDS,
            registry=registry,
        )
        self._stage_s = Histogram(
            "cutout_stage_seconds",
            "Each step of a cutout that this gateway made itself.",
            ("stage",),
            buckets=STAGE_SECONDS,
            registry=registry,
        )
        self._credits = Counter(
            "cutout_credits_captured",
            "Credits charged for cutouts that this gateway answered itself.",
            registry=registry,
        )
        self._jobs = Gauge("cutout_jobs", "Jobs not yet ended.", ("state",), registry=registry)
        self._books_checked_at = -math.inf
        self._are_books_ok = Gauge(
            "cutout_invariants_ok",
            "1: the rules of the books were asked, and no breach was found for a day.",
            registry=registry,
        )
        self._breaches = Gauge(
            "cutout_invariant_breaches",
            "The most breaches of a rule of the books that a check of the last day found.",
            ("rule",),
            registry=registry,
        )
        Gauge(
            "cutout_invariants_age_seconds",
            "Since the rules of the books were last asked.",
            registry=registry,
        ).set_function(lambda: time.monotonic() - self._books_checked_at)
        self.webhooks = WebhookGauges(registry)
        self._expose("waiting", "Requests that wait for a slot.", lambda: admission.waiting_count)
        self._expose("running", "Requests in the model.", lambda: admission.running_count)
        self._expose("service_seconds", "A cutout's usual time.", lambda: admission.service_s)

    def _expose(self, name: str, documentation: str, read: Any) -> None:
        gauge = Gauge(f"cutout_admission_{name}", documentation, registry=self.registry)
        gauge.set_function(read)

    def note_request(self, dialect: str, status: int, code: str, took_s: float) -> None:
        self._requests.labels(dialect, str(status), code).inc()
        self._request_s.labels(dialect).observe(took_s)

    def note_cutout(self, charged_credits: int, stages_ms: Mapping[str, float]) -> None:
        self._credits.inc(charged_credits)
        for stage, ms in stages_ms.items():
            self._stage_s.labels(stage).observe(ms / 1000)

    def note_jobs(self, counts: dict[str, int]) -> None:
        for state in (QUEUED, PROCESSING):
            self._jobs.labels(state).set(counts.get(state, 0))

    def note_books(self, breaches: Mapping[str, int], age_s: float) -> None:
        self._books_checked_at = time.monotonic() - age_s
        self._are_books_ok.set(not any(breaches.values()))
        for rule, count in breaches.items():
            self._breaches.labels(rule).set(count)


@dataclass(frozen=True, slots=True)
class Health:
    """What readiness depends on."""

    sessions: SessionFactory
    redis: Redis
    inference: Inference
    settings: Settings
    metrics: Metrics

    async def check(self) -> dict[str, str]:
        """Try each dependency, all at once, none for longer than `CHECK_DEADLINE_S`."""
        database, redis = await asyncio.gather(_try(self._ask_database()), _try(self._ask_redis()))
        is_loaded = len(self.inference.loaded) >= 1 or not self.settings.preload_models
        is_stuck = self.inference.stuck_count >= self.settings.inference_slots
        inference = "stuck" if is_stuck else OK if is_loaded else "loading"
        return {"database": database, "redis": redis, "inference": inference}

    async def _ask_database(self) -> None:
        async with self.sessions() as db:
            await db.execute(text("SELECT 1"))

    async def _ask_redis(self) -> None:
        await self.redis.get("health")

    async def count_jobs(self) -> None:
        """Tell the metrics how long the queue is; without the database they keep the last."""

        async def count() -> None:
            async with self.sessions() as db:
                open_jobs = Job.state.in_((QUEUED, PROCESSING))
                query = select(Job.state, func.count()).where(open_jobs).group_by(Job.state)
                self.metrics.note_jobs(dict((await db.execute(query)).all()))

        await _try(count())

    async def read_books(self) -> None:
        """Tell the metrics what the workers' checks of the books found."""

        async def read() -> None:
            async with self.sessions() as db:
                last = await invariant_history.last_run(db)
                if last is not None:
                    breaches = await invariant_history.breaches(db)
                    self.metrics.note_books(breaches, last.age.total_seconds())

        await _try(read())

    async def look_at_webhooks(self) -> None:
        """Tell the metrics what the workers have to tell, and how they fare."""

        async def look() -> None:
            async with self.sessions() as db:
                self.metrics.webhooks.note(await gauges.look(db))

        await _try(look())


async def _try(asking: Any) -> str:
    try:
        async with asyncio.timeout(CHECK_DEADLINE_S):
            await asking
    except Exception as exc:
        if not (is_away(exc) or isinstance(exc, RedisError)):
            raise
        return AWAY
    return OK


class HealthController(Controller):
    @get("/health/live", sync_to_thread=False)
    def read_live(self) -> dict[str, str]:
        return {"status": "live"}

    @get("/health/ready")
    async def read_ready(self, health: NamedDependency[Health]) -> Response[dict[str, Any]]:
        """Say 503 when a cutout could not be made, and what is missing either way."""
        checks = await health.check()
        is_ready = checks["database"] == checks["inference"] == OK
        status = "unready" if not is_ready else "ready" if checks["redis"] == OK else "degraded"
        return Response({"status": status, "checks": checks}, status_code=200 if is_ready else 503)

    @get("/metrics")
    async def read_metrics(self, health: NamedDependency[Health]) -> Response[bytes]:
        await health.count_jobs()
        await health.read_books()
        await health.look_at_webhooks()
        return Response(generate_latest(health.metrics.registry), media_type=TEXT)
