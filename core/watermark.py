"""The mark that tells a test's result from a paid one."""

from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

TEXT: Final = "TEST"
TILE_PX: Final = 240
SLANT_DEGREES: Final = 30
STRENGTH: Final = 0.5
INK: Final = (110, 110, 110)
"""Grey shows on black and on white."""


@cache
def watermark_tile() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return one square tile, (n, n) uint8 opacity of the writing, and its ink, (1, 1, 3).

    The font is the one that ships inside Pillow.
    """
    tile = Image.new("L", (TILE_PX, TILE_PX))
    font = ImageFont.load_default(size=TILE_PX / 4)
    middle = (TILE_PX / 2, TILE_PX / 2)
    ImageDraw.Draw(tile).text(middle, TEXT, 255, font, anchor="mm")
    slanted = np.asarray(tile.rotate(SLANT_DEGREES, Image.Resampling.BICUBIC), np.float32)
    return (slanted * STRENGTH).astype(np.uint8), np.array([[INK]], np.uint8)
