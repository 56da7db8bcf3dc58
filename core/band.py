"""Walking over the narrow part of a picture where the edge is, tile by tile."""

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

TILE_PX = 64
TILE_WIDTH_PX = 16
"""Narrower than high: what lies beside the edge is cut off more closely, for no more calls."""
HALVED_FROM = 3
"""A plane so many times as large as what is wanted of it is halved first."""

Tile = tuple[slice, slice]


def strips(height_px: int) -> Iterator[slice]:
    """Cut so many rows into strips of `TILE_PX`."""
    return (slice(top, min(height_px, top + TILE_PX)) for top in range(0, height_px, TILE_PX))


def band_tiles(columns: NDArray[Any], rows: slice, first_px: int = 0) -> Iterator[Tile]:
    """Yield the tiles of a strip, merged along it, that hold every column marked above 0.

    Args:
        columns: (W,), above 0 where any of the strip's rows is wanted.
        rows: where the strip lies in the picture.
        first_px: and where its first column does.
    """
    width_px = columns.size
    held = np.maximum.reduceat(columns, np.arange(0, width_px, TILE_WIDTH_PX)) > 0
    edges = np.flatnonzero(np.diff(np.concatenate([[False], held, [False]]).astype(np.int8)))
    for first, last in zip(edges[::2], edges[1::2], strict=True):
        left, right = int(first) * TILE_WIDTH_PX, min(width_px, int(last) * TILE_WIDTH_PX)
        yield rows, slice(first_px + left, first_px + right)


def reduced(plane: NDArray[Any], size_px: tuple[int, int]) -> NDArray[Any]:
    """Return the plane at a smaller (width, height), each result the mean of its area.

    A large one is first halved, which is three times as fast as scaling by any other factor; the
    last row or column of an odd number is left out.
    """
    while min(plane.shape[0] // size_px[1], plane.shape[1] // size_px[0]) >= HALVED_FROM:
        half_px = (plane.shape[1] // 2, plane.shape[0] // 2)
        even = plane[: half_px[1] * 2, : half_px[0] * 2]
        plane = np.asarray(cv2.resize(even, half_px, interpolation=cv2.INTER_AREA))
    return np.asarray(cv2.resize(plane, size_px, interpolation=cv2.INTER_AREA))


def shrunk(image: NDArray[np.uint8], edge_px: int) -> NDArray[np.uint8]:
    """Return the picture with a long edge of at most `edge_px`."""
    height_px, width_px = image.shape[:2]
    scale = min(1.0, edge_px / max(height_px, width_px))
    size_px = (max(1, round(width_px * scale)), max(1, round(height_px * scale)))
    return np.asarray(reduced(image, size_px), np.uint8)


def scaled_up(planes: NDArray[Any], tile: Tile, size_px: tuple[int, int]) -> NDArray[Any]:
    """Return the `tile` of what `planes` would be at `size_px` (height, width), and only that.

    Args:
        planes: (h, w, up to 4 channels) float32.
        tile: rows and columns at `size_px`; may reach outside, where the border is repeated.
        size_px: the full height and width.
    """
    rows, columns = tile
    scale_y, scale_x = planes.shape[0] / size_px[0], planes.shape[1] / size_px[1]
    place = np.array(
        [
            [scale_x, 0, (columns.start + 0.5) * scale_x - 0.5],
            [0, scale_y, (rows.start + 0.5) * scale_y - 0.5],
        ]
    )
    return np.asarray(
        cv2.warpAffine(
            planes,
            place,
            (columns.stop - columns.start, rows.stop - rows.start),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
    )


def widened(tile: Tile, margin_px: int, size_px: tuple[int, int]) -> tuple[Tile, Tile]:
    """Return the tile with a margin, cut at the picture's border, and where it lies in that."""
    wide = tuple(
        slice(max(0, side.start - margin_px), min(end_px, side.stop + margin_px))
        for side, end_px in zip(tile, size_px, strict=True)
    )
    inner = tuple(
        slice(side.start - outer.start, side.stop - outer.start)
        for side, outer in zip(tile, wide, strict=True)
    )
    return (wide[0], wide[1]), (inner[0], inner[1])
