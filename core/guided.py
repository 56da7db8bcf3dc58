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
    """Window statistics of one picture, ready to explain any plane by its colours.

    Only the windows that hold a wanted pixel are looked at: about a third of them. They are kept
    packed, one column each; whole planes appear only where OpenCV averages. Not for two threads.
    """

    def __init__(
        self,
        picture: Plane,
        radius_px: int,
        epsilon: float,
        wanted: NDArray[np.uint8],
        step_px: int = 1,
    ) -> None:
        """Gather the statistics.

        Args:
            picture: (h, w, 4) float32: red, green and blue, 0..1, and 1.
            radius_px: windows are 2 radius_px + 1 steps wide.
            epsilon: variance below which colour is held to be flat.
            wanted: (h, w), above 0 where answers are asked for.
            step_px: from window to window. At every second pixel they cost half, and explain as
                well (He, Sun 2015, "Fast guided filter").
        """
        self._step_px, self._size = step_px, (2 * radius_px + 1, 2 * radius_px + 1)
        self._fill = tuple(-side % step_px for side in wanted.shape)
        self._picture = picture = self._filled(picture)
        high, wide = self._steps = picture.shape[0] // step_px, picture.shape[1] // step_px
        self.pixels = np.flatnonzero(wanted)
        rows, columns = np.divmod(self.pixels, wanted.shape[1])
        self._places = rows * picture.shape[1] + columns
        self._centres = rows // step_px * wide + columns // step_px
        self._colours = _packed(picture, self._places)
        held = np.zeros((high, wide), np.uint8)
        held.reshape(-1)[self._centres] = 1
        self._windows = np.flatnonzero(cv2.dilate(held, np.ones(self._size, np.uint8)))
        means = _packed(self._average(picture), self._windows)
        self._means = means[:3]
        red, green, blue = cv2.split(picture)[:3]
        squares = cv2.merge([red * red, green * green, blue * blue])
        crossed = cv2.merge([red * green, red * blue, green * blue])
        rr, gg, bb, rg, rb, gb = (
            plane
            for products in (squares, crossed)
            for plane in _packed(self._average(products), self._windows)
        )
        covariances = _covariances([rr, rg, rb, gg, gb, bb], list(self._means), epsilon)
        self._inverse = _inverse_of(covariances)
        self._planted = np.zeros_like(picture)
        self._fitted = np.zeros((high, wide, 4), np.float32)

    def _filled(self, plane: Plane) -> Plane:
        """Repeat the last row and column where steps would not come out even."""
        if not any(self._fill):
            return plane
        below, beside = self._fill
        return np.asarray(cv2.copyMakeBorder(plane, 0, below, 0, beside, cv2.BORDER_REPLICATE))

    def _average(self, planes: Plane) -> Plane:
        if self._step_px > 1:
            planes = cv2.resize(planes, self._steps[::-1], interpolation=cv2.INTER_AREA)
        return self._smoothed(planes)

    def _smoothed(self, planes: Plane) -> Plane:
        return np.asarray(cv2.blur(planes, self._size, borderType=cv2.BORDER_REFLECT))

    def coefficients(self, target: Plane) -> Plane:
        """Fit a whole plane: slopes for red, green, blue and the offset, (h, w, 4), one per step.

        Each is averaged over its windows, and right where it is wanted.
        """
        return self._fit(cv2.multiply(self._picture, cv2.merge([self._filled(target)] * 4)))

    def filter(self, target: Plane) -> Plane:
        """Return the wanted pixels, (n,), of what the colours make of a whole plane."""
        return self._explained(self.coefficients(target))

    def _filter_wanted(self, values: Plane) -> Plane:
        """Return the same for a plane that is 0 but for the wanted pixels, (n,)."""
        _plant(self._planted, self._places, self._colours * values)
        below, beside = self._fill
        if below:  # as `_filled` does of a whole plane: the solver must meet one operator only
            self._planted[-1] = self._planted[-2]
        if beside:
            self._planted[:, -1] = self._planted[:, -2]
        return self._explained(self._fit(self._planted))

    def _fit(self, products: Plane) -> Plane:
        *products_seen, mean = _packed(self._average(products), self._windows)
        covariances = [
            product - own * mean for product, own in zip(products_seen, self._means, strict=True)
        ]
        fitted = np.empty((4, mean.size), np.float32)
        fitted[:3] = slopes = _product(self._inverse, covariances)
        fitted[3] = mean
        for slope, own in zip(slopes, self._means, strict=True):
            fitted[3] -= slope * own
        _plant(self._fitted, self._windows, fitted)
        return self._smoothed(self._fitted)

    def _explained(self, coefficients: Plane) -> Plane:
        seen = _packed(coefficients, self._centres)
        seen *= self._colours
        return np.asarray(seen.sum(0))

    def solve(
        self, target: Plane, trust: Plane, steps_max: int, deadline_s: float | None
    ) -> tuple[Plane, int]:
        """Minimise x L x + trust (x - target)^2 over the wanted pixels by conjugate gradients.

        Args:
            target: (h, w), what x is outside the wanted pixels, and should be in them.
            trust: (n,), how much it is to be believed there, > 0.
            steps_max: each costs one `filter`.
            deadline_s: a `time.monotonic()` moment after which no step begins.

        Returns:
            x, (h, w), not clipped, and the number of steps made.
        """
        solution = target.copy()
        flat = solution.reshape(-1)
        believed = flat[self.pixels]
        flat[self.pixels] = x = self.filter(target)
        scale = 1 / (trust + np.float32(0.5))
        residual = trust * (believed - x) - (x - self.filter(solution))
        preconditioned = residual * scale
        direction = preconditioned
        power = float(np.vdot(residual, preconditioned))
        step = 0
        while step < steps_max and power > POWER_MIN:
            if deadline_s is not None and time.monotonic() > deadline_s:
                break
            bent = (1 + trust) * direction - self._filter_wanted(direction)
            pace = np.float32(power / float(np.vdot(direction, bent)))
            x = x + pace * direction
            residual = residual - pace * bent
            preconditioned = residual * scale
            before, power = power, float(np.vdot(residual, preconditioned))
            direction = preconditioned + np.float32(power / before) * direction
            step += 1
        flat[self.pixels] = x
        return solution, step


def _packed(planes: Plane, at: NDArray[np.intp]) -> Plane:
    """Return the pixels `at` of (h, w, c) planes as (c, n), one row for each plane."""
    pixels = planes.reshape(-1, planes.shape[2]).take(at, axis=0)
    return np.asarray(cv2.transpose(pixels))


def _plant(planes: Plane, at: NDArray[np.intp], values: Plane) -> None:
    """Put (4, n) values into the pixels `at` of (h, w, 4) planes, in place.

    Four floats are moved as if they were one complex number: numpy does that eight times as fast.
    """
    pixels = np.asarray(cv2.transpose(values)).view(np.complex128)
    planes.view(np.complex128).reshape(-1)[at] = pixels[:, 0]


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
