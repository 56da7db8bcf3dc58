"""Small pictures of results, made when they are looked at and kept by the browser alone."""

import asyncio
from io import BytesIO
from typing import Final

from PIL import Image

EDGE_PX: Final = 160
"""Twice what a list shows, for dense screens."""
PIXELS_MAX: Final = 16_000_000
"""Of a result that is opened for this: 64 MB while it is."""
AT_ONCE_MAX: Final = 1
PICTURES: Final = frozenset({"image/png", "image/webp", "image/jpeg"})
MEDIA_TYPE: Final = "image/webp"

_drawing = asyncio.Semaphore(AT_ONCE_MAX)


def is_drawable(media_type: str | None, width_px: int | None, height_px: int | None) -> bool:
    """Tell whether a result is a picture, and of a size that may be opened for a thumbnail."""
    return media_type in PICTURES and 0 < (width_px or 0) * (height_px or 0) <= PIXELS_MAX


async def thumbnail_of(picture: bytes) -> bytes:
    async with _drawing:
        return await asyncio.to_thread(_drawn, picture)


def _drawn(picture: bytes) -> bytes:
    with Image.open(BytesIO(picture)) as image:
        image.thumbnail((EDGE_PX, EDGE_PX), reducing_gap=2.0)
        out = BytesIO()
        mode = "RGBA" if image.has_transparency_data else "RGB"
        image.convert(mode).save(out, "WEBP", quality=80)
        return out.getvalue()
