"""Generate foregrounds and scenes whose alpha is known exactly.

A foreground is a colour everywhere plus a coverage: any number of scenes can be composed from it.
The pool is a pair of .npy files that trainers map into memory; the same seed makes the same pool.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from training import fibres, subjects
from training.photos import Image, Photo, Plane, read_manifest
from training.shapes import CANVAS_PX, DRAWN_PX, reduced, silhouette
from training.surfaces import background, colour, lit, shadowed, texture

PLAIN_DEVIATION_MAX = 4.0
"""A photograph whose border varies less than this (of 255) stands before a plain background."""


@dataclass(frozen=True, slots=True)
class Foreground:
    """A thing to put before backgrounds: (512, 512, 3) RGB and (512, 512) coverage, uint8."""

    colours: Image
    alpha: NDArray[np.uint8]
    kind: str


def _solid(rng: Generator, photos: Sequence[Image]) -> tuple[Plane, Plane]:
    coverage = silhouette(rng)
    surface = np.ascontiguousarray(texture(rng, CANVAS_PX, photos).astype(np.uint8))
    for _ in range(rng.integers(0, 4)):  # parts and labels
        left, top = rng.uniform(0.2, 0.6, 2) * CANVAS_PX
        wide, high = rng.uniform(0.03, 0.3, 2) * CANVAS_PX
        box = (int(left), int(top)), (int(left + wide), int(top + high))
        paint = tuple(float(value) for value in colour(rng))
        cv2.rectangle(surface, *box, paint, -1)
        if rng.random() < 0.6:
            letters = "".join(rng.choice(list("ABCDEFGHKLMNOPRSTaeiou0123456789"), 6))
            place, ink = box[0], tuple(float(value) for value in colour(rng))
            font, scale, thick = int(rng.integers(0, 8)), rng.uniform(0.5, 2), rng.integers(1, 4)
            cv2.putText(surface, letters, place, font, scale, ink, int(thick), cv2.LINE_AA)
    alpha = reduced(coverage)
    return lit(rng, surface.astype(np.float32), alpha / 255), alpha


def _soft(rng: Generator, photos: Sequence[Image]) -> tuple[Plane, Plane]:
    """A thing out of focus or moving: its rim is wide and soft."""
    surface, alpha = _solid(rng, photos)
    if rng.random() < 0.7:
        return surface, cv2.GaussianBlur(alpha, (0, 0), rng.uniform(1.5, 7))
    length = int(rng.integers(5, 30))
    smear: Plane = np.zeros((length, length), np.float32)
    smear[length // 2] = 1
    middle = (length / 2 - 0.5, length / 2 - 0.5)
    turn = cv2.getRotationMatrix2D(middle, rng.uniform(0, 180), 1)
    smear = cv2.warpAffine(smear, turn, (length, length))
    return surface, cv2.filter2D(alpha, -1, smear / smear.sum())


def _glass(rng: Generator, photos: Sequence[Image]) -> tuple[Plane, Plane]:
    """A clear body with a denser rim and, often, something solid in it."""
    coverage = reduced(silhouette(rng)).astype(np.float32) / 255
    depth = cv2.distanceTransform((coverage > 0.5).astype(np.uint8), cv2.DIST_L2, 5)
    rim = np.exp(-depth / rng.uniform(1.5, 8))
    clear = rng.uniform(0.08, 0.6)
    alpha = coverage * np.clip(clear + (rng.uniform(0.6, 1) - clear) * rim, 0, 1)
    if rng.random() < 0.6:
        level = int(CANVAS_PX * rng.uniform(0.35, 0.7))
        alpha[level:] = np.maximum(alpha[level:], coverage[level:] * rng.uniform(0.7, 1))
    plain = np.ones((CANVAS_PX, CANVAS_PX, 3)) * colour(rng)
    surface = plain if rng.random() < 0.6 else texture(rng, CANVAS_PX, photos)
    return lit(rng, surface, coverage), alpha * 255


def _fine(
    draw: Callable[[Generator, Plane], Plane],
) -> Callable[[Generator, Sequence[Image]], tuple[Plane, Plane]]:
    def make(rng: Generator, photos: Sequence[Image]) -> tuple[Plane, Plane]:
        surface = np.ascontiguousarray(texture(rng, DRAWN_PX, photos).astype(np.uint8))
        coverage = draw(rng, surface)
        shade = rng.uniform(0.7, 1.1) + 0.05 * (reduced(coverage)[..., None] / 255)
        alpha = reduced(coverage)
        if rng.random() < 0.3:
            alpha = cv2.GaussianBlur(alpha, (0, 0), rng.uniform(0.3, 1.2))
        return reduced(surface) * shade, alpha

    return make


Maker = Callable[[Generator, Sequence[Image]], tuple[Plane, Plane]]
MAKERS: dict[str, tuple[float, Maker]] = {
    "solid": (0.32, _solid),
    "soft": (0.12, _soft),
    "glass": (0.06, _glass),
    "hair": (0.18, _fine(fibres.hair)),
    "fur": (0.18, _fine(fibres.fur)),
    "wire": (0.07, _fine(fibres.wire)),
    "lace": (0.07, _fine(fibres.lace)),
    "wicker": (0.1, _fine(fibres.wicker)),
    "loose hair": (0.0, _fine(subjects.loose_hair)),
    "twigs": (0.0, _fine(subjects.twigs)),
    "plush": (0.0, _fine(subjects.plush)),
}
"""Kinds of foreground, with the share of each among the generated ones; the last three on demand.

They are for edges: a pool of them is made with `--kind`.
"""


def foreground(rng: Generator, photos: Sequence[Image], kind: str | None = None) -> Foreground:
    """Generate one foreground, of a random kind unless told."""
    if kind is None:
        shares = np.array([share for share, _ in MAKERS.values()])
        kind = str(rng.choice(list(MAKERS), p=shares / shares.sum()))
    colours, alpha = MAKERS[kind][1](rng, photos)
    if rng.random() < 0.5:  # the lens
        alpha = cv2.GaussianBlur(alpha.astype(np.float32), (0, 0), rng.uniform(0.3, 1.1))
    return Foreground(
        np.clip(colours, 0, 255).astype(np.uint8), np.clip(alpha, 0, 255).astype(np.uint8), kind
    )


def plain_backed(photo: Photo, mask: NDArray[np.uint8]) -> Foreground | None:
    """Cut a thing out of a photograph with a plain background, or None if it has none.

    The alpha comes from the distance to the background's colour, inside the teacher's silhouette
    grown a little; the picture is then reduced, so that the rim's alpha is an area's share.
    """
    image = photo.read().astype(np.float32)
    height_px, width_px = image.shape[:2]
    border = np.concatenate([image[:3].reshape(-1, 3), image[:, :3].reshape(-1, 3)])
    border = np.concatenate([border, image[-3:].reshape(-1, 3), image[:, -3:].reshape(-1, 3)])
    behind = np.median(border, axis=0)
    if np.abs(border - behind).max(axis=1).mean() > PLAIN_DEVIATION_MAX:
        return None
    distance = np.abs(image - behind).max(axis=2)
    alpha = np.clip((distance - 15) / 45, 0, 1)
    grown = cv2.resize(mask, (width_px, height_px), interpolation=cv2.INTER_LINEAR)
    inside = cv2.erode((grown > 200).astype(np.uint8), np.ones((9, 9), np.uint8))
    near = cv2.dilate((grown > 100).astype(np.uint8), np.ones((9, 9), np.uint8))
    if near.any() and (alpha * (1 - near)).mean() > 0.004:
        return None
    if inside.any() and alpha[inside > 0].mean() < 0.97:
        return None
    alpha = np.maximum(alpha * near, inside)
    rim = cv2.dilate((alpha < 0.95).astype(np.uint8), np.ones((3, 3), np.uint8))
    solid = cv2.inpaint(image.astype(np.uint8), rim, 3, cv2.INPAINT_TELEA)
    return _centred(solid, alpha)


def _centred(colours: Plane, alpha: Plane) -> Foreground:
    """Reduce by two thirds and put into the middle of the canvas, cut edges at the border."""
    scale = min(1.0, 1.4 * 352 / max(colours.shape[:2]))
    size_px = (round(colours.shape[1] * scale), round(colours.shape[0] * scale))
    small = cv2.resize(colours, size_px, interpolation=cv2.INTER_AREA)
    thin = cv2.resize(alpha, size_px, interpolation=cv2.INTER_AREA)
    top, left = (CANVAS_PX - size_px[1]) // 2, (CANVAS_PX - size_px[0]) // 2
    margins = (top, CANVAS_PX - size_px[1] - top, left, CANVAS_PX - size_px[0] - left)
    wide = cv2.copyMakeBorder(small, *margins, cv2.BORDER_REPLICATE)
    padded = cv2.copyMakeBorder(thin, *margins, cv2.BORDER_CONSTANT)
    return Foreground(wide.astype(np.uint8), (padded * 255).astype(np.uint8), "photo")


def compose(colours: Plane, alpha: Plane, behind: Plane) -> Image:
    """Put the foreground before the background; `alpha` 0..1."""
    mixed = behind + (colours.astype(np.float32) - behind) * alpha[..., None]
    return np.clip(mixed + 0.5, 0, 255).astype(np.uint8)


def scene(
    rng: Generator, photos: Sequence[Image], kind: str | None = None
) -> tuple[Image, NDArray[np.uint8]]:
    """Return a whole picture and its exact alpha, both at the canvas size."""
    thing = foreground(rng, photos, kind)
    alpha = thing.alpha.astype(np.float32) / 255
    behind = background(rng, CANVAS_PX, photos)
    if rng.random() < 0.6:
        behind = shadowed(rng, behind, alpha)
    return compose(thing.colours, alpha, behind), thing.alpha


def read_backgrounds(pack: Path) -> list[Image]:
    """Return the photographs that may stand behind things."""
    return [photo.read() for photo in read_manifest(pack) if photo.use == "background"]


def _cut_from_photos(pack: Path, masks: Path) -> Iterator[Foreground]:
    for photo in read_manifest(pack):
        path = masks / f"{photo.name}.png"
        if photo.use in {"train", "unlabelled"} and path.exists():
            mask = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
            found = plain_backed(photo, np.asarray(mask, np.uint8))
            if found is not None:
                yield found


def main() -> None:
    """Write the pool: colours.npy, alpha.npy, kinds.txt."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("pack", type=Path, help="the unpacked photos.tar")
    arguments.add_argument("out", type=Path)
    arguments.add_argument(
        "--masks", type=Path, default=None, help="from label.py: adds photographs"
    )
    arguments.add_argument("--count", type=int, default=1200, help="generated foregrounds")
    arguments.add_argument("--photos-max", type=int, default=500)
    arguments.add_argument("--kind", choices=list(MAKERS), default=None, help="only this kind")
    arguments.add_argument("--seed", type=int, default=1)
    given = arguments.parse_args()
    cv2.setNumThreads(1)
    behind = read_backgrounds(given.pack)
    found: list[Foreground] = []
    if given.masks is not None:
        for cut in _cut_from_photos(given.pack, given.masks):
            found.append(cut)
            if len(found) == given.photos_max:
                break
    total = given.count + len(found)
    given.out.mkdir(parents=True, exist_ok=True)
    form = (total, CANVAS_PX, CANVAS_PX)
    alphas = np.lib.format.open_memmap(given.out / "alpha.npy", "w+", np.uint8, form)
    colours = np.lib.format.open_memmap(given.out / "colours.npy", "w+", np.uint8, (*form, 3))
    kinds: list[str] = []
    for index in range(total):
        rng = np.random.default_rng((given.seed, index))
        fresh = index < given.count
        thing = foreground(rng, behind, given.kind) if fresh else found[index - given.count]
        alphas[index], colours[index] = thing.alpha, thing.colours
        kinds.append(thing.kind)
    (given.out / "kinds.txt").write_text("\n".join(kinds) + "\n", encoding="utf-8")
    print({kind: kinds.count(kind) for kind in sorted(set(kinds))})


if __name__ == "__main__":
    main()
