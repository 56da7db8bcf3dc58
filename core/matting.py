"""From the network's coarse mask to an alpha matte at full resolution.

Alpha is (H, W) uint8, 0..255: at 12 megapixels a float32 matte would be 48 MB for steps that need
it in the band alone.
"""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

GUIDE_EDGE_PX_MAX = 1024
"""Long edge at which the guided filter is solved; its coefficients are smooth and scale up well."""
RADIUS_PX = 8
EPSILON = 1e-5

Alpha = NDArray[np.uint8]
Image = NDArray[np.uint8]
Mask = NDArray[np.float32]
Planes = NDArray[Any]
"""Floats inside the solver; OpenCV and numpy disagree on how narrowly to type them."""


def refine(image: Image, mask: Mask, *, deadline_s: float | None = None) -> tuple[Alpha, str]:
    """Return the alpha matte of `image` and the name of the refinement that made it.

    Args:
        image: (H, W, 3) uint8 sRGB.
        mask: (h, w) float32, 0..1, at the network's resolution.
        deadline_s: a `time.monotonic()` moment after which only the cheap steps run.

    Returns:
        (H, W) uint8 alpha, 0..255, and the method's name for the answer.
    """
    del deadline_s
    height_px, width_px = image.shape[:2]
    scale = min(1.0, GUIDE_EDGE_PX_MAX / max(height_px, width_px))
    small_px = (max(1, round(width_px * scale)), max(1, round(height_px * scale)))
    guide = cv2.resize(image, small_px, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    coarse = np.clip(cv2.resize(mask, small_px, interpolation=cv2.INTER_CUBIC), 0, 1)
    slopes, offset = _guided_coefficients(guide, coarse)
    return _apply_coefficients(image, slopes, offset), "guided"


def _apply_coefficients(image: Image, slopes: Planes, offset: Planes) -> Alpha:
    height_px, width_px = image.shape[:2]
    alpha = np.empty((height_px, width_px), np.uint8)
    rows_px = max(16, 2**20 // width_px)
    planes = np.dstack([slopes / 255, offset])
    for top in range(0, height_px, rows_px):
        bottom = min(height_px, top + rows_px)
        rows = _rows_of(planes, top, bottom, (height_px, width_px))
        value = np.einsum("ijk,ijk->ij", rows[..., :3], image[top:bottom].astype(np.float32))
        value += rows[..., 3]
        alpha[top:bottom] = np.clip((value - 0.02) / 0.96 * 255 + 0.5, 0, 255)
    return alpha


def _rows_of(planes: Planes, top: int, bottom: int, size_px: tuple[int, int]) -> Planes:
    """Scale up the rows [top, bottom) of what `planes` would be at `size_px`, and only those."""
    height_px, width_px = size_px
    scale_x, scale_y = width_px / planes.shape[1], height_px / planes.shape[0]
    place = np.array(
        [
            [1 / scale_x, 0, 0.5 / scale_x - 0.5],
            [0, 1 / scale_y, (top + 0.5) / scale_y - 0.5],
        ]
    )
    return cv2.warpAffine(
        planes,
        place,
        (width_px, bottom - top),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )


def _guided_coefficients(guide: Planes, coarse: Planes) -> tuple[Planes, Planes]:
    """Solve the colour guided filter (He 2013): locally, alpha = slopes . colour + offset."""
    size = (2 * RADIUS_PX + 1, 2 * RADIUS_PX + 1)

    def mean(plane: Planes) -> Planes:
        return cv2.blur(plane, size)

    red, green, blue = cv2.split(guide)
    mean_red, mean_green, mean_blue, mean_mask = mean(red), mean(green), mean(blue), mean(coarse)
    rr = mean(red * red) - mean_red * mean_red + EPSILON
    gg = mean(green * green) - mean_green * mean_green + EPSILON
    bb = mean(blue * blue) - mean_blue * mean_blue + EPSILON
    rg = mean(red * green) - mean_red * mean_green
    rb = mean(red * blue) - mean_red * mean_blue
    gb = mean(green * blue) - mean_green * mean_blue
    rm = mean(red * coarse) - mean_red * mean_mask
    gm = mean(green * coarse) - mean_green * mean_mask
    bm = mean(blue * coarse) - mean_blue * mean_mask

    inverse_rr, inverse_rg, inverse_rb = gg * bb - gb * gb, gb * rb - rg * bb, rg * gb - gg * rb
    inverse_gg, inverse_gb, inverse_bb = rr * bb - rb * rb, rb * rg - rr * gb, rr * gg - rg * rg
    determinant = inverse_rr * rr + inverse_rg * rg + inverse_rb * rb
    slope_red = (inverse_rr * rm + inverse_rg * gm + inverse_rb * bm) / determinant
    slope_green = (inverse_rg * rm + inverse_gg * gm + inverse_gb * bm) / determinant
    slope_blue = (inverse_rb * rm + inverse_gb * gm + inverse_bb * bm) / determinant
    offset = mean_mask - slope_red * mean_red - slope_green * mean_green - slope_blue * mean_blue
    slopes = mean(np.dstack([slope_red, slope_green, slope_blue]))
    return slopes, mean(offset)
