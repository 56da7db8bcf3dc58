"""A page: a template, what it shows, and the headers that keep a browser from doing more.

The policy lets in our own style sheets, scripts and pictures and nothing else: no inline script,
no inline style, no frame, no other host. A template that needs one of them does not work, and the
browser tests fail on the console's complaint.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from jinja2 import Environment, PackageLoader, PrefixLoader, StrictUndefined, select_autoescape
from litestar import MediaType, Response

from gateway.web.assets import are_libraries_installed, url_of

POLICY: Final = (
    "default-src 'none'; "
    "script-src 'self'; "
    "style-src 'self'; "
    "img-src 'self' blob: data:; "
    "connect-src 'self'; "
    "form-action 'self'; "
    "base-uri 'none'; "
    "frame-ancestors 'none'"
)
HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}
MINUTE_S: Final = 60
HOUR_S: Final = 3_600
DAY_S: Final = 86_400
SPANS: Final = ((DAY_S, "day"), (HOUR_S, "hour"), (MINUTE_S, "minute"))


def page(
    template: str,
    *,
    status: int = 200,
    headers: dict[str, str] | None = None,
    **shown: Any,
) -> Response[str]:
    """Answer with the page that `template` makes of `shown`."""
    return Response(
        render(template, **shown),
        status_code=status,
        headers=HEADERS | (headers or {}),
        media_type=MediaType.HTML,
    )


def render(template: str, **shown: Any) -> str:
    return ENVIRONMENT.get_template(template).render(shown)


def grouped(number: int | None) -> str:
    """Write a number as people read it: 12,345, with a true minus sign; a dash where there is none.

    Thousands are parted by a comma, as the rest of the product writes them.
    """
    return "–" if number is None else f"{number:,}".replace("-", "−")


def signed(number: int) -> str:
    """Write a change: +25, −25."""
    return f"+{number:,}" if number > 0 else grouped(number)


def money(cents: int | None, currency: str = "USD") -> str:
    """Write an amount of money."""
    if cents is None:
        return "–"
    sign = "−" if cents < 0 else ""
    return f"{sign}{currency} {abs(cents) / 100:,.2f}"


def moment(at: datetime | None, style: str = "minute") -> str:
    """Write a time in UTC: `2026-11-20 13:24` (minute), `… 13:24:05` (second), or the day alone."""
    if at is None:
        return "–"
    form = {"day": "%Y-%m-%d", "minute": "%Y-%m-%d %H:%M", "second": "%Y-%m-%d %H:%M:%S"}[style]
    return at.astimezone(UTC).strftime(form)


def ago(at: datetime | None) -> str:
    """Write how long ago something was, or how soon it will be."""
    if at is None:
        return "never"
    seconds = (datetime.now(UTC) - at).total_seconds()
    words = span(timedelta(seconds=abs(seconds)))
    return f"{words} ago" if seconds >= 0 else f"in {words}"


def span(length: timedelta) -> str:
    """Write a length of time in its largest unit."""
    seconds = int(length.total_seconds())
    for unit_s, name in SPANS:
        if seconds >= unit_s:
            count = seconds // unit_s
            return f"{count} {name}{'' if count == 1 else 's'}"
    return f"{seconds} s"


def _environment() -> Environment:
    packages = ("web", "dashboard", "console", "playground")
    environment = Environment(
        loader=PrefixLoader({name: PackageLoader(f"gateway.{name}") for name in packages}),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: tuple[Callable[..., str], ...] = (grouped, signed, money, moment, ago, span)
    environment.filters.update({shape.__name__: shape for shape in filters})
    environment.globals.update(asset=url_of, has_libraries=are_libraries_installed())
    return environment


ENVIRONMENT: Final = _environment()
