"""System: who runs, on which models, and on what it all stands."""

from typing import Any

from litestar import Controller, Request, Response, get
from litestar.di import NamedDependency
from redis.asyncio import Redis

from core import CoreError
from gateway import presence
from gateway.cutouts import Cutouts
from gateway.dashboard.remembered import Remembered
from gateway.dashboard.staff import Staff
from gateway.dashboard.system_facts import (
    StorageFacts,
    database_facts,
    redis_facts,
    storage_facts,
)
from gateway.dashboard.weights import WeightsShelf
from gateway.web.pages import page


class SystemController(Controller):
    path = "/system"

    @get()
    async def show(  # noqa: PLR0913, PLR0917 - by name; the page is of all that there is
        self,
        request: Request[Any, Any, Any],
        staff: NamedDependency[Staff],
        cutouts: NamedDependency[Cutouts],
        redis: NamedDependency[Redis],
        shelf: NamedDependency[WeightsShelf],
        remembered: NamedDependency[Remembered],
    ) -> Response[str]:
        settings = cutouts.settings

        async def reckon() -> StorageFacts:
            return await storage_facts(cutouts.sessions, settings.storage_url)

        storage = await remembered.get("storage", reckon)
        async with cutouts.sessions() as db:
            database = await database_facts(db)
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
            storage=storage.value,
        )


def _default_model(cutouts: Cutouts) -> str:
    asked = cutouts.settings.default_model
    try:
        return cutouts.inference.resolve(asked)[0]
    except CoreError:
        return f"{asked}, which is not installed"
