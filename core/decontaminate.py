"""Foreground colours with the background's spill removed, in the soft band and just outside it.

Where alpha is 255 the source is kept bit for bit; where alpha is 0 the nearest foreground colour is
bled outward for some pixels, so that a resize or a zoom shows no rim.
"""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

BLEED_PX = 16
"""How far foreground colour goes on under alpha 0; past it the colour is black: it packs well."""
OPAQUE = 255

Alpha = NDArray[np.uint8]
Image = NDArray[np.uint8]
Planes = NDArray[Any]


def decontaminate(image: Image, alpha: Alpha) -> Image:
    """Estimate the foreground F of `image` = alpha F + (1 - alpha) B.

    Args:
        image: (H, W, 3) uint8 sRGB.
        alpha: (H, W) uint8, 0..255.

    Returns:
        (H, W, 3) uint8: the source exactly where alpha is 255, the estimate where it is between,
        bled colour up to `BLEED_PX` outside, 0 beyond.
    """
    foreground = image.copy()
    cover = alpha.astype(np.float32) / OPAQUE
    colours = image.astype(np.float32)
    near_f = _spread(colours, (alpha == OPAQUE).astype(np.float32), cover)
    near_b = _spread(colours, (alpha == 0).astype(np.float32), 1 - cover)
    weight = cover[..., None]
    residual = colours - weight * near_f - (1 - weight) * near_b
    estimate = near_f + residual * weight / (weight**2 + (1 - weight) ** 2)
    soft = alpha != OPAQUE
    foreground[soft] = np.clip(estimate[soft] + 0.5, 0, 255)
    reach = cv2.dilate(alpha, np.ones((2 * BLEED_PX + 1, 2 * BLEED_PX + 1), np.uint8))
    foreground[reach == 0] = 0
    return foreground


def _spread(colours: Planes, sure: Planes, likely: Planes) -> Planes:
    """Carry colours from where they are `sure` outward; `likely` ones count where none are near."""
    weight = np.maximum(sure, 0.02 * likely**2) + 1e-6
    total = colours * weight[..., None]
    result = np.zeros_like(colours)
    known = np.zeros_like(weight)
    for radius_px in (2, 6, 18, 54):
        size = (2 * radius_px + 1, 2 * radius_px + 1)
        near_weight = cv2.blur(weight, size)
        near = cv2.blur(total, size) / near_weight[..., None]
        share = (1 - known) * np.minimum(1, near_weight / 0.15)
        result += near * share[..., None]
        known += share
    return result + near * (1 - known)[..., None]
