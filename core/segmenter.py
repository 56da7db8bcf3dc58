"""Weights -> raw prediction -> mask. onnxruntime lives only here."""

import hashlib
import warnings
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from core.allocation import keep_small_blocks
from core.band import shrunk
from core.edge import EdgeNetwork
from core.errors import InvalidOptionError, ProviderUnavailableError, WeightsCorruptError
from core.graph import CPU, ONNXRUNTIME_LOGS_ERRORS_ONLY, rearranged
from core.options import Clothes
from core.parallel import beside, keep_opencv_to_one_thread
from core.prepare import normalised, reduce
from core.weights import EDGE, EDGE_DRAWN, EMBEDDED_FOLDER, WEIGHTS, Weights, find_weights

RawAndMask = tuple[NDArray[np.float32], NDArray[np.float32]]

HAZE: Final = (0.2, 0.8)
"""An opacity network leaves a grey haze; what is outside is none or all."""
SEEN_EDGE_PX: Final = 640
"""Enough for all that looks at the picture as a whole: nothing of it is solved at a larger size."""
RESIDENT_PER_FILE_BYTE: Final = 1.5
"""onnxruntime keeps weights a second time, in the order its kernels like, for some layers."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the network said.

    Attributes:
        raw: (n, n) float32, about 0..1, before any stretch: what confidence is judged on.
        mask: (n, n) float32, 0..1, what rembg's session of the same name makes of it.
        seen: (h, w, 3) uint8, the picture, its long edge at most `SEEN_EDGE_PX`; at the right and
            lower border up to half a pixel may be missing, or there twice.
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
        reduced = reduce(image, self.weights.input_px, self.threads)
        width_px, height_px = reduced.size_px
        shown = reduced.image[: round(height_px), : round(width_px)]
        network_input, seen = beside(
            partial(normalised, reduced, self.weights),
            partial(shrunk, shown, SEEN_EDGE_PX),
            self.threads,
        )
        (output,) = self.ort_session.run([wanted.name], {expected.name: network_input})
        if self.weights.classes:
            return Prediction(*_read_classes(output[0], self.weights.classes, clothes), seen)
        return Prediction(*_read_saliency(output[0, 0], self.weights), seen)

    def warm_up(self) -> None:
        """Run once on a blank picture, so that the first real one is as fast as the rest."""
        side_px = self.weights.input_px
        self.segment(np.zeros((side_px, side_px, 3), np.uint8))
        if self.edge is not None:
            self.edge.warm_up()


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
    ort_session, got = _start(contents, threads, provider)
    memory_bytes = round(len(contents) * RESIDENT_PER_FILE_BYTE) + weights.working_bytes
    if not weights.is_edge_mended:
        return Segmenter(weights, got, threads, memory_bytes, ort_session, None)
    memory_bytes += max(EDGE.working_bytes, EDGE_DRAWN.working_bytes)  # one of them runs
    return Segmenter(weights, got, threads, memory_bytes, ort_session, load_edge(threads))


def _read(path: Path, weights: Weights) -> bytes:
    contents = path.read_bytes()
    if hashlib.sha256(contents).hexdigest() not in weights.checksums:
        raise WeightsCorruptError(weights.name)
    return contents


def load_edge(threads: int = 1) -> EdgeNetwork:
    """Load cutout-edge and cutout-edge-drawn, which ship with the project.

    Raises:
        WeightsCorruptError: a file has another checksum.
    """
    of_soft, of_drawn = (
        _start_session(_read(EMBEDDED_FOLDER / each.file_name, each), threads, CPU)[0]
        for each in (EDGE, EDGE_DRAWN)
    )
    return EdgeNetwork(of_soft, threads, of_drawn)


def _start(contents: bytes, threads: int, provider: str) -> tuple[Any, str]:
    """Start the weights, rearranged where they run on the CPU.

    Weights that cannot be are started as they are, with a warning: slower, for the same answers.
    """
    if provider != CPU:
        return _start_session(contents, threads, provider)
    try:
        return _start_session(rearranged(contents), threads, provider)
    except ProviderUnavailableError:
        raise
    except Exception as exc:  # noqa: BLE001 - of whatever stands in the way of it
        started = _start_session(contents, threads, provider)
        warnings.warn(f"a network runs as released, and slower: {exc}", RuntimeWarning, 3)
        return started


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
