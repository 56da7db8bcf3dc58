"""The page at `/`: try it on a picture, and see what to call for the same from a program."""

from dataclasses import dataclass
from typing import Any, Final

from litestar import Controller, HttpMethod, MediaType, Request, Response, route
from litestar.di import NamedDependency

from billing.pricing import price_of
from core import WEIGHTS
from core.weights import is_installed
from gateway.playground.demo import has_demo_key
from gateway.settings import Settings
from gateway.web.pages import HEADERS, page

TEMPLATE: Final = "playground/page.html"
SAMPLES: Final = (
    ("astronaut.jpg", "a portrait"),
    ("chelsea.jpg", "a cat"),
    ("coffee.jpg", "a cup of coffee"),
)
MIB: Final = 2**20


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """One line of the page's choice of models."""

    name: str
    good_for: str
    is_installed: bool


class FrontController(Controller):
    @route("/", http_method=[HttpMethod.GET, HttpMethod.HEAD], sync_to_thread=False)
    def read_page(
        self, request: Request[Any, Any, Any], settings: NamedDependency[Settings]
    ) -> Response[str]:
        if request.method == HttpMethod.HEAD:
            return Response("", headers=HEADERS, media_type=MediaType.HTML)
        return page(
            TEMPLATE,
            url=settings.public_url.rstrip("/"),
            has_demo_key=has_demo_key(settings),
            price_credits=price_of("live"),
            upload_bytes_max=settings.upload_bytes_max,
            upload_mib_max=settings.upload_bytes_max // MIB,
            models=model_choices(settings),
            samples=SAMPLES,
        )


def model_choices(settings: Settings) -> list[ModelChoice]:
    """Name the models that can be asked for here: those that would be refused are left out."""
    choices = [
        ModelChoice(row.name, row.good_for, is_installed(row.name, settings.weights_dir))
        for row in WEIGHTS.values()
    ]
    if settings.missing_weights == "substitute":
        return choices
    return [choice for choice in choices if choice.is_installed]
