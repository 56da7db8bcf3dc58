"""The solver and the edge network one by one, as core runs them together, to compare them."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from core import matting
from core.band import reduced
from core.edge import EdgeNetwork
from training.photos import Image, Plane


@dataclass(frozen=True, slots=True)
class Seen:
    """A picture at the solving size, the mask at that size, and the solved matte."""

    guide: NDArray[np.uint8]
    coarse: Plane
    alpha: Plane


def solved(image: Image, mask: Plane) -> Seen:
    """Return what core's solver sees and says."""
    size_px = matting._solving_size(image, mask)  # noqa: SLF001 - a part of `solve`
    guide = reduced(image, size_px)
    coarse = np.clip(cv2.resize(mask, size_px, interpolation=cv2.INTER_CUBIC), 0, 1)
    alpha, _ = matting._solve(guide, coarse, matting._sharpness(mask, size_px), None)  # noqa: SLF001 - a part of `solve`
    return Seen(guide, coarse, alpha)


def spread(image: Image, guide: NDArray[np.uint8], alpha: Plane) -> Plane:
    """Scale a matte up from the solving size as core does; 0..1."""
    matte = matting._modelled(guide, alpha, "closed-form")  # noqa: SLF001 - a part of `solve`
    return matting.scale_up(matte, image).astype(np.float32) / 255


def open_network(weights: Path, drawn: Path | None = None) -> EdgeNetwork:
    """Load a file of export.py, and perhaps the one for drawn masks; without it these are left."""
    of_drawn = None if drawn is None else _session(drawn)
    return EdgeNetwork(_session(weights), drawn_session=of_drawn)


def _session(weights: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(weights, options, providers=["CPUExecutionProvider"])
