"""The measures of a cutout, as the field defines them.

Alpha: SAD, MSE, MAD, Grad and Conn (Rhemann et al. 2009, over the whole picture since no trimap is
given to anybody). Mask: IoU and boundary IoU (Cheng et al. 2021). Cutout: fringe, the error of the
composite near the true edge, signed and absolute, in 255ths.
"""

from itertools import pairwise
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Plane = NDArray[Any]

BACKGROUNDS = {"#111": (17, 17, 17), "#fff": (255, 255, 255), "magenta": (255, 0, 255)}
FRINGE_BAND_PX = 10
GRAD_SIGMA = 1.4
CONN_STEP = 0.1
CONN_TOLERANCE = 0.15
BOUNDARY_SHARE = 0.02
"""Boundary IoU looks at a strip of this share of the diagonal."""


def sad(alpha: Plane, truth: Plane) -> float:
    """Return the sum of absolute differences, in thousands of pixels."""
    return float(np.abs(alpha - truth).sum() / 1000)


def mse(alpha: Plane, truth: Plane) -> float:
    return float(np.square(alpha - truth).mean())


def mad(alpha: Plane, truth: Plane) -> float:
    return float(np.abs(alpha - truth).mean())


def grad(alpha: Plane, truth: Plane) -> float:
    """Return the squared difference of the gradient magnitudes, summed, in thousands."""
    return float(np.square(_gradient(alpha) - _gradient(truth)).sum() / 1000)


def _gradient(alpha: Plane) -> Plane:
    half_px = int(
        np.ceil(GRAD_SIGMA * np.sqrt(-2 * np.log(np.sqrt(2 * np.pi) * GRAD_SIGMA * 0.01)))
    )
    at = np.arange(-half_px, half_px + 1, dtype=np.float64)
    bell = np.exp(-(at**2) / (2 * GRAD_SIGMA**2)) / (GRAD_SIGMA * np.sqrt(2 * np.pi))
    slope = -at * bell / GRAD_SIGMA**2
    scale = np.sqrt(np.square(np.outer(bell, slope)).sum())
    edges = cv2.BORDER_REPLICATE
    plane = np.asarray(alpha, np.float64)
    along_x = cv2.sepFilter2D(plane, -1, slope / scale, bell, borderType=edges)
    along_y = cv2.sepFilter2D(plane, -1, bell, slope / scale, borderType=edges)
    return np.hypot(along_x, along_y)


def conn(alpha: Plane, truth: Plane) -> float:
    """Return how much of the matte hangs together otherwise than the truth, in thousands."""
    level = np.full(alpha.shape, -1.0)
    steps = np.arange(0, 1 + CONN_STEP / 2, CONN_STEP)
    for before, step in pairwise(steps):
        both = ((alpha >= step) & (truth >= step)).astype(np.uint8)
        largest = _largest_component(both)
        level[(level == -1) & ~largest] = before
    level[level == -1] = 1
    distances = [plane - level for plane in (alpha, truth)]
    apart = [1 - each * (each >= CONN_TOLERANCE) for each in distances]
    return float(np.abs(apart[0] - apart[1]).sum() / 1000)


def _largest_component(binary: NDArray[np.uint8]) -> NDArray[np.bool_]:
    count, labels, stats, _ = cv2.connectedComponentsWithStats(binary, connectivity=4)
    if count == 1:
        return np.zeros(binary.shape, bool)
    return np.asarray(labels == 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA])))


def iou(alpha: Plane, truth: Plane) -> float:
    return _overlap(alpha > 0.5, truth > 0.5)


def boundary_iou(alpha: Plane, truth: Plane) -> float:
    depth_px = max(1, round(BOUNDARY_SHARE * float(np.hypot(*alpha.shape))))
    return _overlap(_strip(alpha > 0.5, depth_px), _strip(truth > 0.5, depth_px))


def _strip(binary: NDArray[np.bool_], depth_px: int) -> NDArray[np.bool_]:
    """Return the pixels of the mask within `depth_px` of its edge."""
    padded = cv2.copyMakeBorder(binary.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    eroded = cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=depth_px)
    return np.asarray(binary & (eroded[1:-1, 1:-1] == 0))


def _overlap(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    union = np.count_nonzero(one | other)
    return np.count_nonzero(one & other) / union if union else 1.0


def fringe_band(truth: Plane) -> NDArray[np.bool_]:
    """Return the pixels within `FRINGE_BAND_PX` of the true edge, softness included."""
    soft = ((truth > 0.02) & (truth < 0.98)).astype(np.uint8)
    inside = (truth >= 0.5).astype(np.uint8)
    steps = cv2.morphologyEx(inside, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
    edge = cv2.max(np.asarray(steps), soft)
    size = 2 * FRINGE_BAND_PX + 1
    return np.asarray(cv2.dilate(edge, np.ones((size, size), np.uint8)) > 0)


def composite(foreground: Plane, alpha: Plane, colour: tuple[int, int, int]) -> Plane:
    cover = alpha[..., None]
    return np.asarray(cover * foreground + (1 - cover) * np.array(colour, np.float64))


def fringe(
    cutout: tuple[Plane, Plane], truth: tuple[Plane, Plane]
) -> dict[str, tuple[float, float]]:
    """Return, per background, the mean signed and mean absolute error in the edge band.

    Args:
        cutout: foreground (H, W, 3) 0..255 and alpha (H, W) 0..1 as delivered.
        truth: the same, true.
    """
    band = fringe_band(truth[1])
    errors = {
        name: (composite(*cutout, colour) - composite(*truth, colour))[band]
        for name, colour in BACKGROUNDS.items()
    }
    return {name: (float(each.mean()), float(np.abs(each).mean())) for name, each in errors.items()}


def colour_mse(cutout: tuple[Plane, Plane], truth: tuple[Plane, Plane]) -> float:
    """Return the mean squared error of alpha F over the soft pixels, both in 0..1."""
    soft = (truth[1] > 0.02) & (truth[1] < 0.98)
    delivered, true = (alpha[soft, None] * colour[soft] / 255 for colour, alpha in (cutout, truth))
    return float(np.square(delivered - true).mean())
