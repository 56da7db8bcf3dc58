"""What a segmentation network makes of an exact alpha: small, soft, and wrong in its own ways."""

import cv2
import numpy as np
from numpy.random import Generator

from training.photos import Plane

FAITHFUL_SHARE, SMOOTHED_SHARE, CLASSED_SHARE = 0.7, 0.5, 0.15
"""Of drawn masks: those at a half of the truth; of the others, those without detail; and of all,
those that are 0 or 1 at the network's size too."""


def coarse_mask(rng: Generator, small: Plane) -> Plane:
    """Spoil the truth (0..1, at the network's size) as networks do."""
    kind = rng.random()
    if kind < 0.75:
        mask = _guessed(rng, small)
    elif kind < 0.9:  # the truth, hardened: an oracle without edges
        mask = (small > 0.5).astype(np.float32)
    else:  # almost right
        mask = cv2.GaussianBlur(_bent(rng, small, 0.25), (0, 0), rng.uniform(0.3, 0.8))
    return np.clip(mask, 0, 1).astype(np.float32)


def drawn_mask(rng: Generator, alpha: Plane, side_px: int) -> Plane:
    """Draw a hard outline from the truth (0..1, whole size), as people and class masks have it."""
    kind = rng.random()
    level, size_px = 0.5, (side_px, side_px)
    if kind > FAITHFUL_SHARE:  # drawn otherwise than at a half: wider, narrower, smoother, askew
        level = rng.uniform(0.25, 0.75)
        alpha = _bent(rng, alpha, alpha.shape[0] / side_px * rng.choice([0.0, 0.3, 0.6]))
        if rng.random() < SMOOTHED_SHARE:  # fine structure is not seen
            spread_px = alpha.shape[0] / side_px * rng.uniform(0.5, 2.5)
            alpha = cv2.GaussianBlur(alpha, (0, 0), spread_px)
    hard = (alpha > level).astype(np.float32)
    how = cv2.INTER_NEAREST if rng.random() < CLASSED_SHARE else cv2.INTER_AREA
    return np.asarray(cv2.resize(hard, size_px, interpolation=how), np.float32)


def _bent(rng: Generator, mask: Plane, bend_px: float) -> Plane:
    """Displace the mask smoothly, `bend_px` of its pixels on average."""
    height_px, width_px = mask.shape
    places = np.mgrid[0:height_px, 0:width_px].astype(np.float32)
    for axis in range(2):
        cells = int(rng.integers(3, 14))
        field = rng.normal(0, bend_px, (cells, cells)).astype(np.float32)
        places[axis] += cv2.resize(field, (width_px, height_px), interpolation=cv2.INTER_CUBIC)
    return cv2.remap(mask, places[1], places[0], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _guessed(rng: Generator, small: Plane) -> Plane:
    """A network's guess: bent, its threshold wandering, with false spots, soft, hazy."""
    mask = _bent(rng, small, rng.choice([0.2, 0.6, 1.2, 2.0]))
    size_px, cells = (mask.shape[1], mask.shape[0]), int(rng.integers(2, 10))
    lost = cv2.GaussianBlur(mask, (0, 0), rng.uniform(0.5, 3))  # fine structure is not seen
    wander = rng.uniform(-0.25, 0.25, (cells, cells)).astype(np.float32)
    # Networks cover thin hair whole more often than they leave it out.
    base = 0.5 if rng.random() < 0.5 else rng.uniform(0.08, 0.5)
    level = (
        base
        + cv2.resize(wander, size_px, interpolation=cv2.INTER_CUBIC)
        * rng.uniform(0, 1.2)
        * base
        * 2
    )
    steep = rng.uniform(3, 25)
    mask = 1 / (1 + np.exp(-np.clip(steep * (lost - level), -30, 30)))
    for _ in range(rng.integers(0, 4)):
        mask = _spotted(rng, mask, lost)
    mask = cv2.GaussianBlur(mask, (0, 0), rng.uniform(0.3, 1.6))
    if rng.random() < 0.3:
        haze = rng.uniform(0, 1, (5, 5)).astype(np.float32) * rng.uniform(0.02, 0.25)
        mask = mask + (0.5 - mask) * cv2.resize(haze, size_px, interpolation=cv2.INTER_LINEAR)
    return mask


def _spotted(rng: Generator, mask: Plane, lost: Plane) -> Plane:
    """Add or take away a soft spot near the rim."""
    rim = np.argwhere((lost > 0.1) & (lost < 0.9))
    if not len(rim):
        return mask
    down, across = rim[rng.integers(len(rim))] + rng.normal(0, 2, 2)
    rows, columns = np.mgrid[0 : mask.shape[0], 0 : mask.shape[1]]
    wide, high = rng.uniform(1.5, 6, 2)
    spot = np.exp(-(((rows - down) / high) ** 2) - ((columns - across) / wide) ** 2)
    return mask + (float(rng.random() < 0.5) - mask) * spot * rng.uniform(0.4, 1)


def guided(image: Plane, coarse: Plane, radius_px: int = 8, epsilon: float = 1e-5) -> Plane:
    """The colour guided filter (He 2013) of `coarse` under `image` (both 0..1), solved in full."""
    size = (2 * radius_px + 1, 2 * radius_px + 1)
    guide = image.astype(np.float32)

    def mean(plane: Plane) -> Plane:
        return cv2.blur(plane, size)

    middle, level = mean(guide), mean(coarse)
    product = mean(guide * coarse[..., None]) - middle * level[..., None]
    squares = np.dstack([guide * guide[..., i : i + 1] for i in range(3)])
    spread = mean(squares[..., :4]), mean(squares[..., 4:8]), mean(squares[..., 8:])
    flat = np.dstack([plane.reshape(*coarse.shape, -1) for plane in spread])
    flat = flat - np.dstack([middle * middle[..., i : i + 1] for i in range(3)])
    # In float32 the determinant of grey texture (all covariances alike) drowns in rounding.
    rr, rg, rb, gg, gb, bb = (flat[..., i].astype(np.float64) for i in (0, 1, 2, 4, 5, 8))
    rr, gg, bb = rr + epsilon, gg + epsilon, bb + epsilon
    minors = (gg * bb - gb * gb, gb * rb - rg * bb, rg * gb - gg * rb)
    others = (rr * bb - rb * rb, rb * rg - rr * gb, rr * gg - rg * rg)
    determinant = minors[0] * rr + minors[1] * rg + minors[2] * rb
    r, g, b = (product[..., i] for i in range(3))
    slopes = np.dstack(
        [
            minors[0] * r + minors[1] * g + minors[2] * b,
            minors[1] * r + others[0] * g + others[1] * b,
            minors[2] * r + others[1] * g + others[2] * b,
        ]
    )
    slopes = (slopes / determinant[..., None]).astype(np.float32)
    offset = level - (slopes * middle).sum(2)
    return np.clip((mean(slopes) * guide).sum(2) + mean(offset), 0, 1)
