"""Things that photographs are full of: heads of loose hair, twigs in leaf, plush toys.

Each is of several colours, as real things are, and its rim is fine in a way of its own: veils of
hanging hair, gaps between twigs, a fuzz that fades out.
"""

import numpy as np
from numpy.random import Generator

from training.fibres import LAYERS, strand
from training.photos import Plane
from training.shapes import CENTRE, DRAWN_PX, REACH, Coverage, Points, empty, fill, stroke

BRANCHES_MAX = 260


def _paint(rng: Generator, colours: Plane, spread: float = 4) -> Plane:
    """Return a colour of the surface that is being drawn on, or quite another one."""
    if rng.random() < 0.3:
        return rng.uniform(0, 255, 3)
    place = rng.integers(0, DRAWN_PX, 2)
    return np.asarray(colours[place[0], place[1]] + rng.normal(0, spread, 3))


def _ink(paint: Plane) -> tuple[int, ...]:
    return tuple(int(value) for value in np.clip(paint, 0, 255))


def _oval(middle: Points, wide: float, high: float, lean: float = 0.0) -> Points:
    turn = np.linspace(0, 2 * np.pi, 120, endpoint=False)
    across, down = wide * np.cos(turn), high * np.sin(turn)
    return np.asarray(
        middle
        + np.c_[
            across * np.cos(lean) - down * np.sin(lean), across * np.sin(lean) + down * np.cos(lean)
        ]
    )


def _part(coverage: Coverage, colours: Plane, outline: Points, paint: Plane | None) -> None:
    """Add a solid part, of its own colour if one is given, a little wider than it covers."""
    fill(coverage, outline)
    if paint is not None:
        middle = outline.mean(0)
        wider = middle + (outline - middle) * 1.08
        shade = np.zeros(colours.shape[:2], np.uint8)
        fill(shade, wider)
        keep = 0.25 * (colours[shade > 0].astype(np.float32) - 128)  # some of its texture
        colours[shade > 0] = np.clip(paint + keep, 0, 255)


def _draped(rng: Generator, coverage: Coverage, colours: Plane, strands: list[Points]) -> Coverage:
    """Draw strands that fade towards the tip, in layers that stop light together."""
    base, clear = _paint(rng, colours), 1 - coverage.astype(np.float32) / 255
    thick = 1.0 if rng.random() < 0.6 else rng.uniform(1, 4)
    faintest = rng.uniform(0.1, 0.8)
    for layer in range(LAYERS):
        drawn = empty()
        for points in strands[layer::LAYERS]:
            shade = base * rng.uniform(0.5, 1.5) + rng.normal(0, 5, 3)
            width = max(1, round(rng.uniform(0.4, 1) * thick))
            stroke(colours, points, _ink(shade), width + 4)
            third, opaque = len(points) // 3, rng.uniform(faintest, 1)
            for part, share in ((points[2 * third :], 0.35), (points[third : 2 * third + 1], 0.7)):
                stroke(drawn, part, (int(255 * opaque * share),), max(1, round(width * 0.7)))
            stroke(drawn, points[: third + 1], (int(255 * opaque),), width)
        clear *= 1 - drawn.astype(np.float32) / 255
    return np.asarray(((1 - clear) * 255).astype(np.uint8))


def loose_hair(rng: Generator, colours: Plane) -> Coverage:
    """A head, perhaps with shoulders, from which hair hangs, stands or flies in veils."""
    coverage = empty()
    high = REACH * rng.uniform(0.4, 0.75)
    wide, middle = high * rng.uniform(0.7, 1), CENTRE + rng.normal(0, 30, 2)
    face = _paint(rng, colours) if rng.random() < 0.7 else None
    _part(coverage, colours, _oval(middle, wide, high), face)
    if rng.random() < 0.6:
        below = middle + np.array((0, high * rng.uniform(1.5, 1.9)))
        cloth = _paint(rng, colours) if rng.random() < 0.7 else None
        _part(coverage, colours, _oval(below, wide * rng.uniform(1.2, 2.2), high * 0.8), cloth)
    falls, length = rng.uniform(-0.8, 1.8), high * rng.uniform(0.6, 2.4)
    flow, strands = rng.normal(0, 0.25, 2), []
    for _ in range(rng.integers(15, 90)):  # locks, each of its own direction
        angle = rng.uniform(np.pi * 0.85, 2.15 * np.pi)
        outward = np.array((np.cos(angle), np.sin(angle)))
        root = middle + 0.9 * outward * (wide, high)
        toward = outward * rng.uniform(0.2, 1) + flow + rng.normal(0, 0.12, 2)
        toward[1] += falls
        spread, loose = rng.uniform(4, 40), rng.uniform(8, 60)
        bend = outward * length * rng.uniform(0, 0.35)
        for _ in range(rng.integers(10, 60)):
            start = root + rng.normal(0, spread, 2)
            end = start + toward * length * rng.uniform(0.4, 1.1) + rng.normal(0, loose, 2)
            strands.append(strand(start, end, bend + rng.normal(0, loose / 3, 2)))
    return _draped(rng, coverage, colours, strands)


def twigs(rng: Generator, colours: Plane) -> Coverage:
    """A plant: stems that fork and fork again, with leaves or without, perhaps in a pot."""
    coverage = empty()
    foot = np.array((CENTRE + rng.normal(0, 60), CENTRE + REACH * rng.uniform(0.5, 1)))
    if rng.random() < 0.5:
        wide = rng.uniform(60, 200)
        pot = [(-0.7, REACH), (0.7, REACH), (1, 0), (-1, 0)]
        corners = np.array([(foot[0] + x * wide, foot[1] + y * 0.5) for x, y in pot])
        _part(coverage, colours, corners, _paint(rng, colours))
    bark, green = _paint(rng, colours), _paint(rng, colours)
    fork, straight = rng.uniform(0.2, 0.6), rng.uniform(0.05, 0.3)
    leafy, leaf_px = rng.uniform(0, 1) ** 0.7, rng.uniform(6, 34)
    shrink, first_px = rng.uniform(0.66, 0.85), rng.uniform(5, 30)
    length = REACH * rng.uniform(0.45, 0.8)
    heads = [
        (foot, -np.pi / 2 + rng.normal(0, 0.35), length, first_px)
        for _ in range(rng.integers(1, 6))
    ]
    for _ in range(BRANCHES_MAX):
        if not heads:
            break
        root, angle, long_px, thick = heads.pop(0)
        tip = root + long_px * np.array((np.cos(angle), np.sin(angle)))
        line = strand(root, tip, rng.normal(0, straight * long_px / 2, 2))
        stroke(colours, line, _ink(bark * rng.uniform(0.7, 1.3)), round(thick) + 4)
        stroke(coverage, line, (255,), max(1, round(thick)))
        if long_px > leaf_px * 1.2:
            for _ in range(rng.integers(2, 4)):
                turned = angle + rng.normal(0, fork) + rng.choice([-fork, fork])
                begins = line[rng.integers(len(line) // 2, len(line))]
                heads.append(
                    (begins, turned, long_px * shrink * rng.uniform(0.7, 1.2), thick * 0.6)
                )
        for _ in range(rng.integers(0, 4) if rng.random() < leafy else 0):
            place = line[rng.integers(len(line) // 2, len(line))] + rng.normal(0, leaf_px / 2, 2)
            size = leaf_px * rng.uniform(0.4, 1.2)
            leaf = _oval(place, size, size * rng.uniform(0.25, 0.8), rng.uniform(0, np.pi))
            _part(coverage, colours, leaf, green * rng.uniform(0.6, 1.4) + rng.normal(0, 6, 3))
    return coverage


def plush(rng: Generator, colours: Plane) -> Coverage:
    """A stuffed toy: rounded parts of several colours, all round a fuzz that fades out."""
    coverage, parts = empty(), []
    body = REACH * rng.uniform(0.45, 0.85)
    for _ in range(rng.integers(2, 7)):
        middle = CENTRE + rng.normal(0, body * 0.5, 2)
        parts.append(
            _oval(middle, body * rng.uniform(0.3, 1), body * rng.uniform(0.3, 1), rng.uniform(0, 3))
        )
    for outline in parts:
        _part(coverage, colours, outline, _paint(rng, colours) if rng.random() < 0.6 else None)
    faintest, clear = rng.uniform(0.05, 0.5), 1 - coverage.astype(np.float32) / 255
    for outline in parts:
        length, lean = rng.uniform(2, 7) ** 2, rng.normal(0, 0.7, 2)
        middle, drawn = outline.mean(0), [empty() for _ in range(LAYERS)]
        for place in rng.integers(0, len(outline), int(rng.uniform(600, 2400))):
            root = outline[place] + rng.normal(0, 5, 2)
            outward = (root - middle) / (np.linalg.norm(root - middle) + 1e-6)
            tip = root + (outward + lean + rng.normal(0, 0.5, 2)) * length * rng.uniform(0.2, 1)
            hair = strand(root - outward * 5, tip, rng.normal(0, length / 6, 2), 6)
            seat = np.clip(root - outward * 12, 0, DRAWN_PX - 1).astype(int)
            shade = colours[seat[1], seat[0]] * rng.uniform(0.75, 1.3)
            stroke(colours, hair, _ink(shade), 5)
            level = (int(255 * rng.uniform(faintest, 1)),)
            stroke(drawn[place % LAYERS], hair, level, 1 + int(rng.random() < 0.3))
        for each in drawn:
            clear *= 1 - each.astype(np.float32) / 255
    return np.asarray(((1 - clear) * 255).astype(np.uint8))
