"""Foreground colours with the background's spill removed, in the soft band and just outside it.

Where alpha is 255 the source is kept bit for bit. Where it is between, foreground F and background
B are estimated together: on a coarse pyramid (multi-level estimation, Germer et al. 2020), then
made to explain the picture pixel by pixel and smoothed along the subject at full resolution (blur
fusion, Forte 2021). Where alpha is 0 the colour is bled outward, so that a resize shows no rim.
"""

from collections.abc import Callable, Iterator
from itertools import pairwise
from threading import Condition, Lock
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from core.band import TILE_WIDTH_PX, Tile, band_tiles, reduced, scaled_up, strips, widened

Alpha = NDArray[np.uint8]
Image = NDArray[np.uint8]
Plane = NDArray[Any]
Colours = tuple[Plane, Plane]
"""F and B, each (h, w, 3 + 1) float32, 0..255."""

OPAQUE = 255
COARSE_EDGE_PX = 256
"""Long edge of the finest level of the pyramid; below a quarter of the picture it gains nothing."""
COARSE_SHARE_MAX = 0.25
SMALLEST_EDGE_PX = 4
SMALL_EDGE_PX = 64
SMALL_STEPS, STEPS = 14, 1
SMOOTHNESS = 1e-3
EDGE_SMOOTHNESS = 0.1
"""More smoothing where alpha changes: there the picture itself says least about F and B."""
FUSION_RADIUS_PX = 2
FUSION_PIXELS_MAX = 3_000_000
"""A larger picture has pixels to spare along its edge: the coarse estimate is smooth enough."""
SOLID, EDGE, NOTHING = range(3)
"""Kinds of a run of columns."""
BLEED_PX = 8
"""How far foreground colour goes on under alpha 0; past it the colour is black: it packs well."""


class Foreground:
    """Foreground colours of a picture, estimated from the top down once somebody asks for rows.

    Whoever asks first estimates all of them; other threads may meanwhile write what is done to a
    file. To share the estimating itself does not pay: it is many short steps, and threads would
    mostly wait for each other.
    """

    def __init__(
        self,
        image: Image,
        alpha: Alpha,
        colours: Colours | None = None,
        *,
        make_alpha: Callable[[int], None] | None = None,
        may_overwrite: bool = False,
    ) -> None:
        """Take what is to be explained: `image` = alpha F + (1 - alpha) B.

        Args:
            image: (H, W, 3) uint8 sRGB.
            alpha: (H, W) uint8, 0..255.
            colours: `coarse_colours` of both, if they are known.
            make_alpha: called with a row before alpha is read, up to there and no farther.
            may_overwrite: nobody else needs `image`: where it can be, the estimate is written into
                it, which spares a large picture a second copy.
        """
        self.shape = image.shape
        self._image, self._alpha, self._make_alpha = image, alpha, make_alpha
        self._coarse = coarse_colours(image, alpha, image.shape) if colours is None else colours
        is_in_place = may_overwrite and image.flags.writeable and not _is_fused(alpha)
        self._estimate = image if is_in_place else np.empty(image.shape, np.uint8)
        self._first = Lock()
        self._done_px, self._progress = 0, Condition()
        self._failure: BaseException | None = None
        self._awaited: list[int] = []  # to wake a thread for nothing would cost the one that works

    def __getitem__(self, rows: slice) -> Image:
        """Return F of some rows, (n, W, 3) uint8, as soon as they are estimated.

        It is the source exactly where alpha is 255, the estimate where it is between, bled colour
        up to `BLEED_PX` outside, 0 beyond.

        Raises:
            Exception: what kept whoever estimates from going on.
        """
        if self._first.acquire(blocking=False):  # and never released
            self._estimate_all()
        last = rows.indices(self.shape[0])[1]
        with self._progress:
            self._awaited.append(last)
            self._progress.wait_for(lambda: self._failure is not None or self._done_px >= last)
            self._awaited.remove(last)
        if self._failure is not None:
            raise self._failure
        return self._estimate[rows]

    def _estimate_all(self) -> None:
        try:
            for rows in strips(self.shape[0]):
                if self._make_alpha is not None:
                    self._make_alpha(rows.stop + BLEED_PX)
                self._fill(rows)
                self._tell(rows.stop)
        except BaseException as exc:
            self._estimate = np.empty((0, 0, 3), np.uint8)
            self._tell(self._done_px, exc)
            raise
        finally:  # nobody needs what it was made of, and it may be large
            self._image, self._alpha = np.empty((0, 0, 3), np.uint8), np.empty((0, 0), np.uint8)
            self._make_alpha = None

    def _tell(self, done_px: int, failure: BaseException | None = None) -> None:
        with self._progress:
            self._done_px, self._failure = done_px, failure
            if failure is not None or any(done_px >= last for last in self._awaited):
                self._progress.notify_all()

    def _fill(self, rows: slice) -> None:
        image, alpha, target = self._image, self._alpha, self._estimate
        for kind, columns in _runs(alpha, rows):
            part = (rows, columns)
            if kind == EDGE:
                wanted = _wanted(alpha, part)
                across = list(band_tiles(wanted.max(0), rows, columns.start))
                estimates = [_estimate_tile(image, alpha, self._coarse, tile) for tile in across]
                opaque = cv2.threshold(alpha[part], OPAQUE - 1, OPAQUE, cv2.THRESH_BINARY)[1]
                target[part] = cv2.bitwise_and(image[part], _thrice(np.asarray(opaque)))
                for tile, estimate in zip(across, estimates, strict=True):
                    within = slice(tile[1].start - columns.start, tile[1].stop - columns.start)
                    cv2.copyTo(estimate, wanted[:, within], target[tile])
            elif kind == NOTHING:
                target[part] = 0
            elif target is not image:
                target[part] = image[part]


def decontaminate(image: Image, alpha: Alpha, colours: Colours | None = None) -> Image:
    """Return the whole of a `Foreground`, (H, W, 3) uint8."""
    return Foreground(image, alpha, colours)[:]


def _is_fused(alpha: Alpha) -> bool:
    """Say whether a pixel's estimate looks at its neighbours."""
    return alpha.size <= FUSION_PIXELS_MAX


def _runs(alpha: Alpha, rows: slice) -> Iterator[tuple[int, slice]]:
    """Cut a strip into runs of columns: all opaque, nothing near, or some of the edge."""
    first = max(0, rows.start - BLEED_PX)
    highest = alpha[first : rows.stop + BLEED_PX].max(0)[None]
    near = cv2.dilate(highest, np.ones((1, 2 * BLEED_PX + 1), np.uint8))[0]
    starts = np.arange(0, alpha.shape[1], TILE_WIDTH_PX)
    is_opaque = np.minimum.reduceat(alpha[rows].min(0), starts) == OPAQUE
    is_near = np.maximum.reduceat(np.asarray(near), starts) > 0
    kinds = np.where(is_opaque, SOLID, np.where(is_near, EDGE, NOTHING))
    changes = np.flatnonzero(np.diff(kinds)) + 1
    cuts = [0, *(int(starts[change]) for change in changes), alpha.shape[1]]
    for kind, (left, right) in zip(kinds[[0, *changes]], pairwise(cuts), strict=True):
        yield int(kind), slice(left, right)


def _wanted(alpha: Alpha, part: Tile) -> Alpha:
    """Return above 0 what is not opaque and within `BLEED_PX` of what is visible."""
    size_px = (alpha.shape[0], alpha.shape[1])
    wide, inner = widened(part, BLEED_PX, size_px)
    window = np.ones((2 * BLEED_PX + 1, 2 * BLEED_PX + 1), np.uint8)
    near = np.asarray(cv2.dilate(alpha[wide], window), np.uint8)[inner]
    return np.where(alpha[part] < OPAQUE, near, 0).astype(np.uint8)


def coarse_colours(image: Image, alpha: Alpha, shape: tuple[int, ...]) -> Colours:
    """Estimate F and B at the pyramid's finest level.

    Args:
        image: (H, W, 3) uint8 sRGB, whole or reduced.
        alpha: (h, w) uint8, 0..255, whole or reduced.
        shape: of the whole picture, (H, W, …).
    """
    height_px, width_px = shape[:2]
    scale = min(COARSE_SHARE_MAX, COARSE_EDGE_PX / max(height_px, width_px))
    coarse_px = (max(1, round(width_px * scale)), max(1, round(height_px * scale)))
    levels = [_planes_of(reduced(image, coarse_px), reduced(alpha, coarse_px))]
    while max(levels[-1][1].shape) > SMALLEST_EDGE_PX:
        rows, columns = levels[-1][1].shape
        half_px = ((columns + 1) // 2, (rows + 1) // 2)
        colours, cover = levels[-1]
        levels.append((np.stack([reduced(p, half_px) for p in colours]), reduced(cover, half_px)))
    colours, cover = levels[-1]
    both = np.stack([*_weighted_mean(colours, cover), *_weighted_mean(colours, 1 - cover)])
    for colours, cover in reversed(levels):
        rows, columns = cover.shape
        both = np.stack([cv2.resize(plane, (columns, rows)) for plane in both])
        steps = SMALL_STEPS if min(rows, columns) <= SMALL_EDGE_PX else STEPS
        both = _relax(both.reshape(6, rows, columns), colours, cover, steps)
    both *= np.float32(OPAQUE)
    # A fourth plane, of nothing: OpenCV scales four up in half the time of three.
    return cv2.merge([*both[:3], both[0]]), cv2.merge([*both[3:], both[0]])


def _planes_of(image: Plane, alpha: Plane) -> tuple[Plane, Plane]:
    colours = np.stack(cv2.split(image)).astype(np.float32) / OPAQUE
    return colours, alpha.astype(np.float32) / OPAQUE


def _weighted_mean(colours: Plane, weight: Plane) -> Plane:
    """Return planes that hold one colour everywhere: the mean under `weight`."""
    total = np.float32(weight.sum() + TINY)
    return np.asarray(
        np.broadcast_to((colours * weight).sum((1, 2), keepdims=True) / total, colours.shape)
    )


def _relax(both: Plane, colours: Plane, cover: Plane, steps: int) -> Plane:
    """Let F and B explain the colours and resemble their neighbours, `steps` times (Jacobi)."""
    rows, columns = cover.shape
    rest = 1 - cover
    padded = _padded(cover[None])[0]
    weights = [
        SMOOTHNESS + EDGE_SMOOTHNESS * np.abs(cover - padded[dy : dy + rows, dx : dx + columns])
        for dy, dx in NEIGHBOURS
    ]
    explained = np.concatenate([cover * colours, rest * colours])
    weight = np.sum(weights, 0)
    ff, bb, fb = cover * cover + weight, rest * rest + weight, cover * rest
    scale = 1 / (ff * bb - fb * fb)
    for _ in range(steps):
        padded = _padded(both)
        pull = explained.copy()
        for each, (dy, dx) in zip(weights, NEIGHBOURS, strict=True):
            pull += each * padded[:, dy : dy + rows, dx : dx + columns]
        front, back = pull[:3], pull[3:]
        both = np.concatenate([bb * front - fb * back, ff * back - fb * front])
        both *= scale
        np.clip(both, 0, 1, out=both)
    return both


def _padded(planes: Plane) -> Plane:
    """Repeat the border of each plane once; numpy's own pad costs more than the step itself."""
    count, rows, columns = planes.shape
    padded = np.empty((count, rows + 2, columns + 2), planes.dtype)
    padded[:, 1:-1, 1:-1] = planes
    padded[:, 0, 1:-1], padded[:, -1, 1:-1] = planes[:, 0], planes[:, -1]
    padded[:, :, 0], padded[:, :, -1] = padded[:, :, 1], padded[:, :, -2]
    return padded


NEIGHBOURS = ((1, 0), (1, 2), (0, 1), (2, 1))
"""Left, right, above, below, as offsets into a plane padded by one."""
TINY = 1e-4


COVER = np.arange(OPAQUE + 1, dtype=np.float32) / OPAQUE
REST = 1 - COVER
"""What is left of a pixel, by its alpha."""
FRONT_PACE, BACK_PACE = (share / (COVER**2 + REST**2) for share in (COVER, REST))
"""How much of what F and B leave unexplained is put right in each."""


def _estimate_tile(image: Image, alpha: Alpha, coarse: Colours, tile: Tile) -> Image:
    """Bring F and B to full resolution in one tile and make them explain the picture there."""
    size_px = (alpha.shape[0], alpha.shape[1])
    is_fused = _is_fused(alpha)
    wide, inner = widened(tile, FUSION_RADIUS_PX if is_fused else 0, size_px)
    colours, cover = image[wide], alpha[wide]
    front, back = (
        np.asarray(cv2.cvtColor(scaled_up(plane, wide, size_px), cv2.COLOR_RGBA2RGB))
        for plane in coarse
    )
    miss = _unexplained(colours, front, back, cover)
    thrice = _thrice(cover)
    change = cv2.multiply(miss, cv2.LUT(thrice, FRONT_PACE))
    if not is_fused:
        return np.asarray(cv2.add(front, change, dtype=cv2.CV_8U), np.uint8)
    front = np.clip(front + change, 0, OPAQUE)
    back = np.clip(back + miss * cv2.LUT(thrice, BACK_PACE), 0, OPAQUE)
    front = _smoothed(front, np.asarray(cv2.LUT(thrice, COVER**2)))
    back = _smoothed(back, np.asarray(cv2.LUT(thrice, REST**2)))
    change = _unexplained(colours, front, back, cover) * cv2.LUT(thrice, COVER)
    return np.asarray(cv2.add(front, change, dtype=cv2.CV_8U), np.uint8)[inner]


def _thrice(plane: Alpha) -> Plane:
    return np.asarray(cv2.merge([plane] * 3))


def _unexplained(colours: Image, front: Plane, back: Plane, cover: Alpha) -> Plane:
    """Return what is left of the colours when F and B, mixed by alpha, are taken away."""
    mixed = cv2.blendLinear(front, back, cv2.LUT(cover, COVER), cv2.LUT(cover, REST))
    return np.asarray(cv2.subtract(colours, mixed, dtype=cv2.CV_32F))


def _smoothed(plane: Plane, weight: Plane) -> Plane:
    """Average over windows in which `weight` says what counts; keep what has none around."""
    size = (2 * FUSION_RADIUS_PX + 1, 2 * FUSION_RADIUS_PX + 1)
    weight = weight + np.float32(TINY)
    return np.asarray(cv2.blur(plane * weight, size) / cv2.blur(weight, size))
