"""Outlines of things: procedural silhouettes with anti-aliased, exact coverage.

Everything is drawn at twice the canvas and reduced by area, so that the alpha of an edge pixel is
the share of it that is covered.
"""

from collections.abc import Callable

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from training.photos import Plane

CANVAS_PX = 512
DRAWN_PX = 2 * CANVAS_PX
CENTRE = DRAWN_PX / 2
REACH = 0.38 * DRAWN_PX
"""Half the size of a silhouette on the drawn canvas."""
SHIFT = 4
"""Fixed-point bits of OpenCV's drawing, so that corners fall between pixels."""

Points = NDArray[np.float64]
Coverage = NDArray[np.uint8]


def empty() -> Coverage:
    """Return a canvas at the drawn size."""
    return np.zeros((DRAWN_PX, DRAWN_PX), np.uint8)


def reduced(coverage: Plane) -> Plane:
    """Reduce a drawn canvas to the size that is kept."""
    return cv2.resize(coverage, (CANVAS_PX, CANVAS_PX), interpolation=cv2.INTER_AREA)


def fixed(points: Points) -> Plane:
    """Turn points into OpenCV's fixed-point integers."""
    return np.round(points * 2**SHIFT).astype(np.int32)


def fill(coverage: Coverage, points: Points, value: int = 255) -> None:
    """Fill the polygon."""
    cv2.fillPoly(coverage, [fixed(points)], (value,), cv2.LINE_AA, SHIFT)


def stroke(coverage: Plane, points: Points, value: tuple[int, ...], thickness: int) -> None:
    """Draw the open line through `points`."""
    cv2.polylines(coverage, [fixed(points)], False, value, thickness, cv2.LINE_AA, SHIFT)  # noqa: FBT003 - OpenCV takes it by place


def smooth_loop(corners: Points, steps: int = 24) -> Points:
    """Return the closed Catmull-Rom curve through `corners`."""
    t = np.linspace(0, 1, steps, endpoint=False)[:, None]
    pieces = []
    for index in range(len(corners)):
        before, start = corners[index - 1], corners[index]
        end, after = corners[(index + 1) % len(corners)], corners[(index + 2) % len(corners)]
        bend = 2 * before - 5 * start + 4 * end - after
        twist = 3 * start - before - 3 * end + after
        pieces.append(start + 0.5 * ((end - before) * t + bend * t**2 + twist * t**3))
    return np.concatenate(pieces)


def blob(rng: Generator) -> Points:
    """Return a wavy closed outline."""
    turn = np.linspace(0, 2 * np.pi, 300, endpoint=False)
    radius = np.ones(300)
    swing = rng.uniform(0.05, 0.6)
    for wave in range(2, rng.integers(4, 12)):
        radius += rng.normal(0, swing / wave) * np.cos(wave * turn + rng.uniform(0, 6.28))
    radius = REACH * 0.85 * np.clip(radius, 0.25, 1.4)
    flat = rng.uniform(0.45, 1)
    return np.c_[CENTRE + radius * np.cos(turn), CENTRE + flat * radius * np.sin(turn)]


def _draw_blob(rng: Generator) -> Coverage:
    coverage = empty()
    fill(coverage, blob(rng))
    return coverage


def _draw_superellipse(rng: Generator) -> Coverage:
    coverage, turn = empty(), np.linspace(0, 2 * np.pi, 400)
    power, flat = rng.choice([0.2, 0.4, 0.8, 1.0, 1.3]), rng.uniform(0.35, 1)
    across = np.sign(np.cos(turn)) * np.abs(np.cos(turn)) ** power
    down = np.sign(np.sin(turn)) * np.abs(np.sin(turn)) ** power
    fill(coverage, np.c_[CENTRE + REACH * across, CENTRE + REACH * flat * down])
    return coverage


def _draw_bottle(rng: Generator) -> Coverage:
    """A bottle, jar or vase: a profile mirrored about its axis."""
    coverage = empty()
    widths = rng.uniform(0.25, 0.6, 7)
    neck = rng.integers(0, 4)
    widths[:neck] = rng.uniform(0.1, 0.25)
    down = np.linspace(-1, 1, 240)
    profile = np.interp(down, np.linspace(-1, 1, 7), widths)[:, None]
    across = REACH * cv2.GaussianBlur(profile, (1, 31), rng.uniform(1, 9)).ravel()
    left = np.c_[CENTRE - across, CENTRE + REACH * down]
    fill(coverage, np.r_[np.c_[CENTRE + across, CENTRE + REACH * down], left[::-1]])
    return coverage


def _draw_mug(rng: Generator) -> Coverage:
    """A mug or a bag: a body with a handle that has a hole."""
    coverage = empty()
    wide, high, flare = (
        REACH * rng.uniform(0.5, 0.75),
        REACH * rng.uniform(0.6, 0.95),
        rng.uniform(0.75, 1.15),
    )
    top, bottom = CENTRE - high, CENTRE + high
    body = [
        (CENTRE - wide * flare, top),
        (CENTRE + wide * flare, top),
        (CENTRE + wide, bottom),
        (CENTRE - wide, bottom),
    ]
    fill(coverage, np.array(body))
    thickness = int(rng.uniform(6, 50))
    if rng.random() < 0.5:
        axes, place, arc = (wide * 0.55, wide * 0.6), (CENTRE + wide, CENTRE), (-100, 100)
    else:
        axes, place, arc = (wide * 0.6, high * rng.uniform(0.3, 0.8)), (CENTRE, top), (180, 360)
    centre, size = (int(place[0]), int(place[1])), (int(axes[0]), int(axes[1]))
    cv2.ellipse(coverage, centre, size, 0, *arc, (255,), thickness, cv2.LINE_AA)
    return coverage


def _draw_garment(rng: Generator) -> Coverage:
    coverage = empty()
    half, length, sleeve = rng.uniform(0.4, 0.6), rng.uniform(0.5, 0.95), rng.uniform(0.15, 0.9)
    right = [
        (0.2, -0.85),
        (half, -0.75),
        (half + 0.35, sleeve - 0.75),
        (half + 0.12, sleeve - 0.6),
        (half * 0.95, -0.35),
        (half, length),
    ]
    both = np.array(right + [(-x, y) for x, y in reversed(right)]) + rng.normal(0, 0.02, (12, 2))
    fill(coverage, CENTRE + REACH * (smooth_loop(both, 16) if rng.random() < 0.5 else both))
    return coverage


def _draw_furniture(rng: Generator) -> Coverage:
    """A slab on thin legs, perhaps with a back."""
    coverage = empty()
    wide, level = REACH * rng.uniform(0.6, 1), CENTRE + REACH * rng.uniform(-0.5, 0.3)
    thick, leg = REACH * rng.uniform(0.06, 0.35), rng.uniform(3, 30)
    corners = (int(CENTRE - wide), int(level - thick)), (int(CENTRE + wide), int(level + thick))
    cv2.rectangle(coverage, *corners, (255,), -1)
    spread = rng.uniform(-0.15, 0.25)
    for place in rng.choice([-0.95, -0.6, 0, 0.6, 0.95], rng.integers(2, 5), replace=False):
        top, foot = CENTRE + place * wide, CENTRE + place * wide * (1 + spread)
        down = CENTRE + REACH
        fill(
            coverage,
            np.array(
                [
                    (top - leg, level),
                    (top + leg, level),
                    (foot + leg * 0.6, down),
                    (foot - leg * 0.6, down),
                ]
            ),
        )
    if rng.random() < 0.5:
        far = int(CENTRE - wide + max(6.0, wide * rng.uniform(0.05, 2)))
        cv2.rectangle(
            coverage, (int(CENTRE - wide), int(CENTRE - REACH)), (far, int(level)), (255,), -1
        )
    return coverage


def _draw_ring(rng: Generator) -> Coverage:
    """A ring, a frame or a pair of spectacles."""
    coverage, thickness = empty(), int(rng.uniform(6, 90))
    middle = (int(CENTRE), int(CENTRE))
    if rng.random() < 0.5:
        size = (int(REACH * 0.85), int(REACH * rng.uniform(0.4, 0.85)))
        cv2.ellipse(coverage, middle, size, 0, 0, 360, (255,), thickness, cv2.LINE_AA)
        return coverage
    for side in (-1, 1):
        lens = (int(CENTRE + side * REACH * 0.5), int(CENTRE))
        size = (int(REACH * 0.4), int(REACH * 0.33))
        cv2.ellipse(coverage, lens, size, 0, 0, 360, (255,), thickness // 3 + 2, cv2.LINE_AA)
    bridge = np.array([(CENTRE - REACH * 0.15, CENTRE), (CENTRE + REACH * 0.15, CENTRE)])
    stroke(coverage, bridge, (255,), thickness // 3 + 2)
    return coverage


def _draw_star(rng: Generator) -> Coverage:
    coverage, count = empty(), rng.integers(5, 14)
    turn, radius = np.sort(rng.uniform(0, 6.28, count)), REACH * rng.uniform(0.35, 1, count)
    corners = np.c_[CENTRE + radius * np.cos(turn), CENTRE + radius * np.sin(turn)]
    fill(coverage, smooth_loop(corners, 12) if rng.random() < 0.5 else corners)
    return coverage


def _draw_leaves(rng: Generator) -> Coverage:
    """Limbs or leaves around a body, with gaps between."""
    coverage = empty()
    for _ in range(rng.integers(5, 40)):
        angle, length = rng.uniform(0, 6.28), REACH * rng.uniform(0.35, 1)
        width = REACH * rng.uniform(0.015, 0.15)
        along = np.array((np.cos(angle), np.sin(angle)))
        across, t = np.array((-along[1], along[0])), np.linspace(0, 1, 20)[:, None]
        root = CENTRE + rng.normal(0, 0.08 * REACH, 2)
        spine = root + along * length * t + across * np.sin(3 * t) * width * rng.normal()
        half = width * np.sin(np.pi * np.clip(0.9 * t + 0.08, 0, 1))
        fill(coverage, np.r_[spine + across * half, (spine - across * half)[::-1]])
    return coverage


SILHOUETTES: tuple[Callable[[Generator], Coverage], ...] = (
    _draw_blob,
    _draw_superellipse,
    _draw_bottle,
    _draw_mug,
    _draw_garment,
    _draw_furniture,
    _draw_ring,
    _draw_star,
    _draw_leaves,
)


def silhouette(rng: Generator) -> Coverage:
    """Return one of the silhouettes at the drawn size, turned a little."""
    coverage = SILHOUETTES[rng.integers(len(SILHOUETTES))](rng)
    if rng.random() < 0.5:
        turn = cv2.getRotationMatrix2D((CENTRE, CENTRE), rng.normal(0, 20), 1)
        coverage = cv2.warpAffine(coverage, turn, (DRAWN_PX, DRAWN_PX)).astype(np.uint8, copy=False)
    return coverage
