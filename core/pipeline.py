"""The steps in order: decode, segment, refine, decontaminate, compose, encode."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from core import transparency
from core.compose import SUBJECT_ALPHA_MIN, compose
from core.confidence import LOW_RESOLUTION_PX, doubt_edge, judge
from core.cutout import Cutout, Stages, Subject
from core.decode import decode
from core.decontaminate import Foreground, coarse_colours
from core.encode import encode
from core.errors import CoreError, InvalidOptionError, NoForegroundError
from core.header import ImageLimits, inspect
from core.matting import FullSize, Matte, solve, unrefined
from core.options import CutoutOptions
from core.parallel import beside
from core.roi import box_of, place
from core.segmenter import Prediction, Segmenter

Plane = NDArray[np.uint8]

BYTES_PER_PIXEL_PEAK: Final = 28
"""Memory that one picture takes at most while it is worked on, beside the segmenter's own.

Measured at 12 megapixels (tests/core/test_memory.py): 7 from JPEG to PNG, 15 from alpha to PNG,
26 to WebP, whose lossless encoder is the hungriest. A background image comes on top.
"""
OF_THE_SUBJECT: Final = (
    "transparency",
    "roi",
    "refine",
    "decontaminate",
    "confidence_min",
    "clothes",
)
"""Options that decide what is cut out; the others only decide how it is shown."""
DEFAULT_OPTIONS: Final = CutoutOptions()
DEFAULT_LIMITS: Final = ImageLimits()


def cut_out(  # noqa: PLR0913 - what to cut out, and what one call of it may do
    source: bytes,
    segmenter: Segmenter,
    options: CutoutOptions = DEFAULT_OPTIONS,
    *,
    limits: ImageLimits = DEFAULT_LIMITS,
    on_stage: Callable[[str], None] | None = None,
    deadline_s: float | None = None,
) -> Cutout:
    """Cut the subject of `source` out.

    Args:
        source: bytes of a PNG, JPEG, WebP or BMP.
        segmenter: loaded weights.
        options: what to do with the edge, the background and the file.
        limits: what is refused by its header.
        on_stage: called with the name of each step before it runs; may raise to stop.
        deadline_s: a `time.monotonic()` moment past which the edge is refined no further.

    Raises:
        CoreError: one of its kinds, by what is wrong; and whatever `on_stage` raises.
    """
    (cutout,) = cut_out_many(
        source, segmenter, [options], limits=limits, on_stage=on_stage, deadline_s=deadline_s
    )
    return cutout


def cut_out_many(  # noqa: PLR0913 - as `cut_out`
    source: bytes,
    segmenter: Segmenter,
    variants: Iterable[CutoutOptions],
    *,
    limits: ImageLimits = DEFAULT_LIMITS,
    on_stage: Callable[[str], None] | None = None,
    deadline_s: float | None = None,
) -> list[Cutout]:
    """Cut the subject of `source` out once and show it in several ways.

    Raises:
        InvalidOptionError: two variants disagree about the subject itself (`OF_THE_SUBJECT`).
        CoreError: as `cut_out`.
    """
    wanted = list(variants)
    if not wanted:
        return []
    _check(wanted, limits)
    stages = Stages(on_stage, deadline_s)
    subject = extract(source, segmenter, wanted[0], limits, stages)
    return [render(subject, options, limits, stages, segmenter.threads) for options in wanted]


def extract(
    source: bytes,
    segmenter: Segmenter,
    options: CutoutOptions,
    limits: ImageLimits,
    stages: Stages,
) -> Subject:
    """Find the subject, its alpha at full resolution and its own colours."""
    with stages("decode"):
        decoded = decode(source, limits)
        shown = transparency.settle(decoded, options.transparency)
        box = box_of(options.roi, shown.image.shape)
        region = np.ascontiguousarray(shown.image[box])
        is_whole = region.shape == shown.image.shape and shown.opacity is None
    with stages("segment"):
        prediction = segmenter.segment(region, options.clothes)
    with stages("refine"):
        matte, edge_doubts = beside(
            partial(_matte, region, prediction, options, stages.deadline_s, segmenter),
            partial(doubt_edge, prediction.seen, prediction.mask),
            segmenter.threads,
        )
        edge_px = max(region.shape)
        raw, mask = prediction.raw, prediction.mask
        confidence, reasons = judge(raw, mask, matte.alpha, edge_px, edge_doubts)
        if confidence < options.confidence_min:
            raise NoForegroundError(confidence, options.confidence_min)
        full = FullSize(matte, region)
        # Of a whole picture alpha is made with the colours, row by row, while the file is written.
        is_made_later = is_whole and options.decontaminate
        alpha = full.alpha if is_made_later else place(full.whole(), box, shown.image.shape)
        if shown.opacity is not None:
            alpha = transparency.join(alpha, shown.opacity, options.transparency)
    with stages("decontaminate"):
        if is_made_later:
            colours = coarse_colours(matte.picture, matte.alpha, shown.image.shape)
            foreground: Foreground | Plane = Foreground(
                shown.image, alpha, colours, make_alpha=full.up_to, may_overwrite=True
            )
        elif options.decontaminate:
            foreground = Foreground(shown.image, alpha, may_overwrite=shown.opacity is None)
        else:
            foreground = _hide(shown.image, alpha)
        if shown.opacity is not None:
            foreground = foreground[:]
            transparency.restore_own_colours(foreground, decoded.image, alpha, shown.opacity)
    warnings = _warnings(alpha)
    return Subject(foreground, alpha, confidence, reasons, warnings, matte.method, segmenter.name)


def _matte(
    region: Plane,
    prediction: Prediction,
    options: CutoutOptions,
    deadline_s: float | None,
    segmenter: Segmenter,
) -> Matte:
    if not options.refine:
        return unrefined(prediction.seen, prediction.mask)
    return solve(
        region,
        prediction.mask,
        seen=prediction.seen,
        edge=segmenter.edge,
        deadline_s=deadline_s,
        threads=segmenter.threads,
    )


def render(
    subject: Subject,
    options: CutoutOptions,
    limits: ImageLimits,
    stages: Stages,
    threads: int,
) -> Cutout:
    """Show `subject` as `options` say: crop, background, file."""
    with stages("compose"):
        background = None if options.bg_image is None else _backdrop(options.bg_image, limits)
        layers = compose(subject.foreground, subject.alpha, options, background, limits)
    with stages("encode"):
        encoded = encode(layers, options.format, threads)
    if subject.alpha.max() < SUBJECT_ALPHA_MIN:  # nobody should get, and pay for, an empty picture
        raise NoForegroundError(subject.confidence)
    width_px, height_px = layers.size_px
    return Cutout(
        image=encoded.content,
        extension=encoded.extension,
        media_type=encoded.media_type,
        width_px=width_px,
        height_px=height_px,
        confidence=subject.confidence,
        reasons=subject.reasons,
        warnings=subject.warnings,
        stages_ms=dict(stages.times_ms),
        refinement=subject.refinement,
        model=subject.model,
    )


def _check(wanted: list[CutoutOptions], limits: ImageLimits) -> None:
    """Refuse what cannot be done before any work is done on the picture."""
    for options in wanted:
        for name in OF_THE_SUBJECT:
            if getattr(options, name) != getattr(wanted[0], name):
                raise InvalidOptionError(name, "is the same for every showing of one subject")
        if options.bg_image is not None:
            with _blaming("bg_image"):
                inspect(options.bg_image, limits)


def _backdrop(bg_image: bytes, limits: ImageLimits) -> Plane:
    with _blaming("bg_image"):
        return transparency.flatten(decode(bg_image, limits))


@contextmanager
def _blaming(field: str) -> Iterator[None]:
    """Say of what is wrong with a picture that it is not the source."""
    try:
        yield
    except CoreError as exc:
        exc.field = field
        raise


def _hide(image: Plane, alpha: Plane) -> Plane:
    """Blacken what is fully transparent: taking alpha away must not show it again."""
    return np.asarray(cv2.bitwise_and(image, image, mask=alpha), np.uint8)


def _warnings(alpha: Plane) -> tuple[str, ...]:
    if max(alpha.shape) >= LOW_RESOLUTION_PX:
        return ()
    return (f"the picture's long edge is under {LOW_RESOLUTION_PX} px: its edges will look coarse",)
