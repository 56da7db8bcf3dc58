"""Foreground colours with the background's spill removed, in the soft band and just outside it.

Where alpha is 255 the source is kept bit for bit. Where it is between, foreground F and background
B are estimated together: on a coarse pyramid (multi-level estimation, Germer et al. 2020), then
made to explain the picture pixel by pixel and smoothed along the subject at full resolution (blur
fusion, Forte 2021). Where alpha is 0 the colour is bled outward, so that a resize shows no rim.
"""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from core.band import Tile, band_tiles, reduced, scaled_up, widened

Alpha = NDArray[np.uint8]
Image = NDArray[np.uint8]
Plane = NDArray[Any]

OPAQUE = 255
COARSE_EDGE_PX = 256
"""Long edge of the finest level of the pyramid; below a quarter of the picture it gains nothing."""
COARSE_SHARE_MAX = 0.25
SMALLEST_EDGE_PX = 4
SMALL_EDGE_PX = 64
SMALL_STEPS, STEPS = 20, 2
SMOOTHNESS = 1e-3
EDGE_SMOOTHNESS = 0.1
"""More smoothing where alpha changes: there the picture itself says least about F and B."""
FUSION_RADIUS_PX = 2
FUSION_PIXELS_MAX = 3_000_000
"""A larger picture has pixels to spare along its edge: the coarse estimate is smooth enough."""
BLEED_PX = 8
"""How far foreground colour goes on under alpha 0; past it the colour is black: it packs well."""


def decontaminate(image: Image, alpha: Alpha) -> Image:
    """Estimate the foreground F of `image` = alpha F + (1 - alpha) B.

    Args:
        image: (H, W, 3) uint8 sRGB.
        alpha: (H, W) uint8, 0..255.

    Returns:
        (H, W, 3) uint8: the source exactly where alpha is 255, the estimate where it is between,
        bled colour up to `BLEED_PX` outside, 0 beyond.
    """
    opaque = cv2.threshold(alpha, OPAQUE - 1, OPAQUE, cv2.THRESH_BINARY)[1]
    foreground = np.asarray(cv2.copyTo(image, opaque), np.uint8)
    around = np.ones((2 * BLEED_PX + 1, 2 * BLEED_PX + 1), np.uint8)
    wanted = np.asarray(cv2.bitwise_and(cv2.bitwise_not(opaque), cv2.dilate(alpha, around)))
    if not wanted.any():
        return foreground
    coarse = _estimate_coarse(image, alpha)
    for tile in band_tiles(wanted):
        estimate = _estimate_tile(image, alpha, coarse, tile)
        cv2.copyTo(estimate, wanted[tile], foreground[tile])
    return foreground


def _estimate_coarse(image: Image, alpha: Alpha) -> tuple[Plane, Plane]:
    """Return F and B, each (h, w, 3) float32, 0..1, at the pyramid's finest level."""
    height_px, width_px = alpha.shape
    scale = min(COARSE_SHARE_MAX, COARSE_EDGE_PX / max(height_px, width_px))
    size_px = (max(1, round(width_px * scale)), max(1, round(height_px * scale)))
    levels = [_planes_of(*(reduced(each, size_px) for each in (image, alpha)))]
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
    return np.dstack(list(both[:3])), np.dstack(list(both[3:]))


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


def _estimate_tile(image: Image, alpha: Alpha, coarse: tuple[Plane, Plane], tile: Tile) -> Image:
    """Bring F and B to full resolution in one tile and make them explain the picture there."""
    size_px = (alpha.shape[0], alpha.shape[1])
    wide, inner = widened(tile, FUSION_RADIUS_PX, size_px)
    colours = image[wide].astype(np.float32) * np.float32(1 / OPAQUE)
    cover = cv2.merge([alpha[wide].astype(np.float32) * np.float32(1 / OPAQUE)] * 3)
    rest = 1 - cover
    front, back = (scaled_up(plane, wide, size_px) for plane in coarse)
    miss = (colours - cover * front - rest * back) / (cover * cover + rest * rest)
    front = np.clip(front + cover * miss, 0, 1)
    if alpha.size <= FUSION_PIXELS_MAX:
        front = _smoothed(front, cover * cover)
        back = _smoothed(np.clip(back + rest * miss, 0, 1), rest * rest)
        front += cover * (colours - cover * front - rest * back)
    return np.asarray(np.clip(front[inner], 0, 1) * np.float32(OPAQUE) + np.float32(0.5), np.uint8)


def _smoothed(plane: Plane, weight: Plane) -> Plane:
    """Average over windows in which `weight` says what counts; keep what has none around."""
    size = (2 * FUSION_RADIUS_PX + 1, 2 * FUSION_RADIUS_PX + 1)
    weight = weight + np.float32(TINY)
    return np.asarray(cv2.blur(plane * weight, size) / cv2.blur(weight, size))
