"""All of `/console`, behind its guard."""

from litestar import Router
from litestar.di import Provide

from gateway.console.guard import EXCEPTION_HANDLERS, let_visitors_in, visitor_of
from gateway.console.jobs import JobsController
from gateway.console.keys import KeysController
from gateway.console.limits import LimitsController
from gateway.console.overview import OverviewController
from gateway.console.sign_in import SignInController
from gateway.console.statement import StatementController
from gateway.console.usage import UsageController
from gateway.console.webhooks import WebhooksController
from gateway.web.guard import FORM_BYTES_MAX

console_router = Router(
    "/console",
    route_handlers=[
        JobsController,
        KeysController,
        LimitsController,
        OverviewController,
        SignInController,
        StatementController,
        UsageController,
        WebhooksController,
    ],
    guards=[let_visitors_in],
    dependencies={"visitor": Provide(visitor_of, sync_to_thread=False)},
    exception_handlers=EXCEPTION_HANDLERS,
    request_max_body_size=FORM_BYTES_MAX,
    include_in_schema=False,
)
