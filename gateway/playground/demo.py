"""What the page at `/` calls where a demo key stands behind it.

The key stays here: a visitor's browser never sees it. Apart from that these are the Revid dialect's
calls, with its holds, charges and refusals; a task is read and its cutout fetched by the
dialect's own addresses, which need no key. Pages of other sites are kept out, and one address gets
a few pictures a minute, so that a visitor cannot use up what is meant for all.
"""

from typing import Any, Final

from litestar import Controller, Request, Response, delete, post
from litestar.connection import ASGIConnection
from litestar.di import NamedDependency, Provide
from litestar.exceptions import NotFoundException
from litestar.handlers import BaseRouteHandler

from gateway.auth import Caller
from gateway.cutouts import Cutouts
from gateway.dialects.account import shape_problem
from gateway.dialects.door import AS_X_API_KEY, Door, address_of
from gateway.dialects.reception import Reception
from gateway.dialects.revid import (
    SCOPE,
    accept_task,
    answer_task,
    cancel_waiting,
    readable_task,
)
from gateway.errors import Problem
from gateway.limits import bucket_for
from gateway.settings import Settings
from gateway.tables import Job
from gateway.web.cookies import check_origin
from gateway.web.refusals import ForgedFormError

ADDRESS_RATE_PER_MINUTE: Final = 20
ADDRESS_BURST: Final = 10
FOREIGN_PAGE: Final = Problem(403, "foreign_page", "Only the playground's own page may call this")


def has_demo_key(settings: Settings) -> bool:
    return bool(settings.playground_key)


def keep_other_sites_out(
    connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler
) -> None:
    """Let the page's own calls pass.

    Raises:
        NotFoundException: no demo key stands behind the page.
        ForgedFormError: a page of another site makes its visitor's browser call.
    """
    settings: Settings = connection.app.state.house.settings
    if not has_demo_key(settings):
        raise NotFoundException
    check_origin(Request(connection.scope), settings.public_url)


def refuse_foreign_page(_: Request[Any, Any, Any], __: ForgedFormError) -> Response[Any]:
    return shape_problem(FOREIGN_PAGE, FOREIGN_PAGE.title)


async def demo_caller(
    request: Request[Any, Any, Any],
    door: NamedDependency[Door],
    settings: NamedDependency[Settings],
) -> Caller:
    """Let the visitor in under the demo key.

    Raises:
        RateLimitedError: this address, or all visitors together, send too many.
    """
    await door.limits.take(
        f"playground:{bucket_for(address_of(request))}",
        rate_per_minute=ADDRESS_RATE_PER_MINUTE,
        burst=ADDRESS_BURST,
    )
    key = settings.playground_key.get_secret_value() if settings.playground_key else None
    return await door.enter(request, key, scope=SCOPE, send_as=AS_X_API_KEY)


class DemoController(Controller):
    path = "/playground/cutouts"
    guards = (keep_other_sites_out,)
    dependencies = {"caller": Provide(demo_caller)}  # noqa: RUF012 - Litestar's own way
    exception_handlers = {ForgedFormError: refuse_foreign_page}  # noqa: RUF012 - Litestar's own way

    @post("/", status_code=200)
    async def start_cutout(
        self,
        request: Request[Any, Any, Any],
        caller: NamedDependency[Caller],
        reception: NamedDependency[Reception],
    ) -> Response[dict[str, Any]]:
        """Take a picture as the Revid dialect does, on the demo key."""
        return await accept_task(request, caller, reception)

    @delete("/{task_id:str}", status_code=200, dependencies={"job": Provide(readable_task)})
    async def cancel_cutout(
        self,
        caller: NamedDependency[Caller],
        job: NamedDependency[Job],
        cutouts: NamedDependency[Cutouts],
        settings: NamedDependency[Settings],
    ) -> Response[dict[str, Any]]:
        """Cancel a task that still waits."""
        return answer_task(await cancel_waiting(job, caller, cutouts), settings)
