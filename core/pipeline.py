"""The steps in order: decode, segment, refine, decontaminate, compose, encode."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import cv2
import numpy as np

from core.confidence import judge
from core.decode import decode
from core.decontaminate import decontaminate
from core.encode import encode_png
from core.errors import NoForegroundError
from core.header import ImageLimits
from core.matting import refine
from core.options import CutoutOptions
from core.segmenter import Segmenter


@dataclass(frozen=True, slots=True)
class Cutout:
    """A finished cutout and what there is to say about it."""

    image: bytes
    extension: str
    media_type: str
    width_px: int
    height_px: int
    confidence: float
    reasons: tuple[str, ...]
    warnings: tuple[str, ...]
    stages_ms: Mapping[str, float]
    refinement: str
    model: str


@dataclass(slots=True)
class Stages:
    """Announces each step before it runs, and times it."""

    announce: Callable[[str], None] | None
    times_ms: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        if self.announce is not None:
            self.announce(name)
        started_s = time.perf_counter()
        yield
        self.times_ms[name] = (time.perf_counter() - started_s) * 1000


def cut_out(
    source: bytes,
    segmenter: Segmenter,
    options: CutoutOptions = CutoutOptions(),  # noqa: B008 - frozen
    *,
    limits: ImageLimits = ImageLimits(),  # noqa: B008 - frozen
    on_stage: Callable[[str], None] | None = None,
) -> Cutout:
    """Cut the subject of `source` out.

    Args:
        source: bytes of a PNG, JPEG, WebP or BMP.
        segmenter: loaded weights.
        options: what to do with the edge, the background and the file.
        limits: what is refused by its header.
        on_stage: called with the name of each step before it runs; may raise to stop.

    Raises:
        CoreError: one of its kinds, by what is wrong; and whatever `on_stage` raises.
    """
    stages = Stages(on_stage)
    with stages("decode"):
        image = decode(source, limits).image
    height_px, width_px = image.shape[:2]
    with stages("segment"):
        prediction = segmenter.segment(image)
    with stages("refine"):
        if options.refine:
            alpha, refinement = refine(image, prediction.mask)
        else:
            coarse = cv2.resize(prediction.mask, (width_px, height_px), None, 0, 0, cv2.INTER_CUBIC)
            alpha, refinement = (np.clip(coarse, 0, 1) * 255 + 0.5).astype(np.uint8), "none"
        confidence, reasons = judge(prediction.raw, prediction.mask, alpha, image)
        if confidence < options.confidence_min:
            raise NoForegroundError(confidence)
    with stages("decontaminate"):
        foreground = decontaminate(image, alpha) if options.decontaminate else image
    with stages("compose"):
        pixels = np.dstack([foreground, alpha])
    with stages("encode"):
        png = encode_png(pixels)
    return Cutout(
        image=png,
        extension="png",
        media_type="image/png",
        width_px=width_px,
        height_px=height_px,
        confidence=confidence,
        reasons=reasons,
        warnings=(),
        stages_ms=stages.times_ms,
        refinement=refinement,
        model=segmenter.name,
    )
