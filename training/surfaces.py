"""What things and backgrounds are made of: colours, textures, light."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.random import Generator

from training.photos import Image, Plane


def colour(rng: Generator) -> Plane:
    """Return one RGB colour; greys, darks and near-whites are as common as they are in shops."""
    kind = rng.random()
    if kind < 0.2:
        return np.full(3, rng.uniform(0, 255)) + rng.normal(0, 4, 3)
    if kind < 0.3:
        return np.full(3, rng.uniform(225, 255)) + rng.normal(0, 3, 3)
    hue, grey = rng.uniform(0, 255, 3), rng.uniform(20, 235)
    return hue + (grey - hue) * rng.uniform(0, 0.7)


def noise(rng: Generator, size_px: int, cells: Sequence[int]) -> Plane:
    """Return smooth noise of about unit size: one octave per number of cells."""
    total: Plane = np.zeros((size_px, size_px), np.float32)
    for count in cells:
        few = rng.normal(0, 1, (count, count)).astype(np.float32)
        octave: Plane = cv2.resize(few, (size_px, size_px), interpolation=cv2.INTER_CUBIC)
        total += octave * rng.uniform(0.1, 1)
    return total


def photo_patch(rng: Generator, photos: Sequence[Image], size_px: int) -> Plane:
    """Return a square piece of a photograph, magnified at most three times."""
    photo = photos[int(rng.integers(len(photos)))]
    height_px, width_px = photo.shape[:2]
    side = int(rng.integers(min(height_px, width_px, size_px) // 2, min(height_px, width_px) + 1))
    top, left = rng.integers(0, height_px - side + 1), rng.integers(0, width_px - side + 1)
    patch = cv2.resize(photo[top : top + side, left : left + side], (size_px, size_px))
    patch = patch[:, ::-1] if rng.random() < 0.5 else patch
    return np.ascontiguousarray(patch).astype(np.float32)


def _ramp(rng: Generator, size_px: int) -> tuple[Plane, float]:
    """Return 0..1 across the square in a random direction, and the direction."""
    down, across = np.mgrid[0:size_px, 0:size_px].astype(np.float32) / size_px
    angle = float(rng.uniform(0, 6.28))
    ramp = across * np.cos(angle) + down * np.sin(angle)
    return (ramp - ramp.min()) / (np.ptp(ramp) + 1e-6), angle


def texture(rng: Generator, size_px: int, photos: Sequence[Image]) -> Plane:
    """Return a surface: a photograph's, a gradient, stripes or checks, mostly with some grain."""
    kind = rng.random()
    if kind < 0.5 and photos:
        return photo_patch(rng, photos, size_px)
    first = colour(rng)
    second = first * rng.uniform(0.5, 1.1) if kind < 0.75 else colour(rng)
    ramp, _ = _ramp(rng, size_px)
    if kind > 0.85:
        ramp = (np.sin(2 * np.pi * rng.uniform(3, 40) * ramp) > rng.uniform(-0.6, 0.6)).astype("f4")
        if rng.random() < 0.4:
            other, _ = _ramp(rng, size_px)
            ramp = np.abs(ramp - (np.sin(2 * np.pi * rng.uniform(3, 40) * other) > 0))
    surface = first * (1 - ramp[..., None]) + second * ramp[..., None]
    if rng.random() < 0.7:
        cells = [int(count) for count in rng.choice([2, 5, 20, 80, 200], 3)]
        surface = surface + noise(rng, size_px, cells)[..., None] * rng.uniform(2, 25)
    return np.clip(surface, 0, 255).astype(np.float32)


PLAIN_SHARE = 0.34
"""Of the backgrounds."""


def plain(rng: Generator, size_px: int, kind: float) -> Plane:
    """Return a ground for wares: near-white, one colour, or studio light, as `kind` (0..1) says."""
    if kind * PLAIN_SHARE < 0.12:
        return np.full((size_px, size_px, 3), rng.uniform(215, 255))
    if kind * PLAIN_SHARE < 0.22:
        return np.ones((size_px, size_px, 3)) * colour(rng)
    place = np.mgrid[0:size_px, 0:size_px].astype(np.float32) / size_px - 0.5
    spot = rng.normal(0, 0.15, 2)[:, None, None]
    fall = 1 - rng.uniform(0.2, 1.4) * np.sum((place - spot) ** 2, axis=0)
    light = colour(rng) if rng.random() < 0.5 else np.full(3, rng.uniform(120, 255))
    return np.asarray(fall[..., None] * light)


def background(rng: Generator, size_px: int, photos: Sequence[Image]) -> Plane:
    """Return what stands behind: plain, studio light, wall and table, texture or photograph."""
    kind = rng.random()
    if kind < PLAIN_SHARE:
        behind = plain(rng, size_px, kind / PLAIN_SHARE)
    elif kind < 0.44:
        behind, level = texture(rng, size_px, photos).copy(), int(size_px * rng.uniform(0.3, 0.85))
        behind[level:] = texture(rng, size_px, photos)[level:]
    elif kind < 0.54 or not photos:
        behind = texture(rng, size_px, photos)
    else:
        behind = photo_patch(rng, photos, size_px)
    behind = np.clip(behind, 0, 255).astype(np.float32)
    if rng.random() < 0.45:  # out of focus
        behind = cv2.GaussianBlur(behind, (0, 0), rng.uniform(0.5, 8))
    return behind


def lit(rng: Generator, surface: Plane, coverage: Plane) -> Plane:
    """Shade `surface` as if the silhouette in `coverage` (0..1) bulged towards us."""
    spread = rng.uniform(6, 45)
    height = cv2.GaussianBlur(coverage.astype(np.float32), (0, 0), spread) * spread * 2
    slope_x = cv2.Sobel(height, cv2.CV_32F, 1, 0, ksize=3) / 8
    slope_y = cv2.Sobel(height, cv2.CV_32F, 0, 1, ksize=3) / 8
    normal = np.dstack([-slope_x, -slope_y, np.ones_like(slope_x)])
    normal /= np.linalg.norm(normal, axis=2, keepdims=True)
    light = np.array((rng.normal(0, 0.5), -abs(rng.normal(0.4, 0.4)), 1.0))
    light /= np.linalg.norm(light)
    ambient = rng.uniform(0.3, 0.9)
    shaded = surface * (ambient + (1 - ambient) * np.clip(normal @ light, 0, 1))[..., None]
    if rng.random() < 0.4:
        half = light + np.array((0.0, 0.0, 1.0))
        half /= np.linalg.norm(half)
        gloss = np.clip(normal @ half, 0, 1) ** rng.uniform(10, 120)
        shaded = shaded + 255 * rng.uniform(0.1, 0.9) * gloss[..., None]
    return np.clip(shaded * rng.uniform(0.9, 1.2), 0, 255).astype(np.float32)


def shadowed(rng: Generator, behind: Plane, coverage: Plane) -> Plane:
    """Darken the background by the thing's cast shadow, which is not part of the cutout."""
    size_px = behind.shape[0]
    slant, drop = rng.normal(0, 0.15), abs(rng.normal(0.02, 0.03)) * size_px
    shift = rng.normal(0, 0.05) * size_px - slant * size_px / 2
    shear = np.array([[1, slant, shift], [0, rng.uniform(0.85, 1), drop]])
    shade = cv2.warpAffine(coverage.astype(np.float32), shear, (size_px, size_px))
    shade = cv2.GaussianBlur(shade, (0, 0), rng.uniform(1.5, 16))
    return behind * (1 - rng.uniform(0.1, 0.65) * shade[..., None])
