"""Fine things: hair, fur, wire, lace. Coverage and the colour of each strand, both exact.

A strand is drawn once into the coverage and, wider, into the colour, so that the colour is right
wherever the coverage is not zero.
"""

import cv2
import numpy as np
from numpy.random import Generator

from training.photos import Plane
from training.shapes import CENTRE, DRAWN_PX, REACH, Coverage, Points, blob, empty, fill, stroke

LAYERS = 6


def strand(root: Points, tip: Points, bend: Points, steps: int = 14) -> Points:
    """Return a curve from root to tip that is bent in the middle."""
    t = np.linspace(0, 1, steps)[:, None]
    middle = (root + tip) / 2 + bend
    return (1 - t) ** 2 * root + 2 * t * (1 - t) * middle + t**2 * tip


def _draw_strands(
    rng: Generator, body: Coverage, colours: Plane, strands: list[Points], thick: float
) -> Coverage:
    """Draw `strands` over `body`, each of its own shade, thinner towards the tip.

    They are drawn in a few layers; where layers cross, light is stopped by both.
    """
    base = colours.reshape(-1, 3)[rng.integers(0, DRAWN_PX * DRAWN_PX, 4)].mean(0)
    faintest = rng.uniform(0.15, 0.8)
    clear = 1 - body.astype(np.float32) / 255
    for layer in range(LAYERS):
        coverage = empty()
        for points in strands[layer::LAYERS]:
            shade = np.clip(base * rng.uniform(0.6, 1.35) + rng.normal(0, 4, 3), 0, 255)
            width = max(1, round(rng.uniform(0.5, 1) * thick))
            stroke(colours, points, tuple(int(value) for value in shade), width + 6)
            half, opaque = len(points) // 2, (int(255 * rng.uniform(faintest, 1)),)
            stroke(coverage, points[half:], opaque, max(1, round(width * 0.6)))
            stroke(coverage, points[: half + 1], opaque, width)
        clear *= 1 - coverage.astype(np.float32) / 255
    return ((1 - clear) * 255).astype(np.uint8)


def _fineness(rng: Generator, thick_max: float) -> tuple[float, int]:
    """Return how thick strands are, and how many more of them there are for being thin."""
    if rng.random() < 0.5:
        return 1.0, int(rng.integers(2, 7))
    return float(rng.uniform(1, thick_max)), 1


def hair(rng: Generator, colours: Plane) -> Coverage:
    """A head: a solid body from which locks and single hairs fly."""
    body, outline = empty(), CENTRE + (blob(rng) - CENTRE) * rng.uniform(0.5, 0.8)
    fill(body, outline)
    thick, times = _fineness(rng, 4)
    flow, strands = rng.normal(0, 1, 2) * REACH * 0.3, []
    for _ in range(rng.integers(3, 14)):  # locks
        place = rng.integers(len(outline))
        outward, spread = (outline[place] - CENTRE) * rng.uniform(0.2, 0.9), rng.uniform(10, 45)
        for _ in range(times * int(rng.integers(6, 40))):
            root = outline[place] + rng.normal(0, spread, 2) - 0.1 * outward
            tip = root + outward * rng.uniform(0.5, 1.2) + flow + rng.normal(0, 30, 2)
            strands.append(strand(root, tip, rng.normal(0, 30, 2)))
    for _ in range(times * int(rng.integers(20, 160))):  # single hairs
        root = outline[rng.integers(len(outline))]
        tip = root + (root - CENTRE) * rng.uniform(0.05, 0.6) + flow + rng.normal(0, 40, 2)
        strands.append(strand(root, tip, rng.normal(0, 50, 2)))
    return _draw_strands(rng, body, colours, strands, thick)


def fur(rng: Generator, colours: Plane) -> Coverage:
    """A body all round with short hairs that lean one way."""
    body, outline = empty(), CENTRE + (blob(rng) - CENTRE) * rng.uniform(0.6, 0.95)
    fill(body, outline)
    length, lean = rng.uniform(8, 80), rng.normal(0, 0.6, 2)
    thick, times = _fineness(rng, 5)
    strands = []
    for _ in range(times * int(rng.uniform(400, 1200))):
        root = outline[rng.integers(len(outline))] + rng.normal(0, 6, 2)
        outward = (root - CENTRE) / (np.linalg.norm(root - CENTRE) + 1e-6)
        tip = root + (outward + lean + rng.normal(0, 0.35, 2)) * length * rng.uniform(0.3, 1)
        strands.append(strand(root - outward * 6, tip, rng.normal(0, length / 8, 2), 8))
    return _draw_strands(rng, body, colours, strands, thick)


def wire(rng: Generator, colours: Plane) -> Coverage:
    """Bent wire, spokes or a cage."""
    del colours
    coverage, t = empty(), np.linspace(0, 2 * np.pi, 500)
    for _ in range(rng.integers(1, 6)):
        thickness, waves = int(rng.uniform(2, 14)), rng.integers(1, 6, 2)
        swing = REACH * rng.uniform(0.3, 1, 2)
        across = CENTRE + swing[0] * np.sin(waves[0] * t + rng.uniform(0, 6.28))
        down = CENTRE + swing[1] * np.sin(waves[1] * t + rng.uniform(0, 6.28))
        stroke(coverage, np.c_[across, down], (255,), thickness)
    if rng.random() < 0.5:
        thickness = int(rng.uniform(2, 10))
        for angle in np.linspace(0, 2 * np.pi, rng.integers(5, 40), endpoint=False):
            tip = CENTRE + REACH * 0.8 * np.array((np.cos(angle), np.sin(angle)))
            stroke(coverage, np.array([(CENTRE, CENTRE), tip]), (255,), thickness)
    return coverage


def wicker(rng: Generator, colours: Plane) -> Coverage:
    """A ball or basket of bent canes: almost solid, and full of small holes."""
    coverage, t = empty(), np.linspace(0, 2 * np.pi, 200)
    base = colours.reshape(-1, 3)[rng.integers(0, DRAWN_PX * DRAWN_PX, 4)].mean(0)
    thick, radius = rng.uniform(8, 50), REACH * rng.uniform(0.6, 0.95)
    for _ in range(int(rng.uniform(0.5, 1.6) * radius * 3 / thick)):
        turn, flat = rng.uniform(0, np.pi), rng.uniform(0, 1) ** 0.7
        wave = 1 + rng.normal(0, 0.03) * np.sin(rng.integers(1, 5) * t)
        across, down = radius * np.cos(t) * wave, radius * flat * np.sin(t) * wave
        cane = np.c_[
            CENTRE + across * np.cos(turn) - down * np.sin(turn),
            CENTRE + across * np.sin(turn) + down * np.cos(turn),
        ]
        width = max(3, int(thick * rng.uniform(0.5, 1)))
        for share, shade in ((1.0, 0.45), (0.75, 0.8), (0.4, 1.1)):  # round: dark at its sides
            paint = np.clip(base * shade * rng.uniform(0.85, 1.1), 0, 255)
            stroke(colours, cane, tuple(int(v) for v in paint), max(1, int(width * share)))
        stroke(coverage, cane, (255,), width)
    return coverage


def lace(rng: Generator, colours: Plane) -> Coverage:
    """A cloth full of holes: threads on a lattice, cut to a blob, perhaps with solid flowers."""
    del colours
    outline = empty()
    fill(outline, blob(rng))
    down, across = np.mgrid[0:DRAWN_PX, 0:DRAWN_PX].astype(np.float32)
    wave = 14 * np.sin(down / rng.uniform(30, 120)) + 14 * np.sin(across / rng.uniform(30, 120))
    pitch, thread = rng.uniform(14, 60), rng.uniform(2.5, 8)
    coverage = np.zeros((DRAWN_PX, DRAWN_PX), np.float32)
    start = rng.uniform(0, np.pi)
    for turn in (0.0, *rng.choice([np.pi / 3, np.pi / 2, 2 * np.pi / 3], 1 + (rng.random() < 0.4))):
        along = across * np.cos(start + turn) + down * np.sin(start + turn) + wave
        off = np.abs((along % pitch) - pitch / 2)
        coverage = np.maximum(coverage, np.clip(thread / 2 - off + 0.5, 0, 1))
    if rng.random() < 0.5:
        flowers = np.sin(across / rng.uniform(20, 60)) * np.sin(down / rng.uniform(20, 60))
        coverage = np.maximum(coverage, np.clip((flowers - 0.55) * 12, 0, 1))
    hem = cv2.dilate(outline, np.ones((3, 3), np.uint8)) - cv2.erode(
        outline, np.ones((13, 13), np.uint8)
    )
    cut = np.maximum(coverage * outline, hem if rng.random() < 0.7 else 0)
    return (cut * rng.uniform(0.8, 1)).astype(np.uint8)
