"""A picture -> the network's square of numbers: what rembg would feed it, for a part of the time.

rembg has Pillow scale the whole picture by a Lanczos filter. Here a large one is halved first, and
the filter is two products of matrices, rounded in between as Pillow rounds: of a picture that was
not halved, all but some pixels in a hundred thousand are the same.
"""

from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from core.parallel import at_once
from core.weights import Weights

Pixels = NDArray[np.uint8]
Plane = NDArray[np.float32]
Band = tuple[slice, slice, Plane]
"""Some rows of a result, the rows of the source that they need, and how much of each."""

LARGE_SOURCE_GAP: Final = 2
"""A larger source is first halved, to no less than this times the network's size."""
STRIP_PX: Final = 16
"""Rows of the result that are halved down to at once: what lies between stays in the cache."""
BYTE_MAX: Final = 255
ALMOST_NOTHING: Final = 1e-6
LOBES: Final = 3
"""How far Lanczos' filter reaches, in pixels of the result."""
BAND_PX: Final = 8
PILLOWS_ONE: Final = 2**22
"""Pillow counts in whole numbers."""
TIE: Final = 2**-16
"""Added before rounding: OpenCV rounds a half to the even number, Pillow up."""
PRODUCT_ALONE_MAX: Final = 2**18
"""OpenBLAS shares a product of more steps among all cores, however few a cutout may use."""


@dataclass(frozen=True, slots=True)
class Reduced:
    """A picture halved some times, remainder and all.

    Attributes:
        image: (h, w, 3) uint8; its last row and column may be averages of fewer pixels.
        size_px: how much of its width and height is the whole picture.
        halvings: how many times.
    """

    image: Pixels
    size_px: tuple[float, float]
    halvings: int


def prepare(image: Pixels, weights: Weights, threads: int = 1) -> Plane:
    """Scale `image` to the network's square and normalise it.

    Returns:
        (1, 3, n, n) float32.

    Source: `BaseSession.normalize` of rembg 2.0.86, whose numbers it keeps.
    """
    return normalised(reduce(image, weights.input_px, threads), weights)


def reduce(image: Pixels, side_px: int, threads: int) -> Reduced:
    """Halve the picture while `LARGE_SOURCE_GAP` times `side_px` are left."""
    height_px, width_px = image.shape[:2]
    halvings = 0
    while min(height_px, width_px) >> halvings + 1 >= side_px * LARGE_SOURCE_GAP:
        halvings += 1
    if not halvings:
        return Reduced(image, (width_px, height_px), 0)
    step = 2**halvings
    reduced = np.empty((-(-height_px // step), -(-width_px // step), 3), np.uint8)

    def fill(first: int) -> None:
        strip = image[first * step : (first + STRIP_PX) * step]
        for _ in range(halvings):
            strip = _halved(strip)
        reduced[first : first + STRIP_PX] = strip

    at_once([partial(fill, first) for first in range(0, len(reduced), STRIP_PX)], threads)
    return Reduced(reduced, (width_px / step, height_px / step), halvings)


def _halved(image: Pixels) -> Pixels:
    """Average boxes of 2 x 2 pixels; what is left over at the far sides, by 2 or alone."""
    whole_y, whole_x = image.shape[0] // 2, image.shape[1] // 2
    halved = np.empty((-(-image.shape[0] // 2), -(-image.shape[1] // 2), 3), np.uint8)
    for rows in (slice(0, whole_y), slice(whole_y, len(halved))):
        for columns in (slice(0, whole_x), slice(whole_x, halved.shape[1])):
            target = halved[rows, columns]
            if target.size:
                source = image[rows.start * 2 : rows.stop * 2, columns.start * 2 : columns.stop * 2]
                size_px = (target.shape[1], target.shape[0])
                cv2.resize(source, size_px, dst=target, interpolation=cv2.INTER_AREA)
    return halved


def normalised(reduced: Reduced, weights: Weights) -> Plane:
    """Scale a reduced picture to the network's square and normalise it."""
    pixels = _lanczos(reduced, weights.input_px)
    largest = float(pixels.max()) if weights.is_scaled_by_largest else BYTE_MAX
    std = np.array(weights.std)
    factor = (1 / (max(largest, ALMOST_NOTHING) * std)).astype(np.float32)
    offset = (np.array(weights.mean) / std).astype(np.float32)
    planes = np.stack([np.asarray(plane, np.float32) for plane in cv2.split(pixels)])[None]
    planes *= factor[:, None, None]
    planes -= offset[:, None, None]
    return planes


def _lanczos(reduced: Reduced, side_px: int) -> Pixels:
    """Scale a reduced picture to a square.

    Pillow rounds between its two passes, so their order counts: it begins with the columns of a
    picture that is much higher than wide.
    """
    height_px, width_px = reduced.image.shape[:2]
    across, down = (
        partial(_filtered, bands=_bands(have_px, shown_px, side_px, reduced.halvings))
        for have_px, shown_px in zip((width_px, height_px), reduced.size_px, strict=True)
    )
    if height_px - side_px > max(0, 2 * (width_px - side_px)):
        return _turned(across(_turned(down(reduced.image))))
    return down(_turned(across(_turned(reduced.image))))


def _turned(pixels: Pixels) -> Pixels:
    turned: NDArray[Any] = np.asarray(cv2.transpose(pixels))
    return turned.reshape(pixels.shape[1], pixels.shape[0], 3)


def _filtered(pixels: Pixels, *, bands: tuple[Band, ...]) -> Pixels:
    """Make the rows of each band, and round them: on one thread, since its steps are short."""
    rows = pixels.reshape(len(pixels), -1)
    result = np.empty((bands[-1][0].stop, rows.shape[1]), np.float32)
    share_px = max(1, PRODUCT_ALONE_MAX // max(factors.size for _, _, factors in bands))
    for start in range(0, rows.shape[1], share_px):
        columns = slice(start, start + share_px)
        source = np.asarray(rows[:, columns], np.float32)
        for made, needed, factors in bands:
            np.matmul(factors, source[needed], out=result[made, columns])
    rounded = cv2.add(result, (TIE, 0, 0, 0), dtype=cv2.CV_8U)  # type: ignore[call-overload]  # the stubs know no scalars
    return np.asarray(rounded, np.uint8).reshape(len(result), -1, 3)


@lru_cache(maxsize=16)
def _bands(have_px: int, shown_px: float, side_px: int, halvings: int) -> tuple[Band, ...]:
    """Return how `BAND_PX` rows at a time of `side_px` are made of the first `shown_px`.

    What halving took from the finest detail that is still to be seen is given back.

    Source: `precompute_coeffs` of Pillow, whose numbers it keeps but for that.
    """
    scale = shown_px / side_px
    reach = max(1.0, scale)
    margin = LOBES * reach + (halvings > 0)
    centre = (np.arange(side_px) + 0.5) * scale
    first = np.maximum(centre - margin + 0.5, 0).astype(int)
    end = np.minimum((centre + margin + 0.5).astype(int), have_px)
    at = first[:, None] + np.arange(-1, (end - first).max() + 1)
    away = (at + 0.5 - centre[:, None]) / reach
    window = np.where(np.abs(away) < LOBES, np.sinc(away) * np.sinc(away / LOBES), 0)
    lost = (1 - 0.25**halvings) / 24
    factors = window[:, 1:-1] * (1 + 2 * lost) - (window[:, :-2] + window[:, 2:]) * lost
    factors[at[:, 1:-1] >= end[:, None]] = 0
    factors /= factors.sum(axis=1, keepdims=True)
    factors = np.rint(factors * PILLOWS_ONE) / PILLOWS_ONE
    bands = []
    for top in range(0, side_px, BAND_PX):
        made = slice(top, min(side_px, top + BAND_PX))
        needed = slice(int(first[top]), int(end[made][-1]))
        wide = np.zeros((made.stop - top, needed.stop - needed.start), np.float32)
        for row, own, start, stop in zip(wide, factors[made], first[made], end[made], strict=True):
            row[start - needed.start : stop - needed.start] = own[: stop - start]
        bands.append((made, needed, wide))
    return tuple(bands)
