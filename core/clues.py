"""What is said of a pixel in doubt: how its colours, and those around it, speak for either side.

Whole planes are made only in the frame around what is in doubt. Four of them are kept interleaved,
since OpenCV handles four at the price of two; wide windows are averaged on planes a quarter as
wide, and looked up only at the pixels in doubt.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from core.drawn import drawn
from core.parallel import beside

Plane = NDArray[Any]
"""(h, w) or (h, w, up to 4) float32."""
Frame = tuple[slice, slice]
Marks = NDArray[np.uint8]

CLUES: Final = 50
"""Numbers that describe a pixel; the network's input is (n, CLUES)."""

SURE_BACKGROUND, SURE_FOREGROUND = 0.05, 0.95
UNSURE_BACKGROUND, UNSURE_FOREGROUND = 0.03, 0.97
BAND_PX = 7
QUARTER = 4
FRAME_MARGIN_PX = 32
"""What is looked at beyond the pixels in doubt; what lies farther weighs next to nothing."""

NEAR_QUARTERS = 5
"""Reach of the windows in which sure colours are near, on the planes a quarter as wide."""
FEW = 0.02
"""Share of a window that must be sure for its own mean to outweigh the whole picture's."""
RELIED_FEW = 0.01
VARIANCE_MIN = 0.0006
UNLIKE = 3.0
COLOUR_LEVELS, LEVEL_BITS = 16, 4
COUNT_MIN = 2e-5
CONTRAST_MIN = 0.003
LOOKED_UP_AT_ONCE = 256

SHARP, SHARP_FROM, SHARP_TO = 0.46, 0.10, 0.14
"""Slope of a mask per pixel that is sharp (an ideal edge has 0.5); share of the pixels in doubt
that have it from which, and beyond which not at all, a network's answer may be mended.

u2netp's masks have shares of 0.00 to 0.09. What was drawn (core/drawn.py) is not asked about this.
"""


@dataclass(frozen=True, slots=True)
class Described:
    """What the network is told.

    Attributes:
        pixels: those in doubt, flat, ascending.
        clues: (n, CLUES) about them.
        heard: how far to hear what the network for soft masks says of them, 0..1.
        drawn: how far to hear the one for drawn masks, 0..1.
        frame: the part of the picture that holds them, and a little around.
    """

    pixels: NDArray[np.intp]
    clues: NDArray[np.float32]
    heard: float
    drawn: float
    frame: Frame


def describe(
    guide: NDArray[np.uint8],
    coarse: Plane,
    alpha: Plane,
    margin_px: int = FRAME_MARGIN_PX,
    threads: int = 1,
) -> Described:
    """Find the pixels in doubt and say about them what the network wants to know.

    Args:
        guide: (h, w, 3) uint8 sRGB, the picture at the solving size.
        coarse: (h, w) float32, 0..1, the network's mask at that size.
        alpha: (h, w) float32, 0..1, the solved matte.
        margin_px: what is looked at beyond the pixels in doubt.
        threads: how many share the work, two at most.

    Returns:
        No pixels where nothing is in doubt, or where the mask is not to be mended.
    """
    doubt = in_doubt(coarse, alpha)
    outlined = drawn(coarse, doubt)
    heard = _heard(coarse, doubt) * (1 - outlined)
    if heard == outlined == 0:
        doubt[:] = False
    pixels, frame = np.flatnonzero(doubt), _frame_around(doubt, margin_px)
    if not pixels.size:
        return Described(pixels, np.empty((0, CLUES), np.float32), heard, outlined, frame)
    whole = _Whole.of(guide, coarse, alpha)
    part = _Part.of(guide, [coarse, alpha], [whole.subject, whole.behind, _marked(doubt)], frame)
    posterior = whole.odds.take(_levels(part.guide))
    here, around = _seen(part, posterior, whole, threads)
    of_all = np.zeros((pixels.size, 5), np.float32)
    clues = np.concatenate([here, around, of_all], 1, dtype=np.float32)
    against, between = here[:, AGAINST], here[:, BETWEEN] - here[:, ALPHA]
    clues[:, -5:] = (
        np.abs(against).mean(),
        np.abs(between).mean(),
        *whole.errs,
        np.abs(here[:, COARSE] - 0.5).mean(),
    )
    return Described(pixels, clues, heard, outlined, frame)


ALPHA, COARSE, BETWEEN, AGAINST = 0, 1, 6, 7
"""Columns of the clues."""


def with_ones(guide: NDArray[np.uint8]) -> Plane:
    """Return (h, w, 4) float32: the colours, 0..1, and 1."""
    whole = guide.astype(np.float32) * np.float32(1 / 255)
    return np.asarray(cv2.cvtColor(whole, cv2.COLOR_RGB2RGBA))


def slope_of(mask: Plane) -> Plane:
    """Return how steep a mask is, per pixel."""
    slope_x = cv2.Sobel(mask, cv2.CV_32F, 1, 0, scale=1 / 8)
    slope_y = cv2.Sobel(mask, cv2.CV_32F, 0, 1, scale=1 / 8)
    # Not cv2.magnitude: its last bit follows from where in memory the planes happen to lie.
    return np.asarray(np.sqrt(slope_x * slope_x + slope_y * slope_y))


def _marked(wanted: NDArray[np.bool_]) -> Marks:
    return wanted.view(np.uint8)


def _square(reach_px: int) -> Marks:
    return np.ones((2 * reach_px + 1, 2 * reach_px + 1), np.uint8)


def _heard(coarse: Plane, doubt: NDArray[np.bool_]) -> float:
    """Return how far a soft mask may be mended: 1, or less if it is sharp nearly everywhere."""
    steep = cv2.blur(cv2.dilate(slope_of(coarse), _square(2)), (5, 5))
    share = float((steep[doubt] > SHARP).mean()) if doubt.any() else 0.0
    return float(np.clip((SHARP_TO - share) / (SHARP_TO - SHARP_FROM), 0, 1))


def in_doubt(coarse: Plane, alpha: Plane) -> NDArray[np.bool_]:
    """Return where mask or matte is soft, and a little around.

    Elsewhere colour is not asked: what is printed on a shirt may well be in the wall's own colours.
    """
    unsure = (coarse > UNSURE_BACKGROUND) & (coarse < UNSURE_FOREGROUND)
    unsure |= (alpha > UNSURE_BACKGROUND) & (alpha < UNSURE_FOREGROUND)
    return np.asarray(cv2.dilate(_marked(unsure), _square(BAND_PX)) > 0)


def _frame_around(wanted: NDArray[np.bool_], margin_px: int) -> Frame:
    """Return rows and columns that hold what is wanted, beginning at multiples of `QUARTER`."""

    def side(held: Any) -> slice:
        at = np.flatnonzero(held)
        if not at.size:
            return slice(0, 0)
        first = max(0, int(at[0]) - margin_px) // QUARTER * QUARTER
        length = -(-(int(at[-1]) + 1 + margin_px - first) // QUARTER) * QUARTER
        return slice(first, min(held.size, first + length))

    return side(wanted.any(1)), side(wanted.any(0))


def _levels(guide: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """Return the number of each pixel's cell in a cube of colours."""
    red, green, blue = (guide[..., channel] >> (8 - LEVEL_BITS) for channel in range(3))
    number = (red.astype(np.uint16) << (2 * LEVEL_BITS)) | (green.astype(np.uint16) << LEVEL_BITS)
    return np.asarray(number | blue)


@dataclass(frozen=True, slots=True)
class _Whole:
    """What the whole picture says.

    Attributes:
        subject, behind: marks of what is sure.
        subject_mean, behind_mean: mean colour of each, and mean square of it.
        odds: (COLOUR_LEVELS ** 3,), how far each colour speaks for subject, 0..1.
        errs: how often these odds err on sure subject and on sure background.
    """

    subject: Marks
    behind: Marks
    subject_mean: tuple[Plane, Plane]
    behind_mean: tuple[Plane, Plane]
    odds: Plane
    errs: tuple[float, float]

    @classmethod
    def of(cls, guide: NDArray[np.uint8], coarse: Plane, alpha: Plane) -> "_Whole":
        subject = _marked(np.minimum(coarse, alpha) > SURE_FOREGROUND)
        behind = _marked(np.maximum(coarse, alpha) < SURE_BACKGROUND)
        levels, cells = _levels(guide), COLOUR_LEVELS**3
        counts = [np.bincount(levels[sure > 0], minlength=cells) for sure in (subject, behind)]
        shares = [count / max(count.sum(), 1) for count in counts]
        speaks, other = (
            _shared(share.reshape((COLOUR_LEVELS,) * 3)).ravel() + COUNT_MIN for share in shares
        )
        odds = (speaks / (speaks + other)).astype(np.float32)
        errs = float(shares[0] @ (1 - odds)), float(shares[1] @ odds)
        return cls(subject, behind, _mean(guide, subject), _mean(guide, behind), odds, errs)


def _mean(guide: NDArray[np.uint8], sure: Marks) -> tuple[Plane, Plane]:
    """Return what is sure's mean colour and mean square, each with a fourth 1."""
    mean, deviation = (each.ravel() / 255 for each in cv2.meanStdDev(guide, mask=sure))
    one = np.ones(1)
    square = np.square(mean) + np.square(deviation)
    return np.concatenate([mean, one]), np.concatenate([square, one])


def _shared(cube: Plane) -> Plane:
    """Share each count with its neighbours along the three channels."""
    for axis in range(3):
        wide = np.pad(cube, [(1, 1) if each == axis else (0, 0) for each in range(3)], "edge")
        before, after = (np.take(wide, range(at, at + COLOUR_LEVELS), axis) for at in (0, 2))
        cube = 0.5 * cube + 0.25 * (before + after)
    return cube


@dataclass(frozen=True, slots=True)
class _Part:
    """The frame around what is in doubt, filled up to sides that are multiples of `QUARTER`.

    Attributes:
        guide, coarse, alpha, subject, behind: as of the whole picture.
        doubt: marks of the pixels in doubt.
        pixels: these, flat, in here.
    """

    guide: NDArray[np.uint8]
    coarse: Plane
    alpha: Plane
    subject: Marks
    behind: Marks
    doubt: Marks
    pixels: NDArray[np.intp]

    @classmethod
    def of(
        cls, guide: NDArray[np.uint8], planes: list[Plane], marks: list[Marks], frame: Frame
    ) -> "_Part":
        edge, empty = cv2.BORDER_REPLICATE, cv2.BORDER_CONSTANT
        coarse, alpha = (_filled_up(plane[frame], edge) for plane in planes)
        subject, behind = (_filled_up(each[frame], edge) for each in marks[:2])
        doubt = _filled_up(marks[2][frame], empty)
        colours = _filled_up(guide[frame], edge)
        return cls(colours, coarse, alpha, subject, behind, doubt, np.flatnonzero(doubt))

    def at_pixels(self, quarters: Sequence[Plane]) -> Plane:
        """Look planes a quarter as wide up, between their pixels, where it is in doubt."""
        count = -(-self.pixels.size // LOOKED_UP_AT_ONCE) * LOOKED_UP_AT_ONCE
        rows, columns = np.divmod(np.resize(self.pixels, count), self.alpha.shape[1])
        down, across = (
            ((at + 0.5) / QUARTER - 0.5).astype(np.float32).reshape(-1, LOOKED_UP_AT_ONCE)
            for at in (rows, columns)
        )
        edge = cv2.BORDER_REPLICATE
        looked_up = [
            cv2.remap(four, across, down, cv2.INTER_LINEAR, borderMode=edge) for four in quarters
        ]
        return np.concatenate([each.reshape(count, -1) for each in looked_up], 1)[
            : self.pixels.size
        ]


def _filled_up(plane: Plane, border: int) -> Plane:
    bottom, right = (-side % QUARTER for side in plane.shape[:2])
    return np.asarray(cv2.copyMakeBorder(plane, 0, bottom, 0, right, border))


def _seen(part: _Part, posterior: Plane, whole: _Whole, threads: int) -> tuple[Plane, Plane]:
    """Compare each pixel with the sure colours nearby, and look at what is around it.

    Returns:
        What is known of each pixel in doubt, (n, 21), and of what is around it, (n, 24).
    """
    picture = with_ones(part.guide)
    squares = cv2.multiply(picture, picture)
    one, other = beside(
        partial(_Near.of, picture, squares, part.subject, whole.subject_mean),
        partial(_Near.of, picture, squares, part.behind, whole.behind_mean),
        threads,
    )
    apart = cv2.subtract(one.mean, other.mean)
    contrast = _summed(cv2.multiply(apart, apart))
    across = _summed(cv2.multiply(cv2.subtract(picture, other.mean), apart))
    between = np.clip(across / (contrast + np.float32(CONTRAST_MIN)), -0.5, 1.5)
    texture, against = _texture(picture), posterior - part.alpha
    matte = cv2.merge([part.alpha, part.coarse, one.unlike, other.unlike])
    colour = cv2.merge([posterior, texture, between, against])

    def here() -> Plane:
        near = cv2.merge([part.alpha, one.unlike, other.unlike, against])
        wider = cv2.merge([other.unlike, between, texture, against])
        lowest, highest = cv2.erode(part.alpha, _square(2)), cv2.dilate(part.alpha, _square(2))
        extremes = cv2.merge([lowest, highest])
        planes = [matte, colour, _means(near, 1), _means(wider, 3), extremes]
        known = [each.reshape(-1, each.shape[2]).take(part.pixels, axis=0) for each in planes]
        distances = cv2.merge([one.distance, other.distance, contrast])
        known.append(np.sqrt(distances.reshape(-1, 3).take(part.pixels, axis=0)))
        return np.concatenate(known, 1)

    def around() -> Plane:
        quarters = _around(_quartered(matte), _quartered(colour))
        errs = cv2.merge([cv2.copyTo(posterior, part.subject), cv2.copyTo(posterior, part.behind)])
        quarters.append(_reliance(one.held, other.held, _quartered(errs)))
        return part.at_pixels(quarters)

    return beside(here, around, threads)


def _summed(four: Plane) -> Plane:
    return np.asarray(cv2.transform(four, np.ones((1, 4), np.float32)))


def _means(planes: Plane, radius_px: int) -> Plane:
    size = (2 * radius_px + 1, 2 * radius_px + 1)
    return np.asarray(cv2.blur(planes, size, borderType=cv2.BORDER_REFLECT))


def _quartered(planes: Plane) -> Plane:
    size_px = planes.shape[1] // QUARTER, planes.shape[0] // QUARTER
    return np.asarray(cv2.resize(planes, size_px, interpolation=cv2.INTER_AREA))


def _texture(picture: Plane) -> Plane:
    light = cv2.transform(picture, np.array([[1, 1, 1, 0]], np.float32) / 3)
    mean, square = cv2.split(_means(cv2.merge([light, light * light]), 3))
    return np.asarray(np.sqrt(np.maximum(square - mean * mean, 0)))


@dataclass(frozen=True, slots=True)
class _Near:
    """The sure colours nearby, and how each pixel compares with them.

    Attributes:
        mean: (h, w, 4), their mean, and a fourth 1.
        distance: squared, from it.
        unlike: 0..1, the same by how much these colours vary.
        held: how much of the window is sure, on a plane a quarter as wide.
    """

    mean: Plane
    distance: Plane
    unlike: Plane
    held: Plane

    @classmethod
    def of(cls, picture: Plane, squares: Plane, sure: Marks, whole: tuple[Plane, Plane]) -> "_Near":
        """Average what is `sure`; where there is little of it, the whole picture's counts too."""
        sums = [
            _means(_quartered(cv2.copyTo(each, sure)), NEAR_QUARTERS) for each in (picture, squares)
        ]
        held = sums[0][..., 3:]
        mean, square = (
            (each + (FEW * extra).astype(np.float32)) / (held + np.float32(FEW))
            for each, extra in zip(sums, whole, strict=True)
        )
        narrowness = 1 / (np.maximum(square - mean * mean, 0) + np.float32(VARIANCE_MIN))
        narrowness[..., 3] = 0
        size_px = (picture.shape[1], picture.shape[0])
        centre, scale = (np.asarray(cv2.resize(each, size_px)) for each in (mean, narrowness))
        off = cv2.subtract(picture, centre)
        off = cv2.multiply(off, off)
        unlike = _summed(cv2.multiply(off, scale))
        return cls(centre, _summed(off), unlike / (unlike + np.float32(UNLIKE)), held[..., 0])


def _reliance(subject: Plane, behind: Plane, speaks: Plane) -> Plane:
    """Say how often colour errs where all is sure nearby, and how much is sure there."""
    on_subject, on_behind = cv2.split(_means(speaks, NEAR_QUARTERS))
    few = np.float32(RELIED_FEW)
    errs = (subject - on_subject) / (subject + few), on_behind / (behind + few)
    return np.asarray(cv2.merge([*errs, subject, behind]))


def _around(matte: Plane, colour: Plane) -> list[Plane]:
    """Return means in wide windows, and extremes of mask and matte."""
    alpha, coarse = cv2.split(matte)[:2]
    extremes = [
        cv2.erode(alpha, _square(1)),
        cv2.erode(alpha, _square(3)),
        cv2.erode(coarse, _square(3)),
        cv2.dilate(coarse, _square(1)),
    ]
    means = [_means(four, reach) for reach in (2, 5) for four in (matte, colour)]
    return [*means, np.asarray(cv2.merge(extremes))]
