"""Weights -> raw prediction -> mask. onnxruntime lives only here."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from PIL import Image

from core.errors import ProviderUnavailableError, WeightsCorruptError
from core.weights import WEIGHTS, Weights, find_weights

# cutout-lite leaves a grey haze; this much is taken off both ends.
HAZE: Final = (0.2, 0.8)
ONNXRUNTIME_ERRORS_ONLY: Final = 3


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the network said.

    Attributes:
        raw: (n, n) float32, about 0..1, before any stretch: what confidence is judged on.
        mask: (n, n) float32, 0..1, stretched as rembg's session of the same name does.
    """

    raw: NDArray[np.float32]
    mask: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Segmenter:
    """Loaded weights, ready to segment; used by one thread at a time."""

    weights: Weights
    provider: str
    memory_bytes: int
    ort_session: Any

    @property
    def name(self) -> str:
        return self.weights.name

    def segment(self, image: NDArray[np.uint8]) -> Prediction:
        """Find the subject of `image`, (H, W, 3) uint8 sRGB."""
        network_input = prepare(image, self.weights)
        # The first output only: the others are side outputs of training.
        (output,) = self.ort_session.run(
            [self.ort_session.get_outputs()[0].name],
            {self.ort_session.get_inputs()[0].name: network_input},
        )
        return _read(output[0], self.weights)


def prepare(image: NDArray[np.uint8], weights: Weights) -> NDArray[np.float32]:
    """Scale `image` to the network's square and normalise it: (1, 3, n, n) float32."""
    size = (weights.input_px, weights.input_px)
    small = Image.fromarray(image).resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)
    pixels = np.asarray(small).astype(np.float32)
    largest = 255.0 if weights.name == "cutout-lite" else max(float(pixels.max()), 1e-6)
    mean, std = np.array(weights.mean, np.float32), np.array(weights.std, np.float32)
    pixels = (pixels / np.float32(largest) - mean) / std
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)[None])


def _read(output: NDArray[np.float32], weights: Weights) -> Prediction:
    if weights.classes > 1:
        # Class 0 is "no clothes"; the others are joined.
        clothes = (output.argmax(axis=0) > 0).astype(np.float32)
        return Prediction(clothes, clothes)
    raw = output[0]
    if not weights.is_stretched:
        low, high = HAZE
        return Prediction(raw, np.clip((raw - low) / (high - low), 0, 1))
    low, high = float(raw.min()), float(raw.max())
    mask = (raw - low) / (high - low) if high > low else np.zeros_like(raw)
    return Prediction(raw, mask)


def load_segmenter(
    name: str,
    folder: Path | None,
    *,
    threads: int = 1,
    provider: str = "CPUExecutionProvider",
) -> Segmenter:
    """Load the weights of `name` after checking that they are the file the table names.

    Raises:
        UnknownModelError, WeightsNotInstalledError: see `find_weights`.
        WeightsCorruptError: the file has another checksum.
        ProviderUnavailableError: onnxruntime would run on another provider.
    """
    path = find_weights(name, folder)
    weights = WEIGHTS[name]
    contents = path.read_bytes()
    if not _matches(contents, weights):
        raise WeightsCorruptError(name)
    if provider not in onnxruntime.get_available_providers():
        raise ProviderUnavailableError(provider, "none")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = ONNXRUNTIME_ERRORS_ONLY
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    ort_session = onnxruntime.InferenceSession(contents, options, providers=[provider])
    got = ort_session.get_providers()[0]
    if got != provider:
        raise ProviderUnavailableError(provider, got)
    return Segmenter(weights, got, len(contents), ort_session)


def _matches(contents: bytes, weights: Weights) -> bool:
    kinds = {checksum.partition(":")[0] for checksum in weights.checksums}
    return any(
        f"{kind}:{hashlib.new(kind, contents, usedforsecurity=False).hexdigest()}"
        in weights.checksums
        for kind in kinds
    )
