"""The mark that tells a test's result from a paid one."""

from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

TEXT: Final = "TEST"
TILE_PX: Final = 180
FONT_PX: Final = 52
RIM_PX: Final = 3
SLANT_DEGREES: Final = 30
STRENGTH: Final = 0.6
INK: Final = "white"
RIM: Final = "black"
"""White letters in a black rim show on anything."""


@cache
def watermark_tile() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw one square tile in the font that ships inside Pillow.

    Returns:
        The writing's colour, (n, n, 3) uint8, and its opacity, (n, n) uint8.
    """
    tile = Image.new("LA", (TILE_PX, TILE_PX))
    middle = (TILE_PX / 2, TILE_PX / 2)
    font = ImageFont.load_default(size=FONT_PX)
    ImageDraw.Draw(tile).text(
        middle, TEXT, INK, font, anchor="mm", stroke_width=RIM_PX, stroke_fill=RIM
    )
    slanted = np.asarray(tile.rotate(SLANT_DEGREES, Image.Resampling.NEAREST))
    opacity = (slanted[..., 1] * STRENGTH).astype(np.uint8)
    return np.repeat(slanted[..., :1], 3, axis=2), opacity
