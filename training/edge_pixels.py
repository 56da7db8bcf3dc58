"""What the edge networks learn from: pixels in doubt, taken from scenes, each described as at work.

Pixels that the solver has wrong are taken more often and weighed less, so that the mean over the
sample is the mean over the band. The file is a memory map of half floats, whole or not there.

For drawn masks (`--drawn`) a scene weighs the less the more the solver errs in it: else heads of
hair, on which it errs most, would say how clean outlines are mended.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from core.clues import CLUES, Described, describe
from training.photos import Plane

PER_SCENE = 900
FEWEST = 100
TAKEN_ANYWAY, TAKEN_MOST = 0.1, 0.5
"""Odds of a pixel that the solver has right, and what its error adds to them at most."""
OFF_AT_LEAST, SCALE = 1e-3, 5e-3
"""Of scenes with drawn masks: added to the solver's mean squared error, by which they are weighed;
and what is weighed 1."""
ASIDE = 2
"""Beside the clues: the truth, the weight."""


def read_scene(scene: NDArray[np.uint8]) -> tuple[Described, Plane]:
    """Return what the network is told of a scene of edge_scenes.py, and the true alpha."""
    coarse, alpha, truth = scene[3:].astype(np.float32) / 255
    guide = np.ascontiguousarray(scene[:3].transpose(1, 2, 0))
    return describe(guide, coarse, alpha), truth


def taken(rng: Generator, scene: NDArray[np.uint8], *, is_drawn: bool) -> Plane:
    """Return (n, CLUES + 2) of one scene: none if its mask is not of the kind that is asked for."""
    described, truth = read_scene(scene)
    heard = described.drawn if is_drawn else described.heard
    if described.pixels.size < FEWEST or heard == 0:
        return np.empty((0, CLUES + ASIDE), np.float16)
    true = truth.reshape(-1)[described.pixels]
    odds = TAKEN_ANYWAY + np.minimum(np.abs(described.clues[:, 0] - true), TAKEN_MOST)
    odds /= odds.sum()
    count = min(PER_SCENE, odds.size)
    some = rng.choice(odds.size, count, p=odds)
    weight = 1 / (odds[some] * odds.size)
    if is_drawn:
        weight *= SCALE / (np.square(described.clues[:, 0] - true).mean() + OFF_AT_LEAST)
    rows = [described.clues[some], true[some, None], weight[:, None]]
    return np.concatenate(rows, 1).astype(np.float16)


def edge_batches(seed: int, path: Path, count: int) -> Iterator[tuple[Plane, Plane]]:
    """Yield batches without end: the clues; the matte, the truth and the weight."""
    rng, rows = np.random.default_rng(seed), np.load(path)
    while True:
        some = rows[rng.integers(0, len(rows), count)].astype(np.float32)
        yield some[:, :CLUES], np.concatenate([some[:, :1], some[:, CLUES:]], 1)


def main() -> None:
    """Write the pixels."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("scenes", type=Path, nargs="+", help="from edge_scenes.py")
    arguments.add_argument("--out", type=Path, required=True, help="pixels.npy")
    arguments.add_argument("--drawn", action="store_true", help="of drawn masks, not of soft ones")
    given = arguments.parse_args()
    cv2.setNumThreads(1)
    rows = []
    for number, path in enumerate(given.scenes):
        done = int(path.with_suffix(".done").read_text(encoding="utf-8"))
        for index, scene in enumerate(np.load(path, mmap_mode="r")[:done]):
            rng = np.random.default_rng((number, index))
            rows.append(taken(rng, np.asarray(scene), is_drawn=given.drawn))
    np.save(given.out, np.concatenate(rows))
    print(f"{sum(map(len, rows))} pixels of {len(rows)} scenes")


if __name__ == "__main__":
    main()
