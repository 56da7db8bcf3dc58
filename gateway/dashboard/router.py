"""All of `/admin`, behind its guard."""

from litestar import Router
from litestar.di import Provide

from gateway.dashboard.accounts import AccountsController
from gateway.dashboard.acts import ActsController
from gateway.dashboard.books import BooksController
from gateway.dashboard.exports import ExportsController
from gateway.dashboard.guard import EXCEPTION_HANDLERS, let_staff_in, staff_of
from gateway.dashboard.job_pages import JobsController
from gateway.dashboard.overview import OverviewController
from gateway.dashboard.profile import ProfileController
from gateway.dashboard.sign_in import SignInController
from gateway.dashboard.system import SystemController
from gateway.dashboard.trail import TrailController
from gateway.web.guard import FORM_BYTES_MAX

admin_router = Router(
    "/admin",
    route_handlers=[
        AccountsController,
        ActsController,
        BooksController,
        ExportsController,
        JobsController,
        OverviewController,
        ProfileController,
        SignInController,
        SystemController,
        TrailController,
    ],
    guards=[let_staff_in],
    dependencies={"staff": Provide(staff_of, sync_to_thread=False)},
    exception_handlers=EXCEPTION_HANDLERS,
    request_max_body_size=FORM_BYTES_MAX,
    include_in_schema=False,
)
