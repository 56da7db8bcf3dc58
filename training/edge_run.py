"""The edge network at work: which pixels it sees, in which tiles. What core does, in the open.

The picture is looked at at no more than `WORK_EDGE_PX`, where a pixel of the coarse mask is a few
pixels wide, as in training. Tiles that touch the band are run; outside it the solver's matte stays.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from core.matting import refine
from training.photos import Image, Plane

WORK_EDGE_PX = 1024
TILE_PX = 256
MARGIN_PX = 32
"""Of each tile, not used: the network sees less than all it wants there."""
BAND_MASK_PX = 2
UNSURE = (0.03, 0.97)
BATCH = 4


def open_network(weights: Path, threads: int = 1) -> ort.InferenceSession:
    """Load cutout-edge."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    return ort.InferenceSession(weights, options, providers=["CPUExecutionProvider"])


@dataclass(frozen=True, slots=True)
class Prepared:
    """A picture at the working size, with what is known of its alpha so far; the matte in full."""

    matte: NDArray[np.uint8]
    image: Image
    coarse: Plane
    first: Plane
    band: NDArray[np.bool_]


def prepare(image: Image, mask: Plane) -> Prepared:
    """Solve the matte of `image`, bring all to the working size, find the band."""
    height_px, width_px = image.shape[:2]
    scale = min(1.0, WORK_EDGE_PX / max(height_px, width_px))
    size_px = (max(1, round(width_px * scale)), max(1, round(height_px * scale)))
    small = cv2.resize(image, size_px, interpolation=cv2.INTER_AREA).astype(np.uint8)
    coarse = np.clip(cv2.resize(mask, size_px, interpolation=cv2.INTER_CUBIC), 0, 1)
    matte = refine(image, mask.astype(np.float32))[0]
    first = cv2.resize(matte, size_px, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    ratio = max(size_px) / max(mask.shape)
    return Prepared(matte, small, coarse, first, band_of(coarse, ratio))


def refine_edge(ort_session: ort.InferenceSession, image: Image, mask: Plane) -> Plane:
    """Return alpha (0..1) of `image` in full.

    Above the working size it is the network's correction that is scaled up, not its alpha: what the
    solver made of each pixel's own colour stays.
    """
    ready = prepare(image, mask)
    correction = run(ort_session, ready) - ready.first
    size_px = image.shape[1], image.shape[0]
    up = cv2.resize(correction, size_px, interpolation=cv2.INTER_LINEAR)
    return np.clip(ready.matte.astype(np.float32) / 255 + up, 0, 1)


def band_of(coarse: Plane, ratio: float) -> NDArray[np.bool_]:
    """Return where alpha is open: near where the mask is unsure."""
    unsure = ((coarse > UNSURE[0]) & (coarse < UNSURE[1])).astype(np.uint8)
    reach = 2 * round(BAND_MASK_PX * ratio) + 1
    return cv2.dilate(unsure, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach))) > 0


def tiles(band: NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """Yield the corners (top, left) of the cores that touch the band."""
    step = TILE_PX - 2 * MARGIN_PX
    for top in range(0, band.shape[0], step):
        for left in range(0, band.shape[1], step):
            if band[top : top + step, left : left + step].any():
                yield top, left


def run(ort_session: ort.InferenceSession, ready: Prepared) -> Plane:
    """Return alpha (0..1) at the working size."""
    alpha = ready.first.copy()
    planes = np.dstack([ready.image.astype(np.float32) / 255, ready.coarse, ready.first])
    step = TILE_PX - 2 * MARGIN_PX
    over = [-side % step + MARGIN_PX for side in alpha.shape]
    wide = cv2.copyMakeBorder(
        planes[..., :3], MARGIN_PX, over[0], MARGIN_PX, over[1], cv2.BORDER_REFLECT_101
    )
    masks = cv2.copyMakeBorder(
        planes[..., 3:], MARGIN_PX, over[0], MARGIN_PX, over[1], cv2.BORDER_REFLECT_101
    )
    wide = np.dstack([wide, masks])
    corners = list(tiles(ready.band))
    for start in range(0, len(corners), BATCH):
        some = corners[start : start + BATCH]
        batch = np.stack([wide[top : top + TILE_PX, left : left + TILE_PX] for top, left in some])
        inputs = np.ascontiguousarray(batch.transpose(0, 3, 1, 2), np.float32)
        answers = ort_session.run(["alpha"], {"input": inputs})[0]
        for (top, left), answer in zip(some, answers[:, 0], strict=True):
            open_here = ready.band[top : top + step, left : left + step]
            core = answer[MARGIN_PX:, MARGIN_PX:][: open_here.shape[0], : open_here.shape[1]]
            alpha[top : top + step, left : left + step][open_here] = core[open_here]
    return alpha
