"""The first page: how the service and its books are doing."""

from litestar import Controller, Response, get
from litestar.di import NamedDependency

from gateway.dashboard.staff import Staff
from gateway.web.pages import page


class OverviewController(Controller):
    @get("/", sync_to_thread=False)
    def show(self, staff: NamedDependency[Staff]) -> Response[str]:
        return page("dashboard/overview.html", staff=staff)
