"""The composition root: `Settings` in, an app out. Everything is built here and handed over.

Nothing connects before the lifespan begins, and nothing outlives it.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, Self

from litestar import Litestar, Request, Response
from litestar.datastructures import State
from litestar.di import Provide
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from billing.db import SessionFactory, make_engine, make_sessions
from billing.keys import KeyHasher
from gateway.admission import Admission
from gateway.auth import Authenticator
from gateway.console.router import console_router
from gateway.console.sessions import ConsoleSessions
from gateway.cutouts import Cutouts
from gateway.dashboard.remembered import Remembered
from gateway.dashboard.router import admin_router
from gateway.dashboard.sessions import StaffSessions
from gateway.dashboard.weights import WeightsShelf
from gateway.dialects.account import AccountController
from gateway.dialects.codia import CodiaController
from gateway.dialects.door import Door
from gateway.dialects.forms import FORM_SLACK_BYTES
from gateway.dialects.openapi import SchemaController
from gateway.dialects.reception import Reception
from gateway.dialects.reports import ReportsController
from gateway.dialects.revid import RevidController
from gateway.dialects.shapes import answer_problem
from gateway.envelope import Envelope
from gateway.fetching.fetch import Fetcher
from gateway.health import Health, HealthController, Metrics
from gateway.inference import Inference
from gateway.limits import Limits
from gateway.links import Links
from gateway.outbox import Bell
from gateway.playground.demo import DemoController
from gateway.playground.front import FrontController
from gateway.presence import announced
from gateway.refusal_counts import RefusalCounts
from gateway.settings import Settings
from gateway.shares import Shares
from gateway.storage import Storage
from gateway.web.assets import AssetsController
from gateway.web.refusals import answer_with_page

PAGES: Final = ("/admin/", "/console/")


@dataclass(frozen=True, slots=True)
class House:
    """What the app stands on; each of it opened and closed by the app's lifespan."""

    settings: Settings
    engine: AsyncEngine
    sessions: SessionFactory
    redis: Redis
    cutouts: Cutouts
    metrics: Metrics
    staff_sessions: StaffSessions
    console_sessions: ConsoleSessions
    limits: Limits
    authenticator: Authenticator
    refusal_counts: RefusalCounts

    @classmethod
    def build(cls, settings: Settings) -> Self:
        engine = make_engine(
            str(settings.database_url), pool_size=settings.database_connections_max
        )
        sessions = make_sessions(engine)
        admission = Admission(settings)
        redis_url = str(settings.redis_url)
        redis = Redis.from_url(redis_url)
        cutouts = Cutouts(
            sessions=sessions,
            storage=Storage.from_url(settings.storage_url),
            inference=Inference(settings),
            admission=admission,
            bell=Bell(redis_url),
            settings=settings,
        )
        return cls(
            settings=settings,
            engine=engine,
            sessions=sessions,
            redis=redis,
            cutouts=cutouts,
            metrics=Metrics(admission),
            staff_sessions=StaffSessions.from_settings(settings, sessions),
            console_sessions=ConsoleSessions.from_settings(settings, sessions),
            limits=Limits(redis, settings),
            authenticator=Authenticator(sessions, KeyHasher(settings.peppers)),
            refusal_counts=RefusalCounts(sessions),
        )

    @asynccontextmanager
    async def opened(self, _: Litestar) -> AsyncIterator[None]:
        """Warm the models up before the first request; let what was begun be settled at the end."""
        try:
            await self.cutouts.inference.start()
            presence = announced(
                str(self.settings.redis_url),
                "gateway",
                slots=self.settings.inference_slots,
                models=lambda: self.cutouts.inference.providers,
            )
            async with self.refusal_counts.kept(), presence:
                yield
        finally:
            await self.cutouts.close()
            self.cutouts.inference.close()
            await self.cutouts.bell.close()
            await self.redis.aclose()
            await self.engine.dispose()

    def dependencies(self) -> dict[str, Any]:
        """Name what handlers ask for."""
        settings = self.settings
        door = Door(
            authenticator=self.authenticator,
            limits=self.limits,
            sessions=self.sessions,
            upload_bytes_max=settings.upload_bytes_max,
            body_bytes_max=settings.upload_bytes_max + FORM_SLACK_BYTES,
        )
        return {
            "settings": settings,
            "sessions": self.sessions,
            "staff_sessions": self.staff_sessions,
            "console_sessions": self.console_sessions,
            "limits": self.limits,
            "authenticator": self.authenticator,
            "redis": self.redis,
            "remembered": Remembered(),
            "shelf": WeightsShelf(settings.weights_dir),
            "door": door,
            "cutouts": self.cutouts,
            "storage": self.cutouts.storage,
            "reception": Reception(
                door,
                self.cutouts,
                Fetcher(settings),
                settings,
                uploads=Shares(settings.upload_concurrency_max),
            ),
            "links": Links(settings.public_url, settings.link_secret.get_secret_value()),
            "health": Health(
                self.sessions, self.redis, self.cutouts.inference, settings, self.metrics
            ),
        }


def create_app(settings: Settings) -> Litestar:
    """Build the gateway that `settings` describe."""
    house = House.build(settings)
    app = Litestar(
        route_handlers=[
            CodiaController,
            RevidController,
            AccountController,
            ReportsController,
            SchemaController,
            HealthController,
            FrontController,
            DemoController,
            AssetsController,
            admin_router,
            console_router,
        ],
        dependencies={name: _given(thing) for name, thing in house.dependencies().items()},
        exception_handlers={Exception: _answer},
        request_max_body_size=settings.upload_bytes_max + FORM_SLACK_BYTES,
        lifespan=[house.opened],
        state=State({"house": house}),
        openapi_config=None,
        logging_config=None,
    )
    app.asgi_handler = Envelope(app.asgi_handler, house.metrics, house.refusal_counts)
    return app


def _answer(request: Request[Any, Any, Any], exc: Exception) -> Response[Any]:
    """Answer what no router of ours has caught: an unknown path in the shape of its neighbours."""
    is_page = request.scope["path"].startswith(PAGES)
    return answer_with_page(request, exc) if is_page else answer_problem(request, exc)


def _given(thing: Any) -> Provide:
    return Provide(lambda: thing, sync_to_thread=False, use_cache=True)
