"""Training samples of the segmentation network: photographs, and composites of what is cut out.

A composite may show a small subject in a wide scene, and distractors: other things that are
smaller, cut off by the border or out of focus, and that the network is to leave out.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.random import Generator

from training.generate import compose, foreground
from training.photos import Image, Plane
from training.pool import Pool
from training.store import Store
from training.surfaces import background, plain, shadowed

SEEN_PX, DETAIL = 192, 2
"""What the network sees; its answer is so many times as large."""
ANSWERED_PX = SEEN_PX * DETAIL
PHOTO_SHARE, CUT_SHARE, PRODUCT_SHARE = 0.52, 0.13, 0.2
"""Of the samples: photographs, what is cut out of them, products generated on the spot before a
plain ground. The rest is composed from the pool of generated foregrounds."""
HOLLOW_SHARE = 1.15
HOLLOW_ODDS = 3.0
"""The teacher fills rings and spectacles: what has holes is drawn so much oftener.

A thing has holes where its outline, filled, is so many times its area.
"""
CUT_PX = 4
CLEAR = 100
"""An alpha above it, of 255, is seen."""
SURE = (0.3, 0.7)
"""The teacher's mask is stretched from this span to 0..1: the student is not to learn its haze."""


def sharpened(mask: Plane) -> Plane:
    """Return a teacher's mask (uint8) as 0..1 without its greys."""
    low, high = SURE
    return np.clip((mask.astype(np.float32) / 255 - low) / (high - low), 0, 1)


def _window(rng: Generator, edge_px: int, size_px: int) -> Plane:
    """Return an affine map: zoomed in at most 1.6 times, perhaps mirrored, slightly turned."""
    zoom = np.exp(rng.uniform(0, 0.45, 2) * (rng.random() < 0.75))
    angle = rng.normal(0, 0.08)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    turn = turn @ np.diag(zoom) * size_px / edge_px
    if rng.random() < 0.5:
        turn[:, 0] *= -1
    half = edge_px / 2
    slack = half * (1 - 1 / zoom)
    centre = half + rng.uniform(-1, 1, 2) * slack
    return np.c_[turn, size_px / 2 - turn @ centre]


def _from_photo(rng: Generator, store: Store, size_px: int) -> tuple[Plane, Plane]:
    index = int(rng.integers(len(store.masks)))
    image, mask = np.asarray(store.images[index]), np.asarray(store.masks[index])
    for _ in range(3):
        view = _window(rng, image.shape[0], size_px)
        seen = cv2.warpAffine(mask, view, (size_px, size_px), borderMode=cv2.BORDER_REFLECT_101)
        if 0.02 < (seen > 127).mean() < 0.93:
            break
    size = (size_px, size_px)
    return cv2.warpAffine(image, view, size, borderMode=cv2.BORDER_REFLECT_101), sharpened(seen)


def _placed(
    rng: Generator, colours: Plane, alpha: Plane, size_px: int, reach: float
) -> tuple[Plane, Plane]:
    """Put a thing somewhere into a square of `size_px`, `reach` of it long."""
    rows, columns = np.nonzero(alpha > CLEAR)
    if not len(rows):
        rows, columns = np.array([0, alpha.shape[0] - 1]), np.array([0, alpha.shape[1] - 1])
    extent = max(int(np.ptp(rows)), int(np.ptp(columns)), 8)
    scale = reach * size_px / extent
    centre = np.array((columns.min() + columns.max(), rows.min() + rows.max())) / 2
    turn = cv2.getRotationMatrix2D((0, 0), rng.normal(0, 10), scale)[:, :2]
    if rng.random() < 0.5:
        turn[:, 0] *= -1
    slack = max(0.0, (1 - reach) / 2) * size_px
    place = np.c_[turn, size_px / 2 + rng.uniform(-slack, slack, 2) - turn @ centre]
    if rows.max() >= alpha.shape[0] - CUT_PX:  # cut by the lower border, and so it stays
        lowest = np.array((centre[0], alpha.shape[0] - CUT_PX))
        place[1, 2] = size_px - turn[1] @ lowest
    size = (size_px, size_px)
    if scale < 0.85:
        alpha = cv2.GaussianBlur(alpha, (0, 0), 0.45 / scale)
        colours = cv2.GaussianBlur(colours, (0, 0), 0.45 / scale)
    seen = cv2.warpAffine(alpha, place, size, borderMode=cv2.BORDER_CONSTANT)
    shown = cv2.warpAffine(colours, place, size, borderMode=cv2.BORDER_REPLICATE)
    return shown.astype(np.float32), np.asarray(seen, np.float32) / 255


def _with_distractors(rng: Generator, pool: Pool, behind: Plane, reach: float) -> Plane:
    """Add things that are not the subject: smaller than it, and blurred or cut by the border."""
    for _ in range(int(rng.integers(0, 4))):
        index, size_px = int(rng.integers(len(pool.alphas))), behind.shape[0]
        colours, alpha = np.asarray(pool.colours[index]), np.asarray(pool.alphas[index])
        shown, seen = _placed(rng, colours, alpha, size_px, reach * rng.uniform(0.15, 0.5))
        if rng.random() < 0.6:
            spread = rng.uniform(1, 5)
            shown, seen = (cv2.GaussianBlur(each, (0, 0), spread) for each in (shown, seen))
        if rng.random() < 0.6:
            axis, shift = int(rng.integers(2)), int(rng.choice([-1, 1]) * size_px * 0.45)
            shown, seen = np.roll(shown, shift, axis), np.roll(seen, shift, axis)
        behind = behind + (shown - behind) * seen[..., None]
    return behind


def hollow_odds(alphas: Plane) -> Plane:
    """Return how often each of `alphas`, (n, h, w) uint8, is to be drawn; the sum is one."""
    odds = np.ones(len(alphas))
    for index, alpha in enumerate(alphas):
        small = (alpha[::4, ::4] > CLEAR).astype(np.uint8)
        outlines, _ = cv2.findContours(small, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        filled = cv2.drawContours(np.zeros_like(small), outlines, -1, 1, cv2.FILLED)
        if filled.sum() > HOLLOW_SHARE * max(1, small.sum()):
            odds[index] = HOLLOW_ODDS
    return odds / odds.sum()


def _composite(
    rng: Generator, pool: Pool, photos: Sequence[Image], size_px: int, cut: tuple[Plane, Plane]
) -> tuple[Plane, Plane]:
    reach = float(rng.choice([rng.uniform(0.12, 0.4), rng.uniform(0.4, 1.05)], p=[0.4, 0.6]))
    behind = background(rng, size_px, photos)
    behind = _with_distractors(rng, pool, behind, reach)
    shown, seen = _placed(rng, *cut, size_px, reach)
    if rng.random() < 0.5:
        behind = shadowed(rng, behind, seen)
    return compose(shown, seen, behind), seen


def _product(rng: Generator, photos: Sequence[Image], size_px: int) -> tuple[Plane, Plane]:
    """Stand a new thing alone before one colour or soft light, more often than not in its shadow.

    What it teaches is in such pictures only: that a shadow as dark as the thing is none of it, and
    that a print or a part in the ground's own colour is no hole.
    """
    thing = foreground(rng, photos, "solid")
    reach = float(rng.uniform(0.5, 1.0))
    shown, seen = _placed(rng, thing.colours, thing.alpha, size_px, reach)
    behind = np.clip(plain(rng, size_px, rng.random()), 0, 255).astype(np.float32)
    if rng.random() < 0.7:
        behind = shadowed(rng, behind, seen)
    return compose(shown, seen, behind), seen


def _developed(rng: Generator, image: Plane) -> Image:
    """Exposure, saturation, blur, noise, JPEG."""
    developed: Plane = image.astype(np.float32)
    if rng.random() < 0.8:
        grey = developed.mean(2, keepdims=True)
        developed = grey + (developed - grey) * (rng.uniform(0.5, 1.5) * (rng.random() > 0.04))
        level = float(developed.mean())
        developed = level + (developed - level) * rng.uniform(0.75, 1.3)
        developed = developed * rng.uniform(0.75, 1.25) * (1 + rng.normal(0, 0.05, 3))
    if rng.random() < 0.12:
        developed = cv2.GaussianBlur(developed, (0, 0), rng.uniform(0.4, 1.4))
    if rng.random() < 0.1:
        developed = developed + rng.normal(0, rng.uniform(2, 9), image.shape)
    out = np.clip(developed, 0, 255).astype(np.uint8)
    if rng.random() < 0.15:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.uniform(35, 90))]
        out = np.asarray(cv2.imdecode(cv2.imencode(".jpg", out, quality)[1], cv2.IMREAD_COLOR))
    return out


@dataclass(frozen=True, slots=True)
class Supply:
    """What samples are made of: photographs with masks, things, how often each, backgrounds."""

    store: Store
    pool: Pool
    odds: Plane
    photos: Sequence[Image]


def lite_sample(rng: Generator, supply: Supply, size_px: int) -> tuple[Plane, Plane]:
    """Return the picture (3, size/2, size/2) 0..1 and the mask (1, size, size) 0..1."""
    store, pool, kind = supply.store, supply.pool, rng.random()
    if kind < PHOTO_SHARE:
        image, mask = _from_photo(rng, store, size_px)
    elif kind < PHOTO_SHARE + PRODUCT_SHARE:
        image, mask = _product(rng, supply.photos, size_px)
    else:
        if kind < PHOTO_SHARE + PRODUCT_SHARE + CUT_SHARE:
            index = int(rng.integers(len(store.masks)))
            alpha = (np.clip(sharpened(store.masks[index]) * 1.3 - 0.3, 0, 1) * 255).astype("u1")
            cut = np.asarray(store.images[index]), alpha
        else:
            index = int(rng.choice(len(supply.odds), p=supply.odds))
            cut = np.asarray(pool.colours[index]), np.asarray(pool.alphas[index])
        image, mask = _composite(rng, pool, supply.photos, size_px, cut)
    seen_px = (size_px // DETAIL, size_px // DETAIL)
    image = cv2.resize(image, seen_px, interpolation=cv2.INTER_AREA)
    planes = _developed(rng, image).astype(np.float32).transpose(2, 0, 1) / 255
    return planes, mask[None].astype(np.float32)


def lite_batches(
    seed: int, folders: tuple[Path, Path], photos: Sequence[Image], count: int, size_px: int
) -> Iterator[tuple[Plane, Plane]]:
    """Yield batches of `count` samples without end, from the store and the pool in `folders`."""
    pool, rng = Pool.open(folders[1]), np.random.default_rng(seed)
    supply = Supply(Store.open(folders[0]), pool, hollow_odds(pool.alphas), photos)
    while True:
        samples = [lite_sample(rng, supply, size_px) for _ in range(count)]
        yield np.stack([s[0] for s in samples]), np.stack([s[1] for s in samples])
