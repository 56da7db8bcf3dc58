"""Mending the solved matte: a small learned eye decides, pixel by pixel, where it is wrong.

The solver knows colours near the mask's edge and believes the mask where that is sure of itself.
What the mask half covers, gaps between strands or canes, it often leaves closed. So each pixel in
doubt is described by what colour says of it, near and in the picture as a whole, and how far that
may be relied on; a network of three layers, trained on scenes whose alpha is known, answers with a
correction. docs/models has the figures.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from core.guided import ColourModel, box_means
from core.parallel import beside

Plane = NDArray[Any]

CLUES: Final = 50
"""Numbers that describe a pixel; the network's input is (n, CLUES)."""
MENDED_EDGE_PX: Final = 320
"""Long edge that the clues' windows are made for; larger solutions are left as they are."""

SURE_BACKGROUND, SURE_FOREGROUND = 0.05, 0.95
UNSURE_BACKGROUND, UNSURE_FOREGROUND = 0.03, 0.97
BAND_PX = 4
QUARTER = 4
"""Wide windows are averaged on a picture a quarter as wide."""

NEAR_PX = 20
FEW = 0.02
"""Share of a window that must be sure for its own mean to outweigh the whole picture's."""
RELIED_FEW = 0.01
VARIANCE_MIN = 0.0006
UNLIKE = 3.0
COLOUR_LEVELS = 16
COUNT_MIN = 2e-5
CONTRAST_MIN = 0.003
EXPLAINED_RADIUS_PX, EXPLAINED_EPSILON = 4, 3e-5
SMOOTH_RADIUS_PX, SMOOTH_EPSILON = 2, 1e-4

UNDECIDED_MAX = 0.18
"""A mask greyer than this found nothing for sure; 99 in 100 of those learned from are less so."""
SHARP_FROM, SHARP_TO = 0.38, 0.44
"""Slope of the mask per pixel from which, and beyond which not at all, the mask may be mended.

An edge drawn this sharply was seen, not guessed; an ideal one has 0.5.
"""


@dataclass(frozen=True, slots=True)
class EdgeNetwork:
    """Loaded weights of cutout-edge, for any number of threads at once."""

    ort_session: Any
    threads: int = 1

    def mend(self, guide: NDArray[np.uint8], coarse: Plane, alpha: Plane) -> Plane:
        """Return the matte (h, w) float32, 0..1, corrected where the network sees a reason.

        Args:
            guide: (h, w, 3) uint8, the picture at the solving size.
            coarse: the mask at that size, 0..1.
            alpha: the matte that the solver made of both, 0..1.
        """
        if 2 * float(np.minimum(coarse, 1 - coarse).mean()) > UNDECIDED_MAX:
            return alpha
        described = describe(guide, coarse, alpha, self.threads)
        if not described.pixels.size:
            return alpha
        (answer,) = self.ort_session.run(["correction"], {"clues": described.clues})
        return corrected(guide, alpha, described, answer[:, 0])

    def warm_up(self) -> None:
        """Run once, so that the first real picture is as fast as the rest."""
        self.ort_session.run(["correction"], {"clues": np.zeros((1, CLUES), np.float32)})


@dataclass(frozen=True, slots=True)
class Described:
    """The pixels in doubt (flat, ascending), (n, CLUES) about them, and how far to hear each."""

    pixels: NDArray[np.intp]
    clues: NDArray[np.float32]
    openness: NDArray[np.float32]


def corrected(
    guide: NDArray[np.uint8], alpha: Plane, described: Described, correction: Plane
) -> Plane:
    """Return alpha plus the correction, which is smoothed where colours are smooth."""
    change = np.zeros_like(alpha)
    change.reshape(-1)[described.pixels] = correction * described.openness
    wanted = np.zeros(alpha.shape, np.uint8)
    wanted.reshape(-1)[described.pixels] = 1
    model = ColourModel(_with_ones(guide), SMOOTH_RADIUS_PX, SMOOTH_EPSILON, wanted)
    mended = alpha.copy()
    mended.reshape(-1)[model.pixels] += model.filter(change)
    return np.asarray(np.clip(mended, 0, 1))


def describe(guide: NDArray[np.uint8], coarse: Plane, alpha: Plane, threads: int = 1) -> Described:
    """Find the pixels in doubt and say about them what the network wants to know."""
    colours = [np.asarray(plane) for plane in cv2.split(guide.astype(np.float32) / np.float32(255))]
    subject = ((coarse > SURE_FOREGROUND) & (alpha > SURE_FOREGROUND)).astype(np.float32)
    behind = ((coarse < SURE_BACKGROUND) & (alpha < SURE_BACKGROUND)).astype(np.float32)
    openness = _openness(coarse)
    doubt = _in_doubt(coarse, alpha) & (openness > 0)
    pixels = np.flatnonzero(doubt)
    if not pixels.size:
        return Described(pixels, np.empty((0, CLUES), np.float32), np.empty(0, np.float32))
    (posterior, explained, reliance), said = beside(
        partial(_said_by_whole, guide, subject, behind, doubt),
        partial(_said_by_colour, colours, subject, behind),
        threads,
    )
    planes = [alpha, coarse, *said[:2], posterior, *said[2:]]
    clues = np.empty((pixels.size, CLUES), np.float32)
    for column, plane in enumerate((*planes, *_around(planes), *reliance)):
        clues[:, column] = plane.reshape(-1)[pixels]
    everywhere = _everywhere(planes, coarse, doubt, subject, behind)
    clues[:, -1 - len(everywhere)] = explained
    clues[:, -len(everywhere) :] = everywhere
    return Described(pixels, clues, openness.reshape(-1)[pixels])


def _said_by_whole(
    guide: NDArray[np.uint8], subject: Plane, behind: Plane, doubt: NDArray[np.bool_]
) -> tuple[Plane, Plane, list[Plane]]:
    """Ask the colours of the whole picture: their odds, smoothed in doubt, and how often they err.

    The second is of the pixels in doubt alone.
    """
    posterior = _posterior(guide, subject, behind)
    model = ColourModel(_with_ones(guide), EXPLAINED_RADIUS_PX, EXPLAINED_EPSILON, _marked(doubt))
    explained = np.clip(model.filter(posterior), 0, 1)
    return posterior, explained, _reliance(subject, behind, posterior)


def _with_ones(guide: NDArray[np.uint8]) -> Plane:
    whole = guide.astype(np.float32) * np.float32(1 / 255)
    return np.asarray(cv2.cvtColor(whole, cv2.COLOR_RGB2RGBA))


def _marked(wanted: NDArray[np.bool_]) -> NDArray[np.uint8]:
    return wanted.astype(np.uint8)


def _square(reach_px: int) -> NDArray[np.uint8]:
    return np.ones((2 * reach_px + 1, 2 * reach_px + 1), np.uint8)


def _openness(coarse: Plane) -> Plane:
    """Return 1 where the mask was drawn softly, near and farther around, 0 where sharply."""
    slope_x = cv2.Sobel(coarse, cv2.CV_32F, 1, 0, scale=1 / 8)
    slope_y = cv2.Sobel(coarse, cv2.CV_32F, 0, 1, scale=1 / 8)
    slope = cv2.magnitude(slope_x, slope_y)
    near = cv2.blur(cv2.dilate(slope, _square(2)), (5, 5))
    far = cv2.blur(cv2.dilate(slope, _square(8)), (17, 17))
    steep = np.maximum(near, far)
    return np.asarray(np.clip((SHARP_TO - steep) / np.float32(SHARP_TO - SHARP_FROM), 0, 1))


def _in_doubt(coarse: Plane, alpha: Plane) -> NDArray[np.bool_]:
    """Return where mask or matte is soft, and a little around.

    Elsewhere colour is not asked: what is printed on a shirt may well be in the wall's own colours.
    """
    unsure = (coarse > UNSURE_BACKGROUND) & (coarse < UNSURE_FOREGROUND)
    unsure |= (alpha > UNSURE_BACKGROUND) & (alpha < UNSURE_FOREGROUND)
    return np.asarray(cv2.dilate(_marked(unsure), _square(BAND_PX)) > 0)


def _posterior(guide: NDArray[np.uint8], subject: Plane, behind: Plane) -> Plane:
    """Return how far the colours of the whole picture speak for subject at each pixel, 0..1."""
    bins = (guide // (256 // COLOUR_LEVELS)).astype(np.intp)
    index = (bins[..., 0] * COLOUR_LEVELS + bins[..., 1]) * COLOUR_LEVELS + bins[..., 2]
    shares = []
    for sure in (subject, behind):
        count = np.bincount(index.ravel(), sure.ravel(), COLOUR_LEVELS**3)
        cube = count.reshape((COLOUR_LEVELS,) * 3) / max(float(sure.sum()), 1.0)
        shares.append(_shared(cube) + COUNT_MIN)
    odds = (shares[0] / (shares[0] + shares[1])).astype(np.float32)
    return np.asarray(odds.ravel()[index])


def _shared(cube: Plane) -> Plane:
    """Share each count with its neighbours along the three channels."""
    for axis in range(3):
        wide = np.pad(cube, [(1, 1) if each == axis else (0, 0) for each in range(3)], "edge")
        before, after = (np.take(wide, range(at, at + COLOUR_LEVELS), axis) for at in (0, 2))
        cube = 0.5 * cube + 0.25 * (before + after)
    return cube


def _said_by_colour(colours: list[Plane], subject: Plane, behind: Plane) -> list[Plane]:
    """Compare each pixel with the sure colours nearby.

    Returns:
        How unlike it is to the subject's and to the background's; its plain distance from either;
        where it lies between the two; how far these are apart; how textured it is there.
    """
    subject_mean, unlike_subject = _near(colours, subject)
    behind_mean, unlike_behind = _near(colours, behind)
    from_subject = np.sqrt(_sum_of_squares(colours, subject_mean))
    from_behind = np.sqrt(_sum_of_squares(colours, behind_mean))
    apart = _sum_of_squares(subject_mean, behind_mean)
    across = np.zeros_like(apart)
    for plane, one, other in zip(colours, subject_mean, behind_mean, strict=True):
        across += (plane - other) * (one - other)
    between = np.clip(across / (apart + np.float32(CONTRAST_MIN)), -0.5, 1.5)
    light = (colours[0] + colours[1] + colours[2]) * np.float32(1 / 3)
    mean, square = box_means([light, light * light], 3)
    texture = np.sqrt(np.maximum(square - mean * mean, 0))
    return [
        unlike_subject,
        unlike_behind,
        from_subject,
        from_behind,
        between,
        np.sqrt(apart),
        texture,
    ]


def _sum_of_squares(some: list[Plane], others: list[Plane]) -> Plane:
    return np.asarray(sum(np.square(a - b) for a, b in zip(some, others, strict=True)))


def _near(colours: list[Plane], sure: Plane) -> tuple[list[Plane], Plane]:
    """Return the mean colour of what is `sure` nearby, and how unlike it each pixel is, 0..1."""
    share = max(float(sure.mean()), 1e-6)
    moments = [plane * sure for plane in (*colours, *(plane * plane for plane in colours))]
    held, *sums = box_means([sure, *moments], NEAR_PX)
    means = [
        (total + np.float32(FEW / share * float(moment.mean()))) / (held + np.float32(FEW))
        for total, moment in zip(sums, moments, strict=True)
    ]
    off = np.zeros_like(sure)
    for plane, mean, square in zip(colours, means[:3], means[3:], strict=True):
        spread = np.maximum(square - mean * mean, 0) + np.float32(VARIANCE_MIN)
        off += np.square(plane - mean) / spread
    return means[:3], off / (off + np.float32(UNLIKE))


def _reliance(subject: Plane, behind: Plane, posterior: Plane) -> list[Plane]:
    """Say how often colour errs where all is sure nearby, and how much is sure there."""
    errs = [subject * (1 - posterior), behind * posterior]
    held_subject, held_behind, *wrong = box_means([subject, behind, *errs], NEAR_PX)
    few = np.float32(RELIED_FEW)
    return [
        wrong[0] / (held_subject + few),
        wrong[1] / (held_behind + few),
        held_subject,
        held_behind,
    ]


def _around(planes: list[Plane]) -> list[Plane]:
    """Return means and extremes of the clues in windows around each pixel."""
    alpha, coarse, unlike_subject, unlike_behind, posterior, _, _, between, _, texture = planes
    against = posterior - alpha
    spoken = [coarse, alpha, unlike_subject, unlike_behind, posterior, between, texture, against]
    near = box_means([alpha, unlike_subject, unlike_behind, against], 1)
    near += box_means([unlike_behind, between, texture, against], 3)
    near += [cv2.erode(alpha, _square(2)), cv2.dilate(alpha, _square(2))]
    height_px, width_px = alpha.shape
    quarter = max(1, width_px // QUARTER), max(1, height_px // QUARTER)
    small = [cv2.resize(plane, quarter, interpolation=cv2.INTER_AREA) for plane in spoken]
    wide = [*box_means(small, 2), *box_means(small, 5)]
    wide += [
        cv2.erode(small[1], _square(1)),
        cv2.erode(small[1], _square(3)),
        cv2.erode(small[0], _square(3)),
        cv2.dilate(small[0], _square(1)),
    ]
    upwards = (
        cv2.resize(cv2.merge(wide[at : at + 4]), (width_px, height_px))
        for at in range(0, len(wide), 4)
    )
    return [*near, *(plane for four in upwards for plane in cv2.split(four))]


def _everywhere(
    planes: list[Plane], coarse: Plane, doubt: NDArray[np.bool_], subject: Plane, behind: Plane
) -> list[float]:
    """Say of the whole picture how far colour and matte agree: in doubt, and where all is sure."""
    alpha, posterior, between = planes[0], planes[4], planes[7]
    sure_subject, sure_behind = max(float(subject.sum()), 1.0), max(float(behind.sum()), 1.0)
    return [
        float(np.abs(posterior - alpha)[doubt].mean()),
        float(np.abs(between - alpha)[doubt].mean()),
        float(((1 - posterior) * subject).sum()) / sure_subject,
        float((posterior * behind).sum()) / sure_behind,
        float(np.abs(coarse - 0.5)[doubt].mean()),
    ]
