"""How sure the cutout is, and in words why not.

Judged on the network's raw prediction, before it is stretched to full contrast: the stretch turns a
picture without a subject into noise that looks like a mask. Two things foretell the overlap with
the truth: how much of the prediction is undecided, and how far the solved matte agrees with
it. Their weights were fitted on the evaluation photographs; docs/performance.md has the table.
"""

from collections.abc import Mapping
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from core.band import reduced, shrunk
from core.guided import Plane, separability

LOW_RESOLUTION_PX = 400
"""Below this long edge there is too little signal to matte an edge with."""
SUBJECT_SHARE_MIN = 0.002
"""A subject smaller than this part of the picture is more likely a speck."""
CLEAR_MIN = 0.4
REASONS: Final = (
    "low_resolution",
    "colour_collision",
    "motion_blur",
    "touches_frame",
    "no_clear_subject",
)
"""All there are, in the order in which they are named."""
FRAME_SHARE = 0.1
"""A subject that lies along this much of a side probably goes on outside."""
HALF = 0.5

UNDECIDED_WEIGHT, DISAGREEMENT_WEIGHT, OFFSET = -0.97, -0.48, -1.44
SOFTENING = 0.02
"""Keeps the logarithms finite; below it more certainty means nothing."""

VIEW_EDGE_PX = 512
"""Reasons are looked for in the picture at this long edge."""

COLLISION_EDGE_PX = 160
COLLISION_RADIUS_PX = 12
SEPARABLE_MIN = 0.55
"""Share of the edge that colour explains; one photograph in twenty has less."""

BLUR_STEP = 4
BLUR_DIRECTIONS = 8
BLUR_ENERGY_MAX = 0.175
"""Fine detail over coarse, along the direction that has least; sharp photographs start at 0.19."""
BLUR_RATIO_MAX = 0.75
"""Over the direction that has most: a defocused picture lacks detail in all directions alike."""
GRAIN = 0.3
"""Variance of slopes that is noise, in 255ths squared."""


def judge(
    raw: NDArray[np.float32],
    mask: NDArray[np.float32],
    matte: NDArray[np.uint8],
    edge_px: int,
    edge_doubts: Mapping[str, bool],
) -> tuple[float, tuple[str, ...]]:
    """Return the confidence, 0..1, and the reasons to doubt the cutout.

    Args:
        raw: (h, w) float32, the prediction before any stretch, about 0..1.
        mask: (h, w) float32, 0..1, the prediction after it.
        matte: (H, W) uint8, 0..255, as solved or at full resolution.
        edge_px: the picture's long edge.
        edge_doubts: what `doubt_edge` says of the picture.
    """
    small = _shaped(matte, mask.shape) > 255 * HALF
    confidence = _confidence(np.clip(raw, 0, 1), mask > HALF, small)
    is_small = edge_px < LOW_RESOLUTION_PX
    if not (small.any() and (mask > HALF).any()):
        return 0.0, ("low_resolution", "no_clear_subject") if is_small else ("no_clear_subject",)
    doubts = {
        "low_resolution": is_small,
        **edge_doubts,
        "touches_frame": _touches_frame(small),
        "no_clear_subject": confidence < CLEAR_MIN or small.mean() < SUBJECT_SHARE_MIN,
    }
    return confidence, tuple(reason for reason, is_true in doubts.items() if is_true)


def doubt_edge(image: NDArray[np.uint8], mask: NDArray[np.float32]) -> dict[str, bool]:
    """Say what about the picture itself makes its edge hard to find; needs no finished matte.

    Args:
        image: (h, w, 3) uint8 sRGB, at full size or reduced.
        mask: (h, w) float32, 0..1.
    """
    grey = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)
    return {
        "colour_collision": _is_inseparable(shrunk(image, COLLISION_EDGE_PX), mask),
        "motion_blur": _is_motion_blurred(shrunk(grey, VIEW_EDGE_PX), mask),
    }


def _shaped(matte: NDArray[np.uint8], shape: tuple[int, ...]) -> Plane:
    """Bring the matte to the mask's shape, which keeps no picture's proportions."""
    size_px = (shape[1], shape[0])
    if min(matte.shape) < min(size_px):
        return np.asarray(cv2.resize(matte, size_px, interpolation=cv2.INTER_LINEAR))
    return reduced(matte, size_px)


def _confidence(raw: Plane, coarse: Plane, fine: Plane) -> float:
    """Return the overlap with the truth that the two signs let expect."""
    undecided = float((1 - np.abs(2 * raw - 1)).sum()) / max(float(raw.sum()), 1.0)
    union = np.count_nonzero(coarse | fine)
    disagreement = 1 - np.count_nonzero(coarse & fine) / union if union else 1.0
    odds = (
        OFFSET
        + UNDECIDED_WEIGHT * np.log(undecided + SOFTENING)
        + DISAGREEMENT_WEIGHT * np.log(disagreement + SOFTENING)
    )
    share = min(1.0, float(coarse.mean()) / SUBJECT_SHARE_MIN)
    return round(float(share * raw.max(initial=0.0) / (1 + np.exp(-odds))), 3)


def _touches_frame(subject: Plane) -> bool:
    sides = (subject[0], subject[-1], subject[:, 0], subject[:, -1])
    return max(float(side.mean()) for side in sides) > FRAME_SHARE


def _is_inseparable(image: NDArray[np.uint8], mask: NDArray[np.float32]) -> bool:
    """Say whether the colours on both sides of the edge are too alike to tell apart."""
    size_px = (image.shape[1], image.shape[0])
    subject = (cv2.resize(mask, size_px, interpolation=cv2.INTER_AREA) > HALF).astype(np.float32)
    around = np.ones((3, 3), np.uint8)
    edge = cv2.morphologyEx(subject, cv2.MORPH_GRADIENT, around) > 0
    if not edge.any():
        return False
    planes = [plane.astype(np.float32) / 255 for plane in cv2.split(image)]
    apart = separability(planes, subject, np.where(edge, 1e-3, 1), COLLISION_RADIUS_PX)
    return bool(apart[edge].mean() < SEPARABLE_MIN)


def _is_motion_blurred(grey: NDArray[np.uint8], mask: NDArray[np.float32]) -> bool:
    """Say whether the subject lacks fine detail in one direction that it has in another."""
    fine = grey.astype(np.float32)
    coarse_px = (max(1, fine.shape[1] // BLUR_STEP), max(1, fine.shape[0] // BLUR_STEP))
    coarse = cv2.resize(fine, coarse_px, interpolation=cv2.INTER_AREA)
    share = _slope_energies(fine, mask) / _slope_energies(np.asarray(coarse), mask)
    return bool(share.min() < BLUR_ENERGY_MAX and share.min() < BLUR_RATIO_MAX * share.max())


def _slope_energies(grey: Plane, mask: Plane) -> Plane:
    """Return the mean squared slope of the subject's brightness, per direction."""
    subject = cv2.resize(mask, (grey.shape[1], grey.shape[0])) > HALF
    if not subject.any():
        return np.ones(BLUR_DIRECTIONS)
    slope_x = cv2.Sobel(grey, cv2.CV_32F, 1, 0, scale=1 / 8)[subject]
    slope_y = cv2.Sobel(grey, cv2.CV_32F, 0, 1, scale=1 / 8)[subject]
    angles = np.arange(BLUR_DIRECTIONS) * np.pi / BLUR_DIRECTIONS
    xx, yy, xy = (float(np.mean(each)) for each in (slope_x**2, slope_y**2, slope_x * slope_y))
    cosine, sine = np.cos(angles), np.sin(angles)
    return np.asarray(cosine**2 * xx + sine**2 * yy + 2 * cosine * sine * xy + GRAIN)
