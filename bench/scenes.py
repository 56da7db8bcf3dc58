"""Generated scenes whose alpha, foreground and background are known exactly.

Each is drawn at four times its size and reduced by area, so that alpha is the true coverage of a
pixel. Everything follows from the seed. Colours are chosen against each other: a light subject on
dark, a dark one on white, one on saturated green, one among clutter of its own hues.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Plane = NDArray[Any]
Rng = np.random.Generator

SIZE_PX = 512
FINE = 4
"""Scenes are drawn this many times larger."""
NOISE_SIGMA = 1.5
BACKDROPS = ("white", "dark", "green", "clutter")
SUBJECT_COLOURS = {
    "white": (60, 40, 30),
    "dark": (225, 190, 150),
    "green": (190, 150, 110),
    "clutter": (120, 80, 60),
}
BACKDROP_COLOURS = {
    "white": (246, 245, 242),
    "dark": (28, 26, 34),
    "green": (40, 190, 70),
    "clutter": (128, 128, 128),
}


@dataclass(frozen=True, slots=True)
class Scene:
    """A picture and the truth about it: alpha 0..1, foreground and image 0..255."""

    name: str
    image: NDArray[np.uint8]
    alpha: Plane
    foreground: Plane


def scenes(seeds: tuple[int, ...] = (1,)) -> Iterator[Scene]:
    """Yield every kind of edge before every backdrop, once per seed."""
    for seed in seeds:
        for kind in KINDS:
            for backdrop in BACKDROPS:
                yield scene(kind, backdrop, seed)


def scene(kind: str, backdrop: str, seed: int) -> Scene:
    rng = np.random.default_rng(
        [seed, list(KINDS).index(kind), BACKDROPS.index(backdrop)],
    )
    alpha, shadow = KINDS[kind](rng)
    foreground = _grained(rng, _surface(rng, SUBJECT_COLOURS[backdrop]))
    behind = _grained(rng, _backdrop(rng, backdrop) * (1 - shadow[..., None]))
    mixed = alpha[..., None] * foreground + (1 - alpha[..., None]) * behind
    image = np.clip(np.rint(mixed), 0, 255).astype(np.uint8)
    return Scene(f"{kind}-{backdrop}-{seed}", image, alpha, foreground)


def _grained(rng: Rng, layer: Plane) -> Plane:
    """Add grain. It belongs to its layer: an opaque pixel of the truth is the picture's own."""
    return np.asarray(np.clip(layer + rng.normal(0, NOISE_SIGMA, layer.shape), 0, 255))


def _noise(rng: Rng, cell_px: int) -> Plane:
    """Return smooth noise, about -1..1, whose hills are `cell_px` wide."""
    cells = SIZE_PX // cell_px + 2
    coarse = rng.normal(0, 0.5, (cells, cells)).astype(np.float32)
    return np.asarray(cv2.resize(coarse, (SIZE_PX, SIZE_PX), interpolation=cv2.INTER_CUBIC))


def _surface(rng: Rng, colour: tuple[int, int, int]) -> Plane:
    """Return the subject's own colours: shaded from one side, with a grain and a self-shadow."""
    light = (
        np.linspace(1.12, 0.62, SIZE_PX)[None, :] + 0.10 * _noise(rng, 64) + 0.04 * _noise(rng, 8)
    )
    tint = np.dstack([_noise(rng, 96) for _ in range(3)]) * 8
    return np.asarray(np.clip(light[..., None] * np.array(colour) + tint, 0, 255))


def _backdrop(rng: Rng, backdrop: str) -> Plane:
    colour = np.array(BACKDROP_COLOURS[backdrop], np.float64)
    if backdrop != "clutter":
        return np.asarray(np.clip(colour + 6 * _noise(rng, 128)[..., None], 0, 255))
    patches = np.dstack([_noise(rng, 40) for _ in range(3)]) * 45
    grain = _noise(rng, 10)[..., None] * 25
    return np.asarray(np.clip(colour + patches + grain, 0, 255))


def _canvas() -> NDArray[np.uint8]:
    return np.zeros((SIZE_PX * FINE, SIZE_PX * FINE), np.uint8)


def _reduced(canvas: NDArray[np.uint8]) -> Plane:
    small = cv2.resize(canvas, (SIZE_PX, SIZE_PX), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.float64) / 255


def _at(x: float, y: float) -> tuple[int, int]:
    return round(x * FINE), round(y * FINE)


def _strand(canvas: NDArray[np.uint8], points: Plane, width_px: float) -> None:
    path = np.rint(points * FINE).astype(np.int32).reshape(-1, 1, 2)
    cv2.polylines(
        canvas, [path], isClosed=False, color=255, thickness=max(1, round(width_px * FINE))
    )


def _hair(rng: Rng) -> tuple[Plane, Plane]:
    """A head with some hundred loose strands, half a pixel to two pixels wide."""
    canvas = _canvas()
    cv2.ellipse(canvas, _at(256, 300), _at(105, 140), 0, 0, 360, 255, -1)
    cv2.rectangle(canvas, _at(170, 400), _at(342, 520), 255, -1)
    for angle in rng.uniform(np.pi * 0.95, np.pi * 2.05, 260):
        start = np.array([256 + 95 * np.cos(angle), 300 + 130 * np.sin(angle)])
        length, bend = rng.uniform(25, 95), rng.normal(0, 0.9)
        along = np.linspace(0, 1, 24)
        turn = angle + bend * along
        steps = np.stack([np.cos(turn), np.sin(turn)], 1) * length / 24
        _strand(canvas, start + np.cumsum(steps, 0), rng.choice([0.5, 0.75, 1.0, 2.0]))
    return _reduced(canvas), np.zeros((SIZE_PX, SIZE_PX))


def _lace(rng: Rng) -> tuple[Plane, Plane]:
    """A cloth of holes with a scalloped hem: holes must stay open, threads must stay."""
    canvas = _canvas()
    cv2.rectangle(canvas, _at(120, 90), _at(392, 250), 255, -1)
    pitch_px = float(rng.uniform(15, 20))
    for y in np.arange(250, 420, pitch_px):
        for x in np.arange(120, 392 + pitch_px, pitch_px):
            cv2.circle(canvas, _at(x, y), round(pitch_px * 0.55 * FINE), 255, round(1.8 * FINE))
    for x in np.arange(120, 400, pitch_px * 2):
        cv2.circle(canvas, _at(x, 425), round(pitch_px * FINE), 255, round(2.5 * FINE))
    return _reduced(canvas), np.zeros((SIZE_PX, SIZE_PX))


def _wire(rng: Rng) -> tuple[Plane, Plane]:
    """A wheel: a tyre, a hub and spokes of about a pixel and a half."""
    canvas = _canvas()
    centre = np.array([256.0, 256.0])
    cv2.circle(canvas, _at(*centre), 175 * FINE, 255, 16 * FINE)
    cv2.circle(canvas, _at(*centre), 24 * FINE, 255, -1)
    for angle in np.arange(0, 2 * np.pi, np.pi / 9) + rng.uniform(0, 0.3):
        end = centre + 175 * np.array([np.cos(angle), np.sin(angle)])
        _strand(canvas, np.stack([centre, end]), 1.5)
    loop = np.linspace(0, 2 * np.pi, 60)
    _strand(canvas, np.stack([256 + 40 * np.cos(loop), 60 + 45 * np.sin(loop)], 1), 2.0)
    return _reduced(canvas), np.zeros((SIZE_PX, SIZE_PX))


def _glass(rng: Rng) -> tuple[Plane, Plane]:
    """A tumbler: an opaque foot, walls that let some background through, a thin bright rim."""
    walls, solid = _canvas(), _canvas()
    left, right = 165 + float(rng.uniform(-10, 10)), 347.0
    outline = np.array([[left, 110], [right, 110], [right - 22, 410], [left + 22, 410]])
    cv2.fillPoly(walls, [np.rint(outline * FINE).astype(np.int32)], 255)
    cv2.rectangle(solid, _at(left + 22, 385), _at(right - 22, 425), 255, -1)
    cv2.rectangle(solid, _at(left + 15, 255), _at(right - 15, 300), 255, -1)
    middle = ((left + right) / 2, 110.0)
    cv2.ellipse(solid, _at(*middle), _at((right - left) / 2, 16), 0, 0, 360, 255, round(2.2 * FINE))
    for near, far in ((outline[0], outline[3]), (outline[1], outline[2])):
        _strand(solid, np.stack([near, far]), 3.0)
    return np.maximum(_reduced(solid), 0.45 * _reduced(walls)), np.zeros((SIZE_PX, SIZE_PX))


def _shadow(rng: Rng) -> tuple[Plane, Plane]:
    """A solid pot with a handle; its cast shadow belongs to the background."""
    canvas, cast = _canvas(), _canvas()
    cv2.ellipse(canvas, _at(240, 280), _at(110, 125), 0, 0, 360, 255, -1)
    cv2.ellipse(canvas, _at(355, 270), _at(45, 60), 0, 0, 360, 255, 16 * FINE)
    cv2.ellipse(cast, _at(300, 405), _at(170, 26 + float(rng.uniform(0, 8))), 0, 0, 360, 255, -1)
    shade = cv2.GaussianBlur(_reduced(cast), (0, 0), 9) * 0.45
    return _reduced(canvas), np.asarray(shade)


KINDS: dict[str, Callable[[Rng], tuple[Plane, Plane]]] = {
    "hair": _hair,
    "lace": _lace,
    "wire": _wire,
    "glass": _glass,
    "shadow": _shadow,
}
"""Each draws alpha and the share of light that a cast shadow takes from the backdrop."""
