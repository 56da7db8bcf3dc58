"""The local colour model behind the matte: in each window alpha is a linear function of colour.

`filter` is the colour guided filter (He, Sun, Tang 2013). `p - filter(p)` is, up to a factor, the
matting Laplacian with large windows applied to p (He, Sun, Tang 2010), so that closed-form matting
needs no matrix: conjugate gradients over box means.
"""

import time
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Plane = NDArray[Any]
"""(h, w) float32; OpenCV and numpy disagree on how narrowly to type it."""


def box_means(planes: Sequence[Plane], radius_px: int) -> list[Plane]:
    """Average each plane over windows of 2 radius_px + 1; four interleaved cost two alone."""
    size = (2 * radius_px + 1, 2 * radius_px + 1)
    means: list[Plane] = []
    for first in range(0, len(planes), 4):
        mixed = cv2.merge(planes[first : first + 4])
        means += cv2.split(cv2.blur(mixed, size, borderType=cv2.BORDER_REFLECT))
    return means


class ColourModel:
    """Window statistics of one picture, ready to explain any plane by its colours."""

    def __init__(self, planes: Sequence[Plane], radius_px: int, epsilon: float) -> None:
        """Gather the statistics.

        Args:
            planes: red, green and blue, each (h, w) float32, 0..1.
            radius_px: windows are 2 radius_px + 1 wide.
            epsilon: variance below which colour is held to be flat.
        """
        self._planes = planes
        self._radius_px = radius_px
        self._means = self._average(planes)
        products = self._average([planes[i] * planes[j] for i, j in PAIRS])
        self._inverse = _inverse_of(_covariances(products, self._means, epsilon))

    def _average(self, planes: Sequence[Plane]) -> list[Plane]:
        return box_means(planes, self._radius_px)

    def coefficients(self, target: Plane) -> list[Plane]:
        """Return slopes for red, green, blue and the offset, each averaged over its windows."""
        *products, mean = self._average([*(plane * target for plane in self._planes), target])
        covariances = [
            product - own * mean for product, own in zip(products, self._means, strict=True)
        ]
        slopes = _product(self._inverse, covariances)
        offset = mean
        for slope, own in zip(slopes, self._means, strict=True):
            offset = offset - slope * own
        return self._average([*slopes, offset])

    def filter(self, target: Plane) -> Plane:
        *slopes, result = self.coefficients(target)
        for slope, plane in zip(slopes, self._planes, strict=True):
            result += slope * plane
        return result

    def solve(
        self, target: Plane, trust: Plane, start: Plane, steps_max: int, deadline_s: float | None
    ) -> tuple[Plane, int]:
        """Minimise x L x + trust (x - target)^2 by conjugate gradients.

        Args:
            target: what x should be where it is trusted.
            trust: how much, per pixel, > 0.
            start: a first guess.
            steps_max: each costs one `filter`.
            deadline_s: a `time.monotonic()` moment after which no step begins.

        Returns:
            x, not clipped, and the number of steps made.
        """
        scale = 1 / (trust + np.float32(0.5))
        x = start
        residual = trust * (target - x) - (x - self.filter(x))
        preconditioned = residual * scale
        direction = preconditioned
        power = float(np.vdot(residual, preconditioned))
        for step in range(steps_max):
            if power <= POWER_MIN or (deadline_s is not None and time.monotonic() > deadline_s):
                return x, step
            bent = (1 + trust) * direction - self.filter(direction)
            pace = np.float32(power / float(np.vdot(direction, bent)))
            x = x + pace * direction
            residual = residual - pace * bent
            preconditioned = residual * scale
            before, power = power, float(np.vdot(residual, preconditioned))
            direction = preconditioned + np.float32(power / before) * direction
        return x, steps_max


PAIRS = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))
POWER_MIN = 1e-6
"""Squared residual below which another step would not move a pixel by 1/255."""


def separability(planes: Sequence[Plane], mask: Plane, sure: Plane, radius_px: int) -> Plane:
    """Return, 0..1, how well colour alone tells subject from background around each pixel.

    It is the share of the mask's variance that a linear function of colour explains, over the
    pixels that are `sure` (weights, (h, w) float32). Where it is low, colour must not overrule
    the mask.
    """
    (weight,) = box_means([sure], radius_px)
    weighted = [plane * sure for plane in planes]
    target = mask * sure
    sums = box_means(
        [
            *weighted,
            target,
            *(weighted[i] * planes[j] for i, j in PAIRS),
            *(plane * mask for plane in weighted),
            target * mask,
        ],
        radius_px,
    )
    *means, mean = (each / weight for each in sums[:4])
    *products, square = (each / weight for each in sums[4:])
    inverse = _inverse_of(_covariances(products[:6], means, SEPARABILITY_EPSILON))
    covariances = [product - own * mean for product, own in zip(products[6:], means, strict=True)]
    slopes = _product(inverse, covariances)
    explained = np.sum([slope * each for slope, each in zip(slopes, covariances, strict=True)], 0)
    part, whole = box_means([explained * weight, (square - mean * mean) * weight], radius_px)
    share = (part + np.float32(VARIANCE_MIN)) / (whole + np.float32(VARIANCE_MIN))
    return np.asarray(np.clip(share, 0, 1))


SEPARABILITY_EPSILON = 1e-4
VARIANCE_MIN = 1e-5


def _covariances(products: list[Plane], means: list[Plane], epsilon: float) -> list[Plane]:
    return [
        product - means[i] * means[j] + np.float32(epsilon if i == j else 0)
        for product, (i, j) in zip(products, PAIRS, strict=True)
    ]


def _inverse_of(covariance: list[Plane]) -> list[Plane]:
    """Invert symmetric 3 x 3 matrices, one per pixel, stored as their six distinct planes.

    In double precision: black on white varies along one line of colour only, and there the
    determinant is smaller than what single precision rounds away.
    """
    rr, rg, rb, gg, gb, bb = (plane.astype(np.float64) for plane in covariance)
    cofactors = [
        gg * bb - gb * gb,
        gb * rb - rg * bb,
        rg * gb - gg * rb,
        rr * bb - rb * rb,
        rb * rg - rr * gb,
        rr * gg - rg * rg,
    ]
    scale = 1 / (cofactors[0] * rr + cofactors[1] * rg + cofactors[2] * rb)
    return [(cofactor * scale).astype(np.float32) for cofactor in cofactors]


def _product(matrix: list[Plane], vector: list[Plane]) -> list[Plane]:
    rr, rg, rb, gg, gb, bb = matrix
    red, green, blue = vector
    return [
        rr * red + rg * green + rb * blue,
        rg * red + gg * green + gb * blue,
        rb * red + gb * green + bb * blue,
    ]
