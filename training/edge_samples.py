"""Training samples of the edge refiner: pieces of composites around a rim, composed on the fly."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from training.coarse import coarse_mask, guided
from training.generate import compose
from training.photos import Image, Plane
from training.shapes import CANVAS_PX
from training.surfaces import background, shadowed

PIECE_PX = 192
MARGIN_PX = 32
"""Cut away after the mask is spoilt and filtered, so that a piece's border is like its middle."""
BAND_MASK_PX = 3
"""The band reaches so many pixels of the coarse mask beyond where that is unsure."""
SPOILT_MAX, SPOILT_TRIES = 0.1, 3
"""A mask further off than this (mean, 0..1) has lost the subject, and nothing is to be learned."""
SEEN_PX = PIECE_PX + 2 * MARGIN_PX


@dataclass(frozen=True, slots=True)
class Pool:
    """Generated foregrounds, and composed scenes with the mask a real network gave them."""

    colours: NDArray[np.uint8]
    alphas: NDArray[np.uint8]
    scenes: NDArray[np.uint8] | None
    scene_alphas: NDArray[np.uint8] | None
    scene_masks: NDArray[np.uint8] | None

    @classmethod
    def open(cls, folder: Path) -> "Pool":
        """Map the pool in `folder` into memory."""

        def plane(name: str) -> NDArray[np.uint8] | None:
            path = folder / f"{name}.npy"
            return np.load(path, mmap_mode="r") if path.exists() else None

        colours, alphas = plane("colours"), plane("alpha")
        if colours is None or alphas is None:
            raise FileNotFoundError(folder / "colours.npy")
        scenes = (plane("scenes"), plane("scene_alphas"), plane("scene_masks"))
        return cls(colours, alphas, *scenes)


def _rim_place(rng: Generator, alpha: Plane) -> Plane:
    """Return (x, y) of a pixel on the rim of `alpha` (uint8)."""
    few = cv2.resize(alpha, (128, 128), interpolation=cv2.INTER_AREA)
    rim = np.argwhere((few > 12) & (few < 243))
    if not len(rim):
        return np.array((CANVAS_PX / 2, CANVAS_PX / 2))
    return (rim[rng.integers(len(rim))][::-1] + 0.5) * (CANVAS_PX / 128)


def _view(rng: Generator, centre: Plane, scale: float) -> Plane:
    """Return the affine map that shows the surroundings of `centre`, turned and perhaps flipped."""
    angle = rng.uniform(0, 6.28) if rng.random() < 0.5 else rng.normal(0, 0.2)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * scale
    if rng.random() < 0.5:
        turn[:, 0] *= -1
    shift = SEEN_PX / 2 + rng.uniform(-60, 60, 2) - turn @ centre
    return np.c_[turn, shift]


def _seen(planes: Plane, view: Plane, scale: float, *, border: int) -> Plane:
    """Look at `planes` through `view`, blurred first where pixels would be skipped."""
    if scale < 0.85:
        planes = cv2.GaussianBlur(planes, (0, 0), 0.45 / scale)
    return cv2.warpAffine(planes, view, (SEEN_PX, SEEN_PX), borderMode=border)


def _piece_of_pool(rng: Generator, pool: Pool) -> tuple[Plane, Plane]:
    index = int(rng.integers(len(pool.alphas)))
    alpha, scale = np.asarray(pool.alphas[index]), float(np.exp(rng.uniform(-0.7, 0.5)))
    view = _view(rng, _rim_place(rng, alpha), scale)
    seen = _seen(alpha, view, scale, border=cv2.BORDER_CONSTANT).astype(np.float32) / 255
    colours = _seen(np.asarray(pool.colours[index]), view, scale, border=cv2.BORDER_REFLECT_101)
    return colours.astype(np.float32), seen


def _behind(rng: Generator, pool: Pool, photos: Sequence[Image], near: Plane) -> Plane:
    """A background; sometimes with another thing in it, sometimes in colours close to `near`."""
    behind = background(rng, SEEN_PX, photos)
    kind = rng.random()
    if kind < 0.15:
        colours, alpha = _piece_of_pool(rng, pool)
        behind = compose(colours, alpha, behind).astype(np.float32)
    elif kind < 0.3:
        shift = near.reshape(-1, 3).mean(0) - behind.reshape(-1, 3).mean(0)
        behind = np.clip(behind + shift * rng.uniform(0.5, 1), 0, 255)
    return behind


def _developed(rng: Generator, image: Plane) -> Plane:
    """What a camera and a file do: exposure, noise, JPEG."""
    developed: Plane = image.astype(np.float32)
    if rng.random() < 0.6:
        developed = developed * rng.uniform(0.6, 1.2, 3) + rng.normal(0, 8)
    if rng.random() < 0.35:
        developed = developed + rng.normal(0, rng.uniform(1, 7), image.shape)
    developed = np.clip(developed, 0, 255).astype(np.uint8)
    if rng.random() < 0.35:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.uniform(55, 97))]
        file = cv2.imencode(".jpg", developed, quality)[1]
        developed = np.asarray(cv2.imdecode(file, cv2.IMREAD_COLOR))
    return developed.astype(np.float32) / 255


def _composed(
    rng: Generator, pool: Pool, photos: Sequence[Image]
) -> tuple[Plane, Plane, Plane, float]:
    colours, alpha = _piece_of_pool(rng, pool)
    behind = _behind(rng, pool, photos, colours)
    if rng.random() < 0.3:
        behind = shadowed(rng, behind, alpha)
    image: Plane = compose(colours, alpha, behind)
    if rng.random() < 0.6:  # a lens blurs picture and truth alike
        spread = float(np.exp(rng.uniform(-1.1, 0.9)))
        image, alpha = (
            cv2.GaussianBlur(image, (0, 0), spread),
            cv2.GaussianBlur(alpha, (0, 0), spread),
        )
    for _ in range(SPOILT_TRIES):
        coarse, ratio = coarse_mask(rng, alpha)
        if np.abs(coarse - alpha).mean() < SPOILT_MAX:
            break
    return _developed(rng, image), alpha, coarse, ratio


def _labelled(rng: Generator, pool: Pool) -> tuple[Plane, Plane, Plane, float]:
    """A piece of a scene with the mask that the teacher really gave."""
    assert pool.scenes is not None
    assert pool.scene_alphas is not None
    assert pool.scene_masks is not None
    index = int(rng.integers(len(pool.scenes)))
    alpha, scale = np.asarray(pool.scene_alphas[index]), float(np.exp(rng.uniform(0, 0.8)))
    view = _view(rng, _rim_place(rng, alpha), scale)
    mask = cv2.resize(
        np.asarray(pool.scene_masks[index]), (CANVAS_PX, CANVAS_PX), interpolation=cv2.INTER_CUBIC
    )
    image = _seen(np.asarray(pool.scenes[index]), view, scale, border=cv2.BORDER_REFLECT_101)
    exact = _seen(alpha, view, scale, border=cv2.BORDER_REFLECT_101).astype(np.float32) / 255
    coarse = _seen(mask, view, scale, border=cv2.BORDER_REFLECT_101).astype(np.float32) / 255
    return _developed(rng, image), exact, coarse, scale * CANVAS_PX / pool.scene_masks.shape[1]


def edge_sample(rng: Generator, pool: Pool, photos: Sequence[Image]) -> tuple[Plane, Plane]:
    """Return the refiner's input (5, 192, 192), and the exact alpha with the weight (2, 192, 192).

    The five planes are red, green, blue, the coarse mask and the guided filter's answer. The weight
    is high where the coarse mask leaves the alpha open, which is where the refiner will be run.
    """
    if pool.scenes is not None and rng.random() < 0.3:
        image, alpha, coarse, ratio = _labelled(rng, pool)
    else:
        image, alpha, coarse, ratio = _composed(rng, pool, photos)
    first = guided(image, coarse)
    reach = 2 * round(BAND_MASK_PX * ratio) + 1
    box = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach))
    unsure = ((coarse > 0.03) & (coarse < 0.97)).astype(np.uint8)
    band = cv2.dilate(unsure, box).astype(np.float32)
    planes = np.dstack([image, coarse, first]).transpose(2, 0, 1)
    truth = np.stack([alpha, 0.05 + 0.95 * band])
    inner = slice(MARGIN_PX, MARGIN_PX + PIECE_PX)
    return planes[:, inner, inner].astype(np.float32), truth[:, inner, inner].astype(np.float32)


def edge_batches(
    seed: int, folder: Path, photos: Sequence[Image], count: int
) -> Iterator[tuple[Plane, Plane]]:
    """Yield batches of `count` samples without end."""
    pool, rng = Pool.open(folder), np.random.default_rng(seed)
    while True:
        samples = [edge_sample(rng, pool, photos) for _ in range(count)]
        yield np.stack([s[0] for s in samples]), np.stack([s[1] for s in samples])
