"""Foreground and alpha -> the layers of a file: crop, background, watermark."""

from dataclasses import dataclass, replace
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from core.blend import OPAQUE, blend, blend_translucent
from core.decontaminate import Foreground
from core.errors import InvalidOptionError
from core.header import ImageLimits
from core.options import Colour, CutoutOptions, parse_colour, parse_margin
from core.watermark import watermark_over

Plane = NDArray[np.uint8]
HALF: Final = 128
WHITE: Final[Colour] = (255, 255, 255, 255)
DEFAULT_LIMITS: Final = ImageLimits()
SUBJECT_ALPHA_MIN: Final = 13
"""A twentieth: fainter pixels do not stretch a crop."""


@dataclass(frozen=True, slots=True)
class Layers:
    """What a file holds.

    Attributes:
        colour: (H, W, 3) uint8, or what makes them when asked; None where only alpha was asked for.
        alpha: (H, W) uint8; None where a background made the result opaque.
    """

    colour: Plane | Foreground | None
    alpha: Plane | None

    @property
    def size_px(self) -> tuple[int, int]:
        """Width and height."""
        plane = self.alpha if self.colour is None else self.colour
        if plane is None:
            raise ValueError("no layer at all")
        return plane.shape[1], plane.shape[0]


def compose(
    foreground: Foreground | Plane,
    alpha: Plane,
    options: CutoutOptions,
    background: Plane | None,
    limits: ImageLimits = DEFAULT_LIMITS,
) -> Layers:
    """Crop, lay the background under it, and watermark, as `options` say.

    Args:
        foreground: (H, W, 3) uint8, or what makes them when asked.
        alpha: (H, W) uint8.
        options: what is wanted.
        background: (h, w, 3) uint8, `options.bg_image` decoded.
        limits: a margin makes no result that would be refused as a source.

    Raises:
        InvalidOptionError: the margin would.
    """
    if _shows_all(options):
        return Layers(foreground, alpha)
    return _changed(foreground[:], alpha, options, background, limits)


def _shows_all(options: CutoutOptions) -> bool:
    """Say whether the result is the subject as it is: then its colours can wait until written."""
    changes = (options.crop, options.bg_color, options.watermark, options.channels == "alpha")
    return options.format == "png" and options.bg_image is None and not any(changes)


def _changed(
    foreground: Plane,
    alpha: Plane,
    options: CutoutOptions,
    background: Plane | None,
    limits: ImageLimits,
) -> Layers:
    if options.crop:
        foreground, alpha = crop_to_subject(foreground, alpha, options.crop_margin, limits)
    layers = Layers(foreground, alpha)
    if options.channels == "alpha":
        layers = Layers(None, alpha)
    elif background is not None:
        size_px = (alpha.shape[1], alpha.shape[0])
        layers = Layers(blend(foreground, alpha, cover(background, size_px)), None)
    elif options.bg_color is not None:
        layers = _on_colour(foreground, alpha, parse_colour(options.bg_color))
    if options.format == "jpg" and layers.colour is not None and layers.alpha is not None:
        layers = _on_colour(layers.colour[:], layers.alpha, WHITE)
    return watermark(layers) if options.watermark else layers


def _on_colour(foreground: Plane, alpha: Plane, colour: Colour) -> Layers:
    red, green, blue, opacity = colour
    if opacity < OPAQUE:
        return Layers(*blend_translucent(foreground, alpha, (red, green, blue), opacity))
    return Layers(blend(foreground, alpha, np.array([[(red, green, blue)]], np.uint8)), None)


def crop_to_subject(
    foreground: Plane, alpha: Plane, margin: str | None, limits: ImageLimits = DEFAULT_LIMITS
) -> tuple[Plane, Plane]:
    """Crop to where alpha is, plus `margin`; past the picture's edge the margin is transparent.

    A picture without a subject is left whole.
    """
    left, top, width_px, height_px = subject_box(alpha)
    if not width_px:
        return foreground, alpha
    bottom, right = top + height_px, left + width_px
    if margin is None:
        return foreground[top:bottom, left:right], alpha[top:bottom, left:right]
    above, after, below, before = parse_margin(margin)
    top, bottom = top - above.px_of(height_px), bottom + below.px_of(height_px)
    left, right = left - before.px_of(width_px), right + after.px_of(width_px)
    _hold_against(limits, right - left, bottom - top)
    rows = slice(max(0, top), min(alpha.shape[0], bottom))
    columns = slice(max(0, left), min(alpha.shape[1], right))
    target = (
        slice(rows.start - top, rows.stop - top),
        slice(columns.start - left, columns.stop - left),
    )
    colour = np.zeros((bottom - top, right - left, 3), np.uint8)
    opacity = np.zeros((bottom - top, right - left), np.uint8)
    colour[target], opacity[target] = foreground[rows, columns], alpha[rows, columns]
    return colour, opacity


def _hold_against(limits: ImageLimits, width_px: int, height_px: int) -> None:
    if width_px * height_px > limits.pixels_max or max(width_px, height_px) > limits.edge_px_max:
        raise InvalidOptionError(
            "crop_margin", f"makes a picture of {width_px} x {height_px} px, over the limits"
        )


def subject_box(alpha: Plane) -> tuple[int, int, int, int]:
    """Return left, top, width and height of what is visible; all 0 where nothing is."""
    visible = alpha >= SUBJECT_ALPHA_MIN
    rows = np.flatnonzero(visible.any(axis=1))
    if not rows.size:
        return 0, 0, 0, 0
    columns = np.flatnonzero(visible.any(axis=0))
    left, top = int(columns[0]), int(rows[0])
    return left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top


def cover(background: Plane, size_px: tuple[int, int]) -> Plane:
    """Scale `background` to cover (width, height) and cut what hangs over, evenly on both sides."""
    width_px, height_px = size_px
    have_height_px, have_width_px = background.shape[:2]
    scale = max(width_px / have_width_px, height_px / have_height_px)
    keep_width_px = max(1, min(have_width_px, round(width_px / scale)))
    keep_height_px = max(1, min(have_height_px, round(height_px / scale)))
    left, top = (have_width_px - keep_width_px) // 2, (have_height_px - keep_height_px) // 2
    kept = background[top : top + keep_height_px, left : left + keep_width_px]
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(kept, size_px, interpolation=how), np.uint8)


def watermark(layers: Layers) -> Layers:
    """Write all over the picture that it is a test: in the colour, and in the alpha too."""
    ink, mark = watermark_over(*layers.size_px)
    if layers.colour is None:
        matte = np.asarray(layers.alpha)
        return replace(layers, alpha=np.where(mark, matte ^ HALF, matte))
    written = blend(ink, mark, layers.colour[:])
    return Layers(written, None if layers.alpha is None else np.maximum(layers.alpha, mark))
