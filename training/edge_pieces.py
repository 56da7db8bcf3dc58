"""Training pieces of the edge refiner: squares around the rim of composed scenes, made once.

A piece is what the refiner will see at work, and the truth: the picture, the coarse mask (the
teacher's own or a spoilt truth), the matte that core's solver makes of both, the exact alpha, and
the band. Making them costs more than learning from them, so they are written to a file; the run may
be stopped and started again, and a trainer uses what is there.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from core.matting import refine
from training.coarse import coarse_mask
from training.edge_run import band_of
from training.generate import compose, read_backgrounds
from training.label import EDGE_PX, Teacher
from training.photos import Image, Plane
from training.pool import Pool
from training.shapes import CANVAS_PX
from training.surfaces import background, shadowed

PIECE_PX = 256
SEEN_PX = 192
"""Side of the window that is learned from; it wanders within the piece."""
PIECES_PER_SCENE = 4
SCENE_PX = (480, 800)
PLANES = 7
TEACHER_SHARE = 0.45
OFF_MAX, TRIES = 0.08, 4
"""A mask further off than this (mean, 0..1) has lost the subject, and nothing is to be learned."""


@dataclass(frozen=True, slots=True)
class Scene:
    """A composed picture (uint8) and its exact alpha (0..1)."""

    image: Image
    alpha: Plane


def _placed(rng: Generator, pool: Pool, size_px: int) -> tuple[Plane, Plane]:
    """Show a thing of the pool in a square of `size_px`: colours 0..255, alpha 0..1."""
    index = int(rng.integers(len(pool.alphas)))
    scale = size_px / CANVAS_PX * rng.uniform(0.7, 1.25)
    angle = rng.uniform(0, 6.28) if rng.random() < 0.4 else rng.normal(0, 0.2)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * scale
    if rng.random() < 0.5:
        turn[:, 0] *= -1
    shift = size_px * (0.5 + rng.normal(0, 0.08, 2)) - turn @ np.full(2, CANVAS_PX / 2)
    view, size = np.c_[turn, shift], (size_px, size_px)
    colours, alpha = np.asarray(pool.colours[index]), np.asarray(pool.alphas[index])
    if scale < 0.85:
        colours, alpha = (
            np.asarray(cv2.GaussianBlur(each, (0, 0), 0.45 / scale)) for each in (colours, alpha)
        )
    seen = cv2.warpAffine(alpha, view, size, borderMode=cv2.BORDER_CONSTANT)
    shown = cv2.warpAffine(colours, view, size, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(shown, np.float32), np.asarray(seen, np.float32) / 255


def _developed(rng: Generator, image: Plane) -> Image:
    """What a camera and a file do: exposure, noise, JPEG."""
    developed: Plane = image.astype(np.float32)
    if rng.random() < 0.6:
        developed = developed * rng.uniform(0.6, 1.2, 3) + rng.normal(0, 8)
    if rng.random() < 0.35:
        developed = developed + rng.normal(0, rng.uniform(1, 6), image.shape)
    out = np.clip(developed, 0, 255).astype(np.uint8)
    if rng.random() < 0.4:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.uniform(60, 97))]
        out = np.asarray(cv2.imdecode(cv2.imencode(".jpg", out, quality)[1], cv2.IMREAD_COLOR))
    return out


def composed(rng: Generator, pool: Pool, photos: Sequence[Image]) -> Scene:
    """Put a thing of the pool before a background; sometimes one of nearly its own colours."""
    size_px = int(rng.integers(*SCENE_PX))
    colours, alpha = _placed(rng, pool, size_px)
    behind = background(rng, size_px, photos)
    kind = rng.random()
    if kind < 0.15:
        other, seen = _placed(rng, pool, size_px)
        behind = compose(other, seen, behind).astype(np.float32)
    elif kind < 0.3:
        shift = colours.reshape(-1, 3).mean(0) - behind.reshape(-1, 3).mean(0)
        behind = np.clip(behind + shift * rng.uniform(0.5, 1), 0, 255)
    if rng.random() < 0.3:
        behind = shadowed(rng, behind, alpha)
    image: Plane = compose(colours, alpha, behind)
    if rng.random() < 0.6:  # a lens blurs picture and truth alike
        spread = float(np.exp(rng.uniform(-1.1, 0.9)))
        image, alpha = (np.asarray(cv2.GaussianBlur(p, (0, 0), spread)) for p in (image, alpha))
    return Scene(_developed(rng, image), alpha)


def mask_of(rng: Generator, scene: Scene, teacher: Teacher | None) -> Plane | None:
    """Return a coarse mask (320, 320) of the scene, or None if it lost the subject."""
    small = cv2.resize(scene.alpha, (EDGE_PX, EDGE_PX), interpolation=cv2.INTER_AREA)
    asks = teacher is not None and rng.random() < TEACHER_SHARE
    for attempt in range(TRIES):
        if asks and teacher is not None and attempt == 0:
            mask: Plane = teacher.mask(scene.image)[0].astype(np.float32) / 255
        else:
            mask = coarse_mask(rng, small)
        if np.abs(mask - small).mean() < OFF_MAX:
            return mask
    return None


def pieces_of(rng: Generator, scene: Scene, mask: Plane) -> Iterator[NDArray[np.uint8]]:
    """Cut pieces (7, 256, 256) where the matte is open or wrong."""
    size_px = scene.alpha.shape[::-1]
    coarse = np.clip(cv2.resize(mask, size_px, interpolation=cv2.INTER_CUBIC), 0, 1)
    matte = refine(scene.image, mask.astype(np.float32))[0]
    band = band_of(coarse, max(size_px) / EDGE_PX)
    off = np.abs(matte.astype(np.float32) / 255 - scene.alpha) * band
    planes = [*scene.image.transpose(2, 0, 1), coarse * 255, matte, scene.alpha * 255, band * 255]
    stack = np.stack(planes).astype(np.uint8)
    for number in range(PIECES_PER_SCENE):
        wanted = off if number % 2 else band.astype(np.float32)
        few = cv2.resize(wanted, (64, 64), interpolation=cv2.INTER_AREA).ravel() + 1e-9
        place = int(rng.choice(len(few), p=few / few.sum()))
        corner = np.array(divmod(place, 64)) / 64 * scene.alpha.shape - PIECE_PX / 2
        corner = corner + rng.uniform(-48, 48, 2)
        top, left = np.clip(corner, 0, np.array(scene.alpha.shape) - PIECE_PX).astype(int)
        yield stack[:, top : top + PIECE_PX, left : left + PIECE_PX]


def write(given: argparse.Namespace) -> None:
    """Fill the file of pieces, from where an earlier run stopped."""
    pool, photos = Pool.open(given.pool), read_backgrounds(given.pack)
    teacher = Teacher(given.teacher, 1) if given.teacher is not None else None
    form = (given.scenes * PIECES_PER_SCENE, PLANES, PIECE_PX, PIECE_PX)
    done_path, path = given.out.with_suffix(".done"), given.out
    done = int(done_path.read_text(encoding="utf-8")) if done_path.exists() else 0
    mode = "r+" if done else "w+"
    given.out.parent.mkdir(parents=True, exist_ok=True)
    kept = np.lib.format.open_memmap(path, mode, np.uint8, None if done else form)
    for number in range(done // PIECES_PER_SCENE, given.scenes):
        for attempt in range(100):
            rng = np.random.default_rng((given.seed, number, attempt))
            scene = composed(rng, pool, photos)
            mask = mask_of(rng, scene, teacher)
            if mask is not None:
                break
        else:
            raise SystemExit("no scene of this pool keeps its subject")
        for offset, piece in enumerate(pieces_of(rng, scene, mask)):
            kept[number * PIECES_PER_SCENE + offset] = piece
        done_path.write_text(str((number + 1) * PIECES_PER_SCENE), encoding="utf-8")


def edge_batches(seed: int, paths: list[Path], count: int) -> Iterator[tuple[Plane, Plane]]:
    """Yield batches without end: the refiner's input (5 planes), and alpha with its weight."""
    rng, kept = np.random.default_rng(seed), [np.load(path, mmap_mode="r") for path in paths]
    while True:
        done = [int(path.with_suffix(".done").read_text(encoding="utf-8")) for path in paths]
        files = rng.choice(len(paths), count, p=np.array(done) / sum(done))
        seen = np.stack([_window(rng, kept[i][rng.integers(done[i])]) for i in files])
        planes = seen.astype(np.float32) / 255
        if rng.random() < 0.5:
            planes[:, :3] *= rng.uniform(0.7, 1.15, (count, 3, 1, 1)).astype(np.float32)
        weight = 0.05 + 0.95 * planes[:, 6:7]
        yield np.clip(planes[:, :5], 0, 1), np.concatenate([planes[:, 5:6], weight], 1)


def _window(rng: Generator, piece: NDArray[np.uint8]) -> NDArray[np.uint8]:
    top, left = rng.integers(0, PIECE_PX - SEEN_PX + 1, 2)
    window = np.rot90(
        piece[:, top : top + SEEN_PX, left : left + SEEN_PX], int(rng.integers(4)), (1, 2)
    )
    return window[:, :, ::-1] if rng.random() < 0.5 else window


def main() -> None:
    """Write the pieces."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("pack", type=Path, help="the unpacked photos.tar")
    arguments.add_argument("pool", type=Path, help="from generate.py")
    arguments.add_argument("out", type=Path, help="pieces.npy")
    arguments.add_argument("--teacher", type=Path, default=None, help="u2netp.onnx")
    arguments.add_argument("--scenes", type=int, default=1000)
    arguments.add_argument("--seed", type=int, default=1)
    cv2.setNumThreads(1)
    write(arguments.parse_args())


if __name__ == "__main__":
    main()
