"""One picture over another, exactly, in strips that stay in the processor's cache."""

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.uint8]

OPAQUE: Final = 255
STRIP_PIXELS: Final = 2**18


def strips(shape: tuple[int, ...], count_min: int = 1) -> Iterator[slice]:
    """Cut the rows of (H, W, …) into strips of about `STRIP_PIXELS`, or into at least so many."""
    rows_px = max(1, min(STRIP_PIXELS // shape[1], shape[0] // count_min))
    for top in range(0, shape[0], rows_px):
        yield slice(top, min(shape[0], top + rows_px))


def blend(colour: Plane, alpha: Plane, background: Plane) -> Plane:
    """Lay `colour`, (H, W, 3), over an opaque background, (H, W, 3) or (1, 1, 3).

    Rounded to the nearest value: opaque pixels come through bit for bit.
    """
    blended = np.empty(colour.shape, np.uint8)
    for rows in strips(alpha.shape):
        weight = alpha[rows, :, None].astype(np.uint16)
        under = background if background.shape[0] == 1 else background[rows]
        value = colour[rows] * weight + under * (OPAQUE - weight)
        # Division by 255, rounded, without dividing.
        value += 128
        value += value >> 8
        blended[rows] = value >> 8
    return blended


def blend_translucent(
    colour: Plane, alpha: Plane, under: tuple[int, int, int], opacity: int
) -> tuple[Plane, Plane]:
    """Lay `colour` over a uniform, see-through background; return colour and alpha."""
    blended, joined = np.empty(colour.shape, np.uint8), np.empty(alpha.shape, np.uint8)
    background = np.array(under, np.float32)
    for rows in strips(alpha.shape):
        above = alpha[rows, :, None].astype(np.float32) / OPAQUE
        below = (1 - above) * (opacity / OPAQUE)
        together = above + below
        value = colour[rows] * above + background * below
        blended[rows] = np.rint(value / np.maximum(together, 1 / OPAQUE))
        joined[rows] = np.rint(together[..., 0] * OPAQUE)
    return blended, joined
