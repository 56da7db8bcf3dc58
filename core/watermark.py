"""The mark that tells a test's result from a paid one."""

from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

TEXT: Final = "TEST"
TILES_PX: Final = (180, 90, 60)
"""The largest that the picture holds; a smaller picture still shows the middle of the last."""
FONT_SHARE: Final = 52 / 180
RIM_SHARE: Final = 3 / 180
SLANT_DEGREES: Final = 30
STRENGTH: Final = 0.6
INK: Final = "white"
RIM: Final = "black"
"""White letters in a black rim show on anything."""


def watermark_over(width_px: int, height_px: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Lay tiles over a picture; what is smaller than one shows the middle of it.

    Returns:
        The writing's colour, (H, W, 3) uint8, and its opacity, (H, W) uint8.
    """
    short_px = min(width_px, height_px)
    side_px = next((px for px in TILES_PX if px <= short_px), TILES_PX[-1])
    left, top = (max(0, side_px - px) // 2 for px in (width_px, height_px))
    rows, columns = slice(top, top + height_px), slice(left, left + width_px)
    times = -(-rows.stop // side_px), -(-columns.stop // side_px)
    ink, opacity = _tile(side_px)
    return np.tile(ink, (*times, 1))[rows, columns], np.tile(opacity, times)[rows, columns]


@cache
def _tile(side_px: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw one square tile in the font that ships inside Pillow.

    Returns:
        The writing's colour, (n, n, 3) uint8, and its opacity, (n, n) uint8.
    """
    tile = Image.new("LA", (side_px, side_px))
    middle = (side_px / 2, side_px / 2)
    font = ImageFont.load_default(size=round(side_px * FONT_SHARE))
    rim_px = round(side_px * RIM_SHARE)
    ImageDraw.Draw(tile).text(
        middle, TEXT, INK, font, anchor="mm", stroke_width=rim_px, stroke_fill=RIM
    )
    slanted = np.asarray(tile.rotate(SLANT_DEGREES, Image.Resampling.NEAREST))
    opacity = (slanted[..., 1] * STRENGTH).astype(np.uint8)
    return np.repeat(slanted[..., :1], 3, axis=2), opacity
