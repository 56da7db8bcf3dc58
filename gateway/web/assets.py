"""Style sheets, scripts and libraries, under addresses that change when their content does.

The libraries are npm packages pinned in package-lock.json; the table names the one file of each
that a page loads. Nothing else of `node_modules` can be asked for.
"""

import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any, Final

from litestar import Controller, Request, Response, get
from litestar.exceptions import NotFoundException
from litestar.params import FromPath

WEB: Final = files("gateway.web")
PACKAGES: Final = WEB / "node_modules"
LIBRARIES: Final[Mapping[str, str]] = {
    "chart.js": "chart.js/dist/chart.umd.min.js",
    "htmx.js": "htmx.org/dist/htmx.min.js",
    "panzoom.js": "@panzoom/panzoom/dist/panzoom.min.js",
}
OWN_FOLDERS: Final = ("gateway.web", "gateway.playground", "gateway.dashboard", "gateway.console")
MEDIA_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".jpg": "image/jpeg",
    ".webp": "image/webp",
}
FOR_GOOD: Final = "public, max-age=31536000, immutable"
COMPRESSED_BYTES_MIN: Final = 1_024


@dataclass(frozen=True, slots=True)
class Asset:
    """One file as it is served."""

    content: bytes
    compressed: bytes | None
    media_type: str
    version: str


def url_of(name: str) -> str:
    """Give the address of an asset, with the version of its content.

    Raises:
        LookupError: there is no such asset, which is a mistake in a template.
    """
    return f"/assets/{name}?v={asset_of(name).version}"


def are_libraries_installed() -> bool:
    """Tell whether `npm ci` was run (make does); without it pages work and show no charts."""
    return all((PACKAGES / path).is_file() for path in LIBRARIES.values())


@lru_cache(maxsize=256)
def asset_of(name: str) -> Asset:
    """Read an asset, once.

    Raises:
        LookupError: there is no such asset.
    """
    content = _find(name).read_bytes()
    suffix = name[name.rfind(".") :]
    is_text = suffix in {".css", ".js", ".svg"} and len(content) >= COMPRESSED_BYTES_MIN
    return Asset(
        content=content,
        compressed=gzip.compress(content, mtime=0) if is_text else None,
        media_type=MEDIA_TYPES.get(suffix, "application/octet-stream"),
        version=hashlib.sha256(content).hexdigest()[:12],
    )


def _find(name: str) -> Traversable:
    """Look a plain file name up in the table and our own folders; it never holds a slash."""
    if path := LIBRARIES.get(name):
        return _existing(PACKAGES / path, name)
    if "/" in name or name.startswith("."):
        raise LookupError(name)
    for package in OWN_FOLDERS:
        found = files(package) / "assets" / name
        if found.is_file():
            return found
    raise LookupError(name)


def _existing(found: Traversable, name: str) -> Traversable:
    if not found.is_file():
        raise LookupError(f"{name} is not installed: run `make assets`")
    return found


class AssetsController(Controller):
    """`/assets/{name}`: files that never change under one address."""

    path = "/assets"

    @get("/{name:str}", sync_to_thread=False)
    def read_asset(self, request: Request[Any, Any, Any], name: FromPath[str]) -> Response[bytes]:
        try:
            asset = asset_of(name)
        except LookupError:
            raise NotFoundException from None
        headers = {"Vary": "Accept-Encoding", "ETag": f'"{asset.version}"'}
        if request.query_params.get("v") == asset.version:
            headers["Cache-Control"] = FOR_GOOD
        content = asset.content
        if asset.compressed and "gzip" in request.headers.get("accept-encoding", ""):
            content = asset.compressed
            headers["Content-Encoding"] = "gzip"
        return Response(content, headers=headers, media_type=asset.media_type)
