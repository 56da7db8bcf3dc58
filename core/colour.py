"""Whatever a picture's colour profile says, its pixels become sRGB."""

import io
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from core.icc import matrix_way

Pixels = NDArray[np.uint8]

PROBE_STEPS: Final = 9
PROBE_TOLERANCE: Final = 1
"""Two ways that move no probe colour further apart than this are one way, but for rounding."""


def image_to_srgb(opened: Image.Image, profile: bytes | None) -> Pixels:
    """Return (H, W, 3) sRGB of a picture without alpha: grey, CMYK, or what converts to RGB."""
    if profile and opened.mode in {"L", "CMYK"}:
        transform = _transform_to_srgb(profile, opened.mode)
        if transform is not None:
            return np.asarray(ImageCms.applyTransform(opened, transform))
        profile = None
    return rgb_to_srgb(np.asarray(opened.convert("RGB")), profile)


def rgb_to_srgb(image: Pixels, profile: bytes | None) -> Pixels:
    """Return (H, W, 3) sRGB.

    A profile that is sRGB under another name changes no value. A broken one, or one of another
    colour space than the pixels', is passed over: the numbers are the best guess there is.
    """
    transform = _transform_to_srgb(profile, "RGB") if profile else None
    if profile is None or transform is None:
        return image
    probe = _probe()
    moved = np.asarray(ImageCms.applyTransform(Image.fromarray(probe), transform))
    if _is_same(moved, probe):
        return image
    way = matrix_way(profile)
    if way is not None and _is_same(moved, way.convert(probe)):
        return way.convert(image)
    return np.asarray(ImageCms.applyTransform(Image.fromarray(image), transform))


def _transform_to_srgb(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    try:
        return ImageCms.buildTransform(
            ImageCms.ImageCmsProfile(io.BytesIO(profile)),
            ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
        )
    except (ImageCms.PyCMSError, OSError):
        return None


def _is_same(one: Pixels, other: Pixels) -> bool:
    return int(np.abs(one.astype(np.int16) - other).max()) <= PROBE_TOLERANCE


def _probe() -> Pixels:
    """Lay all mixtures of some levels of the three channels out as a picture."""
    steps = np.linspace(0, 255, PROBE_STEPS).astype(np.uint8)
    colours = np.stack(np.meshgrid(steps, steps, steps), axis=-1)
    return np.ascontiguousarray(colours.reshape(PROBE_STEPS, -1, 3))
