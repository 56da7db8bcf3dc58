"""The part of a picture in which the subject is looked for."""

import numpy as np
from numpy.typing import NDArray

from core.errors import InvalidOptionError
from core.options import parse_roi

Plane = NDArray[np.uint8]
Box = tuple[slice, slice]


def box_of(roi: str | None, shape: tuple[int, ...]) -> Box:
    """Return the rows and columns that `roi` names in a picture of `shape`, (H, W, …).

    Raises:
        InvalidOptionError: no pixel of the picture is in it.
    """
    height_px, width_px = shape[:2]
    if roi is None:
        return slice(0, height_px), slice(0, width_px)
    left, top, right, bottom = parse_roi(roi)
    rows = slice(top.px_of(height_px), min(height_px, bottom.px_of(height_px)))
    columns = slice(left.px_of(width_px), min(width_px, right.px_of(width_px)))
    if rows.start >= rows.stop or columns.start >= columns.stop:
        raise InvalidOptionError("roi", "holds no part of the picture")
    return rows, columns


def place(alpha: Plane, box: Box, shape: tuple[int, ...]) -> Plane:
    """Put `alpha` of the region back into the whole picture: outside it all is background."""
    if alpha.shape == shape[:2]:
        return alpha
    placed = np.zeros(shape[:2], np.uint8)
    placed[box] = alpha
    return placed
