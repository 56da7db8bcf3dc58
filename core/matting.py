"""From the network's coarse mask to an alpha matte at full resolution.

The matte is solved at about the network's own resolution, in the box around what is unknown:
colour decides where it can tell subject from background, the mask where it cannot. What is scaled
up to full resolution is not alpha but the local colour model, so that a hair one pixel wide comes
from the full picture. docs/adr has the choice and what it was compared with.

Alpha is (H, W) uint8, 0..255: a float32 matte of 12 megapixels would be 48 MB for steps that need
floats in the band alone.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from core.band import band_tiles, reduced, scaled_up, strips
from core.clues import slope_of, with_ones
from core.edge import EdgeNetwork
from core.guided import ColourModel, Plane, separability
from core.parallel import beside

Alpha = NDArray[np.uint8]
Image = NDArray[np.uint8]
Mask = NDArray[np.float32]

SOLVE_EDGE_PX = 320
"""Long edge at which the matte is solved for masks up to this size."""
SOLVE_EDGE_PX_MAX = 640
SOLVE_STEP_PX, SOLVE_RADIUS_STEPS = 2, 2
"""Windows of ten pixels, one for every second."""
SOLVE_EPSILON = 3e-6
SOLVE_STEPS_MAX = 12
SPREAD_RADIUS_PX = 1
"""Windows of the colour model that is scaled up: small, since the matte is already solved."""
SPREAD_MARGIN_PX = 4
"""What scaling up and two windows look at beyond the edge."""

SURE_BACKGROUND, SURE_FOREGROUND = 0.03, 0.97
BAND_PX = 4
"""Half the width of the unknown strip on each side of the mask's edge, at the solving size."""
MODEL_BAND_PX = 2
SEPARABILITY_RADIUS_PX = 24

TRUST_SOFT = 1e-3
"""Where the network drew a wide, undecided edge, colour decides."""
TRUST_SHARP = 3e-3
TRUST_INSEPARABLE = 3.0
"""Where it drew a sharp edge and colour cannot tell the sides apart, the mask decides."""
SHARP_FROM, SHARP_TO = 0.38, 0.50
"""Slope of the mask per network pixel: an ideal edge has 0.5."""

LEVELS = 0.03
"""Alpha below it is none and above 1 - LEVELS is full: interior solid, no grey veil."""
SPECK_SHARE_MAX = 0.002
SPECK_DISTANCE_PX = 16
"""A blob this small beside the largest one, and this far from all large ones, is a speck."""
BAND_MARGIN_PX = 2
OPAQUE = 255
GAIN = OPAQUE / (1 - 2 * LEVELS)


@dataclass(frozen=True, slots=True)
class Matte:
    """A matte at the solving size, ready to be scaled up.

    Attributes:
        picture: (h, w, 3) uint8, what it was solved on; of an `unrefined` one, what was seen.
        alpha: (h, w) uint8, 0..255.
        method: what made it: `learned` (solved and mended), `closed-form` (solved), `guided` (a
            single pass: the deadline left no time for more, or nothing was left to solve) or `none`
            (the mask has no edge to refine).
        unknown: (h, w), 1 where alpha is soft or steps.
        coefficients: (h, w, 4) float32, the local colour model there.
    """

    picture: Image
    alpha: Alpha
    method: str
    unknown: NDArray[np.uint8]
    coefficients: NDArray[Any]


def solve(  # noqa: PLR0913 - a picture and its mask, and what may be had besides
    image: Image,
    mask: Mask,
    *,
    seen: Image | None = None,
    edge: EdgeNetwork | None = None,
    deadline_s: float | None = None,
    threads: int = 1,
) -> Matte:
    """Find the matte of `image` at about the mask's size.

    Args:
        image: (H, W, 3) uint8 sRGB.
        mask: (h, w) float32, 0..1, at the network's resolution.
        seen: the same picture already reduced, if it is: saves reading all of it once more.
        edge: mends what the solver leaves wrong, in time and at the size that it knows.
        deadline_s: a `time.monotonic()` moment; past it the solver stops where it is.
        threads: how many may share the work; the result does not depend on it.

    Returns:
        The matte at a long edge of `SOLVE_EDGE_PX`, or of the mask's up to `SOLVE_EDGE_PX_MAX`.
    """
    size_px = _solving_size(image, mask)
    guide = reduced(image if seen is None else seen, size_px)
    coarse = np.clip(cv2.resize(mask, size_px, interpolation=cv2.INTER_CUBIC), 0, 1)
    alpha, method = _solve(guide, coarse, _sharpness(mask, size_px), deadline_s, threads)
    is_in_time = deadline_s is None or time.monotonic() < deadline_s
    if edge is not None and method == "closed-form" and is_in_time and edge.is_for(coarse, alpha):
        mended = edge.mend(guide, coarse, alpha)
        if mended is not alpha:
            alpha, method = mended, "learned"
            _remove_specks(alpha)
    return _modelled(guide, alpha, method)


def unrefined(seen: Image, mask: Mask) -> Matte:
    """Return the mask itself, (h, w) float32, 0..1, as a matte that is scaled up as it is."""
    nothing = np.zeros(mask.shape, np.uint8)
    levels = np.rint(mask * OPAQUE).astype(np.uint8)
    return Matte(seen, levels, "none", nothing, np.zeros((*mask.shape, 4), np.float32))


def _solving_size(image: Image, mask: Mask) -> tuple[int, int]:
    height_px, width_px = image.shape[:2]
    edge_px = min(SOLVE_EDGE_PX_MAX, max(SOLVE_EDGE_PX, *mask.shape))
    scale = min(1.0, edge_px / max(height_px, width_px))
    return max(1, round(width_px * scale)), max(1, round(height_px * scale))


def _sharpness(mask: Mask, size_px: tuple[int, int]) -> Plane:
    """Return the steepest slope of the mask nearby, per network pixel, at the solving size."""
    steepest = cv2.dilate(slope_of(mask), np.ones((5, 5), np.uint8))
    return np.asarray(cv2.resize(cv2.blur(steepest, (5, 5)), size_px))


def _solve(
    guide: Image, coarse: Plane, sharpness: Plane, deadline_s: float | None, threads: int = 1
) -> tuple[Plane, str]:
    """Solve the matte at the mask's size, and say how; only in the box around what is unknown."""
    alpha = coarse.copy()
    _remove_specks(alpha)
    unknown = np.asarray(1 - _sure(alpha, BAND_PX), np.uint8)
    box = _box_around(unknown > 0, margin_px=SEPARABILITY_RADIUS_PX)
    if box is None:
        return alpha, "none"
    picture, near = with_ones(guide[box]), alpha[box].copy()
    wanted = unknown[box].copy()
    model, trust = beside(
        partial(ColourModel, picture, SOLVE_RADIUS_STEPS, SOLVE_EPSILON, wanted, SOLVE_STEP_PX),
        partial(_trust, cv2.split(picture)[:3], near, sharpness[box]),
        threads,
    )
    trust = trust.reshape(-1)[model.pixels]
    solution, steps = model.solve(near, trust, SOLVE_STEPS_MAX, deadline_s)
    alpha[box] = np.clip(solution, 0, 1)
    _remove_specks(alpha)
    return alpha, "closed-form" if steps else "guided"


def _modelled(guide: Image, alpha: Plane, method: str) -> Matte:
    """Fit the colours around a matte's edge to it, so that it can be scaled up by them."""
    unknown = _undecided(alpha)
    coefficients = np.zeros((*alpha.shape, 4), np.float32)
    box = _box_around(unknown > 0, margin_px=SPREAD_MARGIN_PX)
    if box is not None and method != "none":
        reach = np.asarray(cv2.dilate(unknown[box], np.ones((3, 3), np.uint8)), np.uint8)
        model = ColourModel(with_ones(guide[box]), SPREAD_RADIUS_PX, SOLVE_EPSILON, reach)
        coefficients[box] = model.coefficients(alpha[box])
    levels = np.clip((alpha - LEVELS) * GAIN + 0.5, 0, OPAQUE).astype(np.uint8)
    return Matte(guide, levels, method, unknown, coefficients)


def _sure(coarse: Plane, band_px: int) -> NDArray[np.uint8]:
    """Return 1 where the mask is decided and so is everything within `band_px`, 0 elsewhere."""
    around = np.ones((2 * band_px + 1, 2 * band_px + 1), np.uint8)
    inside = cv2.erode((coarse > SURE_FOREGROUND).astype(np.uint8), around)
    outside = cv2.erode((coarse < SURE_BACKGROUND).astype(np.uint8), around)
    return np.asarray(cv2.bitwise_or(inside, outside))


def _box_around(wanted: NDArray[np.bool_], margin_px: int) -> tuple[slice, slice] | None:
    rows, columns = np.flatnonzero(wanted.any(1)), np.flatnonzero(wanted.any(0))
    if not rows.size:
        return None
    return (
        slice(max(0, int(rows[0]) - margin_px), int(rows[-1]) + 1 + margin_px),
        slice(max(0, int(columns[0]) - margin_px), int(columns[-1]) + 1 + margin_px),
    )


def _trust(planes: Sequence[Plane], coarse: Plane, sharpness: Plane) -> Plane:
    """Say per pixel how much the mask may resist what the colours say."""
    rows, columns = coarse.shape
    half_px = ((columns + 1) // 2, (rows + 1) // 2)
    weights = _sure(coarse, MODEL_BAND_PX).astype(np.float32) + np.float32(1e-3)
    *half, half_coarse, half_weights = (
        np.asarray(cv2.resize(plane, half_px, interpolation=cv2.INTER_AREA))
        for plane in (*planes, coarse, weights)
    )
    apart = separability(half, half_coarse, half_weights, SEPARABILITY_RADIUS_PX // 2)
    apart = np.asarray(cv2.resize(apart, (columns, rows)))
    sharp = np.clip((sharpness - SHARP_FROM) / (SHARP_TO - SHARP_FROM), 0, 1)
    trust = TRUST_SOFT + sharp * (TRUST_SHARP - TRUST_SOFT + TRUST_INSEPARABLE * (1 - apart))
    return np.asarray(trust, np.float32)


def _remove_specks(alpha: Plane) -> None:
    """Take away, in place, tiny blobs far from every large one; looked for at half the size."""
    half_px = ((alpha.shape[1] + 1) // 2, (alpha.shape[0] + 1) // 2)
    held = np.where(alpha > LEVELS, np.uint8(OPAQUE), np.uint8(0))
    blobs, labels, stats, _ = cv2.connectedComponentsWithStats(
        cv2.resize(held, half_px, interpolation=cv2.INTER_AREA)
    )
    if blobs <= 2:  # noqa: PLR2004 the background and one subject
        return
    areas = stats[:, cv2.CC_STAT_AREA]
    is_large = areas >= SPECK_SHARE_MAX * areas[1:].max()
    is_large[0] = False
    around = np.ones((SPECK_DISTANCE_PX + 1, SPECK_DISTANCE_PX + 1), np.uint8)
    near = cv2.dilate(is_large[labels].view(np.uint8), around)
    is_speck = np.ones(blobs, bool)
    is_speck[0] = False
    is_speck[labels[np.asarray(near) > 0]] = False
    if is_speck.any():
        size_px = (alpha.shape[1], alpha.shape[0])
        specks = cv2.resize(
            is_speck[labels].view(np.uint8), size_px, interpolation=cv2.INTER_NEAREST
        )
        # Where the sides are odd a pixel may lie in two cells, and be marked in one.
        alpha[cv2.dilate(specks, np.ones((3, 3), np.uint8)) > 0] = 0


def _undecided(alpha: Plane) -> NDArray[np.uint8]:
    """Return 1 where the matte is soft or steps, and a little around it."""
    size = 2 * BAND_MARGIN_PX + 1
    around = np.ones((size, size), np.uint8)
    high, low = cv2.dilate(alpha, around), cv2.erode(alpha, around)
    return np.asarray(((high > LEVELS) & (low < 1 - LEVELS)).astype(np.uint8))


def scale_up(matte: Matte, image: Image) -> Alpha:
    """Return alpha at the size of `image`, (H, W) uint8."""
    return FullSize(matte, image).whole()


class FullSize:
    """Alpha at the picture's size, made from the top down as far as it is needed; by one thread.

    It is as in the matte where that is decided, else what its local model makes of the colours.

    Attributes:
        alpha: (H, W) uint8, 0..255, rows below those that were made undefined.
    """

    def __init__(self, matte: Matte, image: Image) -> None:
        self._image, self._size_px = image, (image.shape[0], image.shape[1])
        self._todo = strips(image.shape[0])
        self._made_px = 0
        if matte.method == "none":
            across = (image.shape[1], image.shape[0])
            enlarged = cv2.resize(matte.alpha, across, interpolation=cv2.INTER_CUBIC)
            self.alpha, self._made_px = np.asarray(enlarged, np.uint8), image.shape[0]
            return
        self.alpha = np.empty(self._size_px, np.uint8)
        self._from_rows, from_columns = (
            np.minimum(np.arange(px) * (1 / (px / small_px)), small_px - 1).astype(np.intp)
            for px, small_px in zip(self._size_px, matte.unknown.shape, strict=True)
        )
        halved = cv2.threshold(matte.alpha, OPAQUE // 2, OPAQUE, cv2.THRESH_BINARY)[1]
        self._decided = np.asarray(halved, np.uint8).take(from_columns, axis=1)
        self._unknown = matte.unknown.take(from_columns, axis=1)
        self._model = matte.coefficients * np.float32(GAIN / OPAQUE)

    def whole(self) -> Alpha:
        self.up_to(self._size_px[0])
        return self.alpha

    def up_to(self, rows_px: int) -> None:
        """Make all rows above this one, and perhaps some more."""
        while self._made_px < min(rows_px, self._size_px[0]):
            rows = next(self._todo)
            self._fill(rows)
            self._made_px = rows.stop

    def _fill(self, rows: slice) -> None:
        sources = self._from_rows[rows]
        np.take(self._decided, sources, axis=0, out=self.alpha[rows], mode="clip")
        columns = self._unknown[sources[0] : sources[-1] + 1].max(0)
        for tile in band_tiles(columns, rows):
            model = scaled_up(self._model, tile, self._size_px)
            unknown = self._unknown[:, tile[1]].take(sources, axis=0)
            cv2.copyTo(_explain(self._image[tile], model), unknown, self.alpha[tile])


def _explain(colours: Image, model: NDArray[Any]) -> Alpha:
    """Return slopes . colour + offset, in levels stretched by `LEVELS`, as 0..255."""
    colours_and_255 = cv2.cvtColor(colours, cv2.COLOR_RGB2RGBA)
    products = cv2.multiply(model, colours_and_255, dtype=cv2.CV_32F)
    value = cv2.transform(products, np.ones((1, 4), np.float32))
    levels = cv2.add(value, (-LEVELS * GAIN, 0, 0, 0), dtype=cv2.CV_8U)  # type: ignore[call-overload]  # the stubs know no scalars
    return np.asarray(levels, np.uint8)
