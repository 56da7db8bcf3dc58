"""The page at `/`, for whoever opens the gateway's address in a browser: what to call, and how.

Nothing on it comes from outside: its policy lets in one style sheet of our own and no script.
"""

from html import escape
from importlib.resources import files
from string import Template
from typing import Final

from litestar import Controller, MediaType, Response, get
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
    @get("/", media_type=MediaType.HTML, sync_to_thread=False)
    def read_page(self, settings: NamedDependency[Settings]) -> Response[str]:
        page = PAGE.substitute(url=escape(settings.public_url))
        return Response(page, headers=HEADERS, media_type=MediaType.HTML)

    @get("/front.css", sync_to_thread=False)
    def read_style(self) -> Response[bytes]:
        return Response(STYLE, headers=HEADERS, media_type="text/css")
