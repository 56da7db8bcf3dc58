"""System: who runs, on which models, and on what it all stands."""

from typing import Any

from litestar import Controller, Request, Response, get
from litestar.di import NamedDependency
from redis.asyncio import Redis

from core import CoreError
from gateway import presence
from gateway.cutouts import Cutouts
from gateway.dashboard.staff import Staff
from gateway.dashboard.system_facts import database_facts, redis_facts, storage_facts
from gateway.dashboard.weights import WeightsShelf
from gateway.web.pages import page


class SystemController(Controller):
    path = "/system"

    @get()
    async def show(
        self,
        request: Request[Any, Any, Any],
        staff: NamedDependency[Staff],
        cutouts: NamedDependency[Cutouts],
        redis: NamedDependency[Redis],
        shelf: NamedDependency[WeightsShelf],
    ) -> Response[str]:
        settings = cutouts.settings
        async with cutouts.sessions() as db:
            database = await database_facts(db)
            storage = await storage_facts(db, settings.storage_url)
        template = "system_parts" if "hx-request" in request.headers else "system"
        return page(
            f"dashboard/{template}.html",
            staff=staff,
            cards=await presence.present(redis),
            default_model=_default_model(cutouts),
            missing_weights=settings.missing_weights,
            weights=await shelf.look(),
            folder=shelf.folder,
            database=database,
            redis=await redis_facts(redis),
            storage=storage,
        )


def _default_model(cutouts: Cutouts) -> str:
    asked = cutouts.settings.default_model
    try:
        return cutouts.inference.resolve(asked)[0]
    except CoreError:
        return f"{asked}, which is not installed"
