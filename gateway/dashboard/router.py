"""All of `/admin`, behind its guard."""

from litestar import Router
from litestar.di import Provide

from gateway.dashboard.guard import EXCEPTION_HANDLERS, let_staff_in, staff_of
from gateway.dashboard.overview import OverviewController
from gateway.dashboard.profile import ProfileController
from gateway.dashboard.sign_in import SignInController

admin_router = Router(
    "/admin",
    route_handlers=[OverviewController, ProfileController, SignInController],
    guards=[let_staff_in],
    dependencies={"staff": Provide(staff_of, sync_to_thread=False)},
    exception_handlers=EXCEPTION_HANDLERS,
    include_in_schema=False,
)
