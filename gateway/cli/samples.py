"""Photographs to try the gateway on: scikit-image's, free to use, served on loopback.

astronaut: NASA, public domain. chelsea: Stéfan van der Walt, CC0. coffee: Rachel Michetti, CC0.
"""

from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from threading import Thread
from typing import Any, Final

from PIL import Image

NAMES: Final = ("astronaut", "coffee", "chelsea")
JPEG_QUALITY: Final = 92


class Samples:
    """A folder of JPEGs and, between `start` and `stop`, a server of it.

    Args:
        folder: filled by `start`; made if missing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._server: ThreadingHTTPServer | None = None

    def start(self) -> None:
        """Write the photographs and serve them on a free port of 127.0.0.1."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for name in NAMES:
            if (source := _find(name)) is not None and not self.path_of(name).exists():
                with Image.open(source) as image:
                    image.convert("RGB").save(self.path_of(name), quality=JPEG_QUALITY)
        handler = partial(_QuietHandler, directory=str(self.folder))
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def path_of(self, name: str) -> Path:
        return self.folder / f"{name}.jpg"

    def url_of(self, name: str) -> str:
        port = self._server.server_port if self._server is not None else 0
        return f"http://127.0.0.1:{port}/{name}.jpg"


class _QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Say nothing: the terminal is the person's."""


def _find(name: str) -> Path | None:
    """Find a photograph in the wheel without importing it: that would take a second."""
    spec = find_spec("skimage")
    for place in (spec.submodule_search_locations if spec is not None else None) or []:
        path = Path(place) / "data" / f"{name}.png"
        if path.exists():
            return path
    return None
