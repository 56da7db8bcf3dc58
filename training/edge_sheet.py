"""A sheet of magnified crops to look at: picture, solver, cutout-edge and truth, on magenta.

Everything in it is generated, grounds and surfaces too, so the sheet may be passed on. The mask is
u2netp's own. Rows: where the network gains most, the median, and where it loses most.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.random import Generator

from bench import metrics
from core.decontaminate import decontaminate
from core.edge import EdgeNetwork
from training import edge_run
from training.generate import compose, foreground
from training.label import EDGE_PX, Teacher
from training.photos import Image, Plane
from training.shapes import CANVAS_PX
from training.surfaces import background, shadowed

KINDS = ("loose hair", "plush", "twigs", "hair", "fur", "wicker", "wire", "lace", "solid", "soft")
SEED = 4242
FOUND_IOU = 0.85
ROWS_EACH = 3
CROP_PX, TILE_PX = 150, 220
MAGENTA = (255, 0, 255)


@dataclass(frozen=True, slots=True)
class Row:
    """One scene, before and after: crops of the four columns, and the mean errors."""

    kind: str
    tiles: list[Image]
    before: float
    after: float

    @property
    def ratio(self) -> float:
        """Say how much of the solver's error is left."""
        return self.after / max(self.before, 1e-6)


def generated(rng: Generator, kind: str) -> tuple[Image, Plane, Image]:
    """Return a picture, its exact alpha (0..1) and the thing's own colours."""
    thing = foreground(rng, [], kind)
    alpha = thing.alpha.astype(np.float32) / 255
    behind = background(rng, CANVAS_PX, [])
    if rng.random() < 0.4:
        behind = shadowed(rng, behind, alpha)
    return compose(thing.colours, alpha, behind), alpha, thing.colours


def on_magenta(colours: Image, alpha: Plane) -> Image:
    """Show a cutout as a viewer would who distrusts it."""
    return compose(colours, alpha, np.full(colours.shape, MAGENTA, np.float32))


def row(rng: Generator, kind: str, teacher: Teacher | None, network: EdgeNetwork) -> Row | None:
    """Return one scene's row, or None where the mask has lost the subject.

    Without a teacher the mask is drawn: the truth, cut at a half and reduced.
    """
    image, truth, colours = generated(rng, kind)
    hard, size_px = (truth > 0.5).astype(np.float32), (EDGE_PX, EDGE_PX)
    mask: Plane = cv2.resize(hard, size_px, interpolation=cv2.INTER_AREA)
    if teacher is not None:
        mask = teacher.mask(image)[0].astype(np.float32) / 255
    found = cv2.resize(mask, truth.shape[::-1], interpolation=cv2.INTER_LINEAR)
    if metrics.iou(found, truth) < FOUND_IOU:
        return None
    seen = edge_run.solved(image, mask)
    mended = network.mend(seen.guide, seen.coarse, seen.alpha)
    mattes = [edge_run.spread(image, seen.guide, each) for each in (seen.alpha, mended)]
    shown = [image]
    for matte in mattes:
        levels = np.rint(matte * 255).astype(np.uint8)
        shown.append(on_magenta(decontaminate(image, levels), matte))
    shown.append(on_magenta(colours, truth))
    off = np.maximum(*(np.abs(matte - truth) for matte in mattes))
    worst = cv2.boxFilter(off, -1, (CROP_PX, CROP_PX), borderType=cv2.BORDER_CONSTANT)
    middle = np.array(np.unravel_index(int(worst.argmax()), worst.shape))
    top, left = np.clip(middle - CROP_PX // 2, 0, CANVAS_PX - CROP_PX)
    crops = [each[top : top + CROP_PX, left : left + CROP_PX] for each in shown]
    tiles = [
        np.asarray(cv2.resize(crop, (TILE_PX, TILE_PX), interpolation=cv2.INTER_CUBIC), np.uint8)
        for crop in crops
    ]
    before, after = (metrics.mad(matte, truth) for matte in mattes)
    return Row(kind, tiles, before, after)


def main() -> None:
    """Write the sheet."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("weights", type=Path, help="cutout-edge.onnx")
    arguments.add_argument("out", type=Path, help="sheet.jpg")
    arguments.add_argument("--teacher", type=Path, default=None, help="u2netp.onnx")
    arguments.add_argument("--drawn", type=Path, default=None, help="or: its other weights")
    arguments.add_argument("--scenes", type=int, default=60)
    given = arguments.parse_args()
    cv2.setNumThreads(1)
    if (given.teacher is None) == (given.drawn is None):
        arguments.error("either --teacher, for soft masks, or --drawn, for drawn ones")
    teacher = None if given.teacher is None else Teacher(given.teacher, 1)
    network = edge_run.open_network(given.weights, given.drawn)
    rows = []
    for number in range(given.scenes):
        rng, kind = np.random.default_rng((SEED, number)), KINDS[number % len(KINDS)]
        found = row(rng, kind, teacher, network)
        if found is not None:
            rows.append(found)
    rows.sort(key=lambda each: each.ratio)
    middle = len(rows) // 2 - ROWS_EACH // 2
    chosen = [*rows[:ROWS_EACH], *rows[middle : middle + ROWS_EACH], *rows[-ROWS_EACH:]]
    sheet = np.vstack([np.hstack(each.tiles) for each in chosen])
    quality = [cv2.IMWRITE_JPEG_QUALITY, 78]
    cv2.imwrite(str(given.out), sheet[..., ::-1], quality)
    for each in chosen:
        print(f"{each.kind}: {each.before:.4f} to {each.after:.4f}, {each.ratio:.2f}")
    worse = float(np.mean([each.ratio > 1.02 for each in rows]))
    print(f"{len(rows)} of {given.scenes} scenes; {worse:.0%} of them worse")


if __name__ == "__main__":
    main()
