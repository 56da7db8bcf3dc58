"""Weights -> raw prediction -> mask. onnxruntime lives only here."""

import hashlib
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import onnxruntime
from numpy.typing import NDArray
from PIL import Image

from core.allocation import keep_small_blocks
from core.edge import EdgeNetwork
from core.errors import InvalidOptionError, ProviderUnavailableError, WeightsCorruptError
from core.graph import CPU, ONNXRUNTIME_LOGS_ERRORS_ONLY, rearranged
from core.options import Clothes
from core.parallel import at_once, keep_opencv_to_one_thread
from core.weights import EDGE, EMBEDDED_FOLDER, WEIGHTS, Weights, find_weights

Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""
RawAndMask = tuple[NDArray[np.float32], NDArray[np.float32]]

HAZE: Final = (0.2, 0.8)
"""An opacity network leaves a grey haze; what is outside is none or all."""
BYTE_MAX: Final = 255
ALMOST_NOTHING: Final = 1e-6
LARGE_SOURCE_GAP: Final = 3
"""A larger source is first averaged in whole boxes to no less than this times the network's size.

At 2 the mask of some large photographs differs from rembg's by more than 0.5 of 255.
"""
RESIDENT_PER_FILE_BYTE: Final = 1.5
"""onnxruntime keeps weights a second time, in the order its kernels like, for some layers."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the network said.

    Attributes:
        raw: (n, n) float32, about 0..1, before any stretch: what confidence is judged on.
        mask: (n, n) float32, 0..1, what rembg's session of the same name makes of it.
        seen: (h, w, 3) uint8, the picture as it was reduced on its way to the network; at the
            right and lower border up to half a pixel may be missing, or there twice.
    """

    raw: NDArray[np.float32]
    mask: NDArray[np.float32]
    seen: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Segmenter:
    """Loaded weights, ready to segment, from any number of threads at once.

    Attributes:
        weights: the row of the table.
        provider: where onnxruntime really runs it.
        threads: how many it runs on; the other steps keep to as many.
        memory_bytes: what holding it costs once it has run.
        edge: what mends the edges of its masks, on the CPU; None where that does not pay.
    """

    weights: Weights
    provider: str
    threads: int
    memory_bytes: int
    ort_session: Any
    edge: EdgeNetwork | None

    @property
    def name(self) -> str:
        return self.weights.name

    def segment(self, image: NDArray[np.uint8], clothes: Clothes = "all") -> Prediction:
        """Find the subject of `image`, (H, W, 3) uint8 sRGB.

        Raises:
            InvalidOptionError: these weights do not tell clothes apart.
        """
        if clothes != "all" and not self.weights.classes:
            raise InvalidOptionError("clothes", f"{self.name} does not tell clothes apart")
        (wanted,) = self.ort_session.get_outputs()[:1]  # the others are side outputs of training
        (expected,) = self.ort_session.get_inputs()
        seen, box = _reduce(image, self.weights.input_px * LARGE_SOURCE_GAP, self.threads)
        network_input = _normalised(seen, box, self.weights, self.threads)
        (output,) = self.ort_session.run([wanted.name], {expected.name: network_input})
        seen = seen[: round(box[3]), : round(box[2])]
        if self.weights.classes:
            return Prediction(*_read_classes(output[0], self.weights.classes, clothes), seen)
        return Prediction(*_read_saliency(output[0, 0], self.weights), seen)

    def warm_up(self) -> None:
        """Run once on a blank picture, so that the first real one is as fast as the rest."""
        side_px = self.weights.input_px
        self.segment(np.zeros((side_px, side_px, 3), np.uint8))
        if self.edge is not None:
            self.edge.warm_up()


def prepare(image: NDArray[np.uint8], weights: Weights, threads: int = 1) -> NDArray[np.float32]:
    """Scale `image` to the network's square and normalise it.

    Returns:
        (1, 3, n, n) float32.

    Source: `BaseSession.normalize` of rembg 2.0.86, whose numbers it keeps. Averaging a large
    picture in boxes first, as Pillow's own `reducing_gap` does more slowly, is ours.
    """
    reduced, box = _reduce(image, weights.input_px * LARGE_SOURCE_GAP, threads)
    return _normalised(reduced, box, weights, threads)


def _normalised(
    reduced: NDArray[np.uint8], box: Box, weights: Weights, threads: int
) -> NDArray[np.float32]:
    pixels = _resize(reduced, box, weights.input_px, threads)
    largest = float(pixels.max()) if weights.is_scaled_by_largest else BYTE_MAX
    std = np.array(weights.std)
    factor = (1 / (max(largest, ALMOST_NOTHING) * std)).astype(np.float32)
    offset = (np.array(weights.mean) / std).astype(np.float32)
    planes = pixels.transpose(2, 0, 1)[None] * factor[:, None, None] - offset[:, None, None]
    return np.ascontiguousarray(planes)


def _resize(image: NDArray[np.uint8], box: Box, side_px: int, threads: int) -> NDArray[np.uint8]:
    """Scale `box` of `image` to a square by Lanczos; threads may share it, to the same result.

    Pillow rounds between its two passes, and on a picture higher than wide may begin with the
    columns: that one is left to it whole. Else it begins with the rows, which can be shared out,
    and so can the columns of what that gives.
    """
    left, top, right, bottom = box
    height_px, width_px = image.shape[:2]
    if threads == 1 or height_px > width_px:
        return _lanczos(image, (side_px, side_px), box)

    def narrow(first: int, last: int) -> NDArray[np.uint8]:
        return _lanczos(image[first:last], (side_px, last - first), (left, 0, right, last - first))

    def flatten(first: int, last: int) -> NDArray[np.uint8]:
        columns = np.ascontiguousarray(narrowed[:, first:last])
        return _lanczos(columns, (last - first, side_px), (0, top, last - first, bottom))

    rows, columns = _shares(height_px, threads), _shares(side_px, threads)
    narrowed = np.concatenate(at_once([partial(narrow, *share) for share in rows], threads))
    flat = at_once([partial(flatten, *share) for share in columns], threads)
    return np.concatenate(flat, axis=1)


def _lanczos(image: NDArray[np.uint8], size_px: tuple[int, int], box: Box) -> NDArray[np.uint8]:
    scaled = Image.fromarray(image).resize(size_px, Image.Resampling.LANCZOS, box)
    return np.asarray(scaled)


def _shares(rows_px: int, threads: int) -> list[tuple[int, int]]:
    """Cut so many rows into a share for each thread: first row, and one past the last."""
    cuts = np.linspace(0, rows_px, min(rows_px, threads) + 1).round().astype(int)
    return list(pairwise(cuts.tolist()))


def _reduce(image: NDArray[np.uint8], side_px: int, threads: int) -> tuple[NDArray[np.uint8], Box]:
    """Average whole boxes of pixels while at least `side_px` are left, exactly, remainder and all.

    Returns:
        The reduced picture, and the part of it that is the whole of `image`: its last row and
        column may be averages of fewer pixels.
    """
    height_px, width_px = image.shape[:2]
    step_x, step_y = max(1, width_px // side_px), max(1, height_px // side_px)
    box = (0.0, 0.0, width_px / step_x, height_px / step_y)
    if step_x == step_y == 1:
        return image, box
    whole_x, whole_y = width_px // step_x, height_px // step_y
    reduced = np.empty((-(-height_px // step_y), -(-width_px // step_x), 3), np.uint8)

    def average(first: int, last: int) -> None:
        source = image[first * step_y : last * step_y]
        for columns, source_columns in (
            (slice(0, whole_x), slice(0, whole_x * step_x)),
            (slice(whole_x, None), slice(whole_x * step_x, None)),
        ):
            target = reduced[first:last, columns]
            if target.size:
                size_px = (target.shape[1], target.shape[0])
                part = source[:, source_columns]
                target[:] = cv2.resize(part, size_px, interpolation=cv2.INTER_AREA)

    rows = [*_shares(whole_y, threads), (whole_y, len(reduced))]
    at_once([partial(average, *share) for share in rows], threads)
    return reduced, box


def _read_saliency(raw: NDArray[np.float32], weights: Weights) -> RawAndMask:
    low, high = (float(raw.min()), float(raw.max())) if weights.is_stretched else HAZE
    if high <= low:
        return raw, np.zeros_like(raw)
    return raw, np.clip((raw - low) / (high - low), 0, 1)


def _read_classes(
    scores: NDArray[np.float32], classes: tuple[str, ...], clothes: Clothes
) -> RawAndMask:
    """Join the wanted classes, (c, n, n) scores, into one mask; rembg stacks one mask per class."""
    wanted = [at for at, name in enumerate(classes) if at and clothes in {"all", name}]
    likelihood = np.exp(scores - scores.max(axis=0))
    likelihood /= likelihood.sum(axis=0)
    mask = np.isin(scores.argmax(axis=0), wanted).astype(np.float32)
    return likelihood[wanted].sum(axis=0), mask


def load_segmenter(
    name: str,
    folder: Path | None,
    *,
    threads: int = 1,
    provider: str = CPU,
) -> Segmenter:
    """Load the weights of `name` after checking that they are the file the table names.

    The first call settles two things for the whole process (docs/adr/0023): OpenCV's own threads
    are switched off, and glibc keeps small blocks of freed memory.

    Raises:
        UnknownModelError, WeightsNotInstalledError: see `find_weights`.
        WeightsCorruptError: the file has another checksum.
        ProviderUnavailableError: onnxruntime would run on another provider.
    """
    keep_opencv_to_one_thread()
    keep_small_blocks()
    path = find_weights(name, folder)
    weights = WEIGHTS[name]
    contents = _read(path, weights)
    is_on_cpu = provider == CPU
    graph = rearranged(contents) if is_on_cpu else contents  # it is arranged for that one's kernels
    ort_session, got = _start_session(graph, threads, provider)
    memory_bytes = round(len(contents) * RESIDENT_PER_FILE_BYTE) + weights.working_bytes
    if not weights.is_edge_mended:
        return Segmenter(weights, got, threads, memory_bytes, ort_session, None)
    memory_bytes += EDGE.working_bytes
    return Segmenter(weights, got, threads, memory_bytes, ort_session, load_edge(threads))


def _read(path: Path, weights: Weights) -> bytes:
    contents = path.read_bytes()
    if hashlib.sha256(contents).hexdigest() not in weights.checksums:
        raise WeightsCorruptError(weights.name)
    return contents


def load_edge(threads: int = 1) -> EdgeNetwork:
    """Load cutout-edge, which ships with the project.

    Raises:
        WeightsCorruptError: the file has another checksum.
    """
    contents = _read(EMBEDDED_FOLDER / EDGE.file_name, EDGE)
    return EdgeNetwork(_start_session(contents, threads, CPU)[0], threads)


def _start_session(contents: bytes, threads: int, provider: str) -> tuple[Any, str]:
    if provider not in onnxruntime.get_available_providers():
        raise ProviderUnavailableError(provider, "none")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Its second plan of the same memory is no faster and nearly doubles what is held.
    options.enable_mem_pattern = False
    # Waiting threads would spin on, past the run's end, on the cores that the next steps need.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = ONNXRUNTIME_LOGS_ERRORS_ONLY
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    ort_session = onnxruntime.InferenceSession(contents, options, providers=[provider])
    got = ort_session.get_providers()[0]
    if got != provider:
        # A provider whose libraries are missing steps aside without a word; we do not.
        raise ProviderUnavailableError(provider, got)
    return ort_session, got
