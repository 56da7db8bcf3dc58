"""Training scenes of the edge network: what it is asked at work, and the truth, made once.

A scene is kept at the solving size: the picture, a coarse mask (the teacher's own, our small
network's, or a spoilt truth), the matte that core's solver makes of both, and the exact alpha.
The run may be stopped and started again.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from core.segmenter import Segmenter, load_segmenter
from training.coarse import coarse_mask, drawn_mask
from training.edge_run import solved
from training.generate import compose, read_backgrounds
from training.label import EDGE_PX, Teacher
from training.photos import Image, Plane
from training.pool import Pool
from training.shapes import CANVAS_PX
from training.surfaces import background, shadowed

SCENE_PX = (400, 900)
PLANES = 6
"""Red, green, blue, coarse mask, solved matte, truth."""
TEACHER_SHARE, OWN_SHARE = 0.5, 0.2
OFF_MAX, TRIES = 0.08, 4
"""A mask further off than this (mean, 0..1) has lost the subject, and nothing is to be learned."""
PRINTED_SHARE, BACKDROP_SHARE, BLURRED_SHARE = 0.35, 0.15, 0.15
JOINED_SHARE, CLOSE_SHARE = 0.25, 0.3
DRAWN_OF_TEACHER_SHARE = 0.12
"""Of drawn masks: those that follow the teacher's outline, not the truth's."""
HELD_OUT_EVERY = 16
"""Every so many things of the pool are never trained on, but validated with."""


@dataclass(frozen=True, slots=True)
class Manner:
    """How scenes are composed, and masked.

    Attributes:
        is_held_out: of things kept for validation.
        is_drawn: the mask is drawn, not what a network answers.
        alike: how seldom the background is one of the thing's own kind or colours: 1, or less.
        lens_share: of pictures that a lens blurs.
    """

    is_held_out: bool = False
    is_drawn: bool = False
    alike: float = 1.0
    lens_share: float = 0.6


@dataclass(frozen=True, slots=True)
class Scene:
    """A composed picture (uint8) and its exact alpha (0..1)."""

    image: Image
    alpha: Plane


def _placed(
    rng: Generator, pools: Sequence[Pool], size_px: int, *, is_held_out: bool
) -> tuple[Plane, Plane]:
    """Show a thing of the pools in a square of `size_px`: colours 0..255, alpha 0..1."""
    pool = pools[int(rng.integers(len(pools)))]
    every = np.arange(len(pool.alphas))
    index = int(rng.choice(every[(every % HELD_OUT_EVERY == 0) == is_held_out]))
    scale = size_px / CANVAS_PX * rng.uniform(0.7, 1.25)
    angle = rng.uniform(0, 6.28) if rng.random() < 0.4 else rng.normal(0, 0.2)
    off = rng.normal(0, 0.08, 2)
    if rng.random() < CLOSE_SHARE:  # near, upright, and cut by the lower border
        scale, angle = scale * rng.uniform(1, 1.7), rng.normal(0, 0.2)
        off[1] = abs(rng.normal(0, 0.25))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * scale
    if rng.random() < 0.5:
        turn[:, 0] *= -1
    shift = size_px * (0.5 + off) - turn @ np.full(2, CANVAS_PX / 2)
    view, size = np.c_[turn, shift], (size_px, size_px)
    colours, alpha = np.asarray(pool.colours[index]), np.asarray(pool.alphas[index])
    if scale < 0.85:
        colours, alpha = (
            np.asarray(cv2.GaussianBlur(each, (0, 0), 0.45 / scale)) for each in (colours, alpha)
        )
    seen = cv2.warpAffine(alpha, view, size, borderMode=cv2.BORDER_CONSTANT)
    shown = cv2.warpAffine(colours, view, size, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(shown, np.float32), np.asarray(seen, np.float32) / 255


def _joined(one: tuple[Plane, Plane], other: tuple[Plane, Plane]) -> tuple[Plane, Plane]:
    """Make one thing of two: the first in front of the second."""
    (front, near), (back, far) = one, other
    alpha = near + far * (1 - near)
    share = (near / np.maximum(alpha, 1e-4))[..., None]
    return np.asarray(back + (front - back) * share, np.float32), alpha


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


def _printed(rng: Generator, colours: Plane, alpha: Plane, behind: Plane) -> Plane:
    """Print on the thing itself what might be taken for holes: in the background's own colours."""
    size_px = alpha.shape[0]
    inside = cv2.erode((alpha > 0.98).astype(np.uint8), np.ones((9, 9), np.uint8))
    cover = (_ink(rng, inside) * inside)[..., None]
    if rng.random() < 0.5:
        paint = np.roll(behind, tuple(rng.integers(0, size_px, 2)), (0, 1))
    else:
        row, column = rng.integers(0, size_px, 2)
        paint = np.ones_like(behind) * behind[row, column] + rng.normal(0, 6, 3)
    return np.asarray(colours + (paint - colours) * cover * rng.uniform(0.7, 1), np.float32)


def _ink(rng: Generator, inside: Plane) -> Plane:
    """Draw spots, lines, boxes and letters that begin where it is `inside`; 0..1."""
    size_px, ink = inside.shape[0], np.zeros(inside.shape, np.uint8)
    places = np.argwhere(inside)
    if not len(places):
        return ink.astype(np.float32)
    for _ in range(int(rng.integers(1, 7))):
        row, column = (int(each) for each in places[rng.integers(len(places))])
        reach = size_px * float(np.exp(rng.uniform(-4.5, -2)))
        kind, thick = rng.integers(4), int(rng.integers(1, 5))
        if kind == 0:
            axes = (int(reach), max(1, int(reach * rng.uniform(0.2, 1))))
            cv2.ellipse(ink, (column, row), axes, rng.uniform(0, 180), 0, 360, 255, -1)
        elif kind == 1:
            far = (column + int(rng.normal(0, 3) * reach), row + int(rng.normal(0, 3) * reach))
            cv2.line(ink, (column, row), far, 255, thick, cv2.LINE_AA)
        elif kind == 2:
            far = (column + int(2 * reach), row + int(reach * rng.uniform(0.2, 2)))
            cv2.rectangle(ink, (column, row), far, 255, -1)
        else:
            letters = "".join(rng.choice(list("ABCDEFGHKLMNOPRSTaeiou0123456789"), 5))
            font, scale = int(rng.integers(0, 8)), max(0.3, reach / 22)
            cv2.putText(ink, letters, (column, row), font, scale, 255, thick, cv2.LINE_AA)
    return ink.astype(np.float32) / 255


def _like(rng: Generator, behind: Plane, colours: Plane, alpha: Plane) -> Plane:
    """Give the background the thing's own range of colours, more or less."""
    inside = colours[alpha > 0.5]
    if not len(inside):
        return behind
    flat = behind.reshape(-1, 3)
    level, spread = inside.mean(0), inside.std(0) / (flat.std(0) + 4)
    match = (behind - flat.mean(0)) * np.minimum(spread, 3) + level
    return np.asarray(np.clip(behind + (match - behind) * rng.uniform(0.5, 1), 0, 255), np.float32)


def _backdrop(rng: Generator, behind: Plane, colours: Plane) -> Plane:
    """Print on the background, in one of its colours or one of the thing's."""
    size_px = behind.shape[0]
    source = behind if rng.random() < 0.5 else colours
    row, column = rng.integers(0, size_px, 2)
    paint = source[row, column] * rng.uniform(0.6, 1.3) + rng.normal(0, 6, 3)
    cover = np.maximum(*(_ink(rng, np.ones(behind.shape[:2], np.uint8)) for _ in range(2)))
    if rng.random() < 0.5:
        cover = cv2.GaussianBlur(cover, (0, 0), rng.uniform(0.5, 6))
    return np.asarray(
        np.clip(behind + (paint - behind) * cover[..., None] * rng.uniform(0.3, 1), 0, 255)
    )


def composed(
    rng: Generator, pools: Sequence[Pool], photos: Sequence[Image], manner: Manner
) -> Scene:
    """Put things of the pools before a background; sometimes one of nearly their own colours."""
    size_px = int(rng.integers(*SCENE_PX))
    colours, alpha = _placed(rng, pools, size_px, is_held_out=manner.is_held_out)
    if rng.random() < JOINED_SHARE:
        second = _placed(rng, pools, size_px, is_held_out=manner.is_held_out)
        colours, alpha = _joined((colours, alpha), second)
    behind = background(rng, size_px, photos)
    if rng.random() < BLURRED_SHARE:
        behind = cv2.GaussianBlur(behind, (0, 0), rng.uniform(4, 0.05 * size_px))
    if rng.random() < BACKDROP_SHARE:
        behind = _backdrop(rng, behind, colours)
    kind = rng.random() * manner.alike
    if kind < 0.12:
        other, seen = _placed(rng, pools, size_px, is_held_out=manner.is_held_out)
        behind = compose(other, seen, behind).astype(np.float32)
    elif kind < 0.24:
        behind = _like(rng, behind, colours, alpha)
    elif kind < 0.33:
        shift = colours.reshape(-1, 3).mean(0) - behind.reshape(-1, 3).mean(0)
        behind = np.clip(behind + shift * rng.uniform(0.5, 1), 0, 255)
    if rng.random() < 0.3:
        behind = shadowed(rng, behind, alpha)
    if rng.random() < PRINTED_SHARE:
        colours = _printed(rng, colours, alpha, behind)
    image: Plane = compose(colours, alpha, behind)
    if rng.random() < manner.lens_share:  # a lens blurs picture and truth alike
        spread = float(np.exp(rng.uniform(-1.1, 0.9)))
        image, alpha = (np.asarray(cv2.GaussianBlur(p, (0, 0), spread)) for p in (image, alpha))
    return Scene(_developed(rng, image), alpha)


def mask_of(
    rng: Generator, scene: Scene, teacher: Teacher | None, own: Segmenter | None
) -> Plane | None:
    """Return a coarse mask of the scene, or None if it lost the subject."""
    small = cv2.resize(scene.alpha, (EDGE_PX, EDGE_PX), interpolation=cv2.INTER_AREA)
    kind = rng.random()
    for attempt in range(TRIES):
        if attempt == 0 and teacher is not None and kind < TEACHER_SHARE:
            mask: Plane = teacher.mask(scene.image)[0].astype(np.float32) / 255
        elif attempt == 0 and own is not None and TEACHER_SHARE < kind < TEACHER_SHARE + OWN_SHARE:
            mask = own.segment(scene.image).mask
        else:
            mask = coarse_mask(rng, small)
        fit = cv2.resize(mask, (EDGE_PX, EDGE_PX), interpolation=cv2.INTER_LINEAR)
        if np.abs(fit - small).mean() < OFF_MAX:
            return mask
    return None


def drawn_mask_of(rng: Generator, scene: Scene, teacher: Teacher | None) -> Plane | None:
    """Return a mask drawn hard, along the truth's outline or the teacher's, or None as above."""
    size_px = (EDGE_PX, EDGE_PX)
    small = cv2.resize(scene.alpha, size_px, interpolation=cv2.INTER_AREA)
    if teacher is not None and rng.random() < DRAWN_OF_TEACHER_SHARE:
        guess = teacher.mask(scene.image)[0].astype(np.float32) / 255
        whole = cv2.resize(guess, scene.alpha.shape[::-1], interpolation=cv2.INTER_CUBIC)
        hard = (whole > 0.5).astype(np.float32)
        mask: Plane = cv2.resize(hard, size_px, interpolation=cv2.INTER_AREA)
    else:
        mask = drawn_mask(rng, scene.alpha, EDGE_PX)
    return mask if np.abs(mask - small).mean() < OFF_MAX else None


def example(scene: Scene, mask: Plane) -> NDArray[np.uint8]:
    """Return (6, 320, 320): see `PLANES`."""
    seen = solved(scene.image, mask.astype(np.float32))
    size_px = seen.alpha.shape[::-1]
    truth = cv2.resize(scene.alpha, size_px, interpolation=cv2.INTER_AREA)
    planes = np.stack([seen.coarse, seen.alpha, truth])
    levels = np.rint(np.clip(planes, 0, 1) * 255).astype(np.uint8)
    return np.concatenate([seen.guide.transpose(2, 0, 1), levels])


def write(given: argparse.Namespace) -> None:
    """Fill the file of scenes, from where an earlier run stopped."""
    pools, photos = [Pool.open(each) for each in given.pools], read_backgrounds(given.pack)
    teacher = Teacher(given.teacher, 1) if given.teacher is not None else None
    own = load_segmenter("cutout-lite", None)
    manner = Manner(given.held_out, given.drawn, given.alike, given.lens)
    done_path = given.out.with_suffix(".done")
    done = int(done_path.read_text(encoding="utf-8")) if done_path.exists() else 0
    given.out.parent.mkdir(parents=True, exist_ok=True)
    form = (given.scenes, PLANES, EDGE_PX, EDGE_PX)
    mode = "r+" if done else "w+"
    kept = np.lib.format.open_memmap(given.out, mode, np.uint8, None if done else form)
    for number in range(done, given.scenes):
        for attempt in range(100):
            rng = np.random.default_rng((given.seed, number, attempt))
            scene = composed(rng, pools, photos, manner)
            mask = (
                drawn_mask_of(rng, scene, teacher)
                if manner.is_drawn
                else mask_of(rng, scene, teacher, own)
            )
            if mask is not None:
                break
        else:
            raise SystemExit("no scene of these pools keeps its subject")
        kept[number] = example(scene, mask)
        whole = done_path.with_suffix(".next")
        whole.write_text(str(number + 1), encoding="utf-8")
        whole.replace(done_path)


def main() -> None:
    """Write the scenes."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("pack", type=Path, help="the unpacked photos.tar")
    arguments.add_argument("pools", type=Path, nargs="+", help="from generate.py; alike often")
    arguments.add_argument("out", type=Path, help="scenes.npy")
    arguments.add_argument("--teacher", type=Path, default=None, help="u2netp.onnx")
    arguments.add_argument("--scenes", type=int, default=1000)
    arguments.add_argument("--held-out", action="store_true", help="of things kept for validation")
    arguments.add_argument("--drawn", action="store_true", help="masks drawn hard")
    arguments.add_argument("--alike", type=float, default=1.0, help="less: more like grounds")
    arguments.add_argument("--lens", type=float, default=0.6, help="share blurred by a lens")
    arguments.add_argument("--seed", type=int, default=1)
    given = arguments.parse_args()
    cv2.setNumThreads(1)
    write(given)


if __name__ == "__main__":
    main()
