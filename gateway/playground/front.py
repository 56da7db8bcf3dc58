"""The page at `/`, for whoever opens the gateway's address in a browser: what to call, and how.

Nothing on it comes from outside: its policy lets in one style sheet of our own and no script.
"""

from html import escape
from importlib.resources import files
from string import Template
from typing import Any, Final

from litestar import Controller, HttpMethod, MediaType, Request, Response, get, route
from litestar.di import NamedDependency

from gateway.settings import Settings

HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none';"
        " frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
}
PAGE: Final = Template((files(__package__) / "front.html").read_text(encoding="utf-8"))
STYLE: Final = (files(__package__) / "front.css").read_bytes()


class FrontController(Controller):
    @route(
        "/",
        http_method=[HttpMethod.GET, HttpMethod.HEAD],
        media_type=MediaType.HTML,
        sync_to_thread=False,
    )
    def read_page(
        self, request: Request[Any, Any, Any], settings: NamedDependency[Settings]
    ) -> Response[str]:
        is_head = request.method == HttpMethod.HEAD
        page = "" if is_head else PAGE.substitute(url=escape(settings.public_url))
        return Response(page, headers=HEADERS, media_type=MediaType.HTML)

    @get("/front.css", sync_to_thread=False)
    def read_style(self) -> Response[bytes]:
        return Response(STYLE, headers=HEADERS, media_type="text/css")
