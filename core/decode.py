"""Bytes -> upright sRGB pixels, and the source's own transparency where it has some."""

import io
from dataclasses import dataclass
from typing import Final

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, ImageCms

from core.errors import CoreError, UnreadableImageError
from core.header import ImageHeader, ImageLimits, inspect

Pixels = NDArray[np.uint8]

PILLOW_NAMES: Final = {"png": "PNG", "jpeg": "JPEG", "webp": "WEBP", "bmp": "BMP"}
EXIF_ORIENTATION: Final = 0x0112
OPAQUE: Final = 255

# Ours are checked on the header before Pillow sees the file; its own would be a second opinion.
Image.MAX_IMAGE_PIXELS = None


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """Upright pixels.

    Attributes:
        image: (H, W, 3) uint8 sRGB.
        opacity: (H, W) uint8, the source's own alpha; None where the source is opaque.
    """

    image: Pixels
    opacity: Pixels | None


def decode(source: bytes, limits: ImageLimits) -> DecodedImage:
    """Decode `source` once, upright and in sRGB, after its header was held against `limits`.

    Raises:
        UnreadableImageError: the pixels are broken or cut off; and whatever `inspect` raises.
    """
    header = inspect(source, limits)
    try:
        return _decode(source, header)
    except (CoreError, MemoryError):
        raise
    except Exception as exc:
        # Decoders answer broken files with whatever their parser stumbled over.
        raise UnreadableImageError(f"cannot be decoded: {type(exc).__name__}") from exc


def _decode(source: bytes, header: ImageHeader) -> DecodedImage:
    with Image.open(io.BytesIO(source), formats=[PILLOW_NAMES[header.format]]) as opened:
        if opened.size != (header.width_px, header.height_px):
            raise UnreadableImageError("the header and the pixels disagree about the size")
        turn = _orientation(opened)
        profile = opened.info.get("icc_profile")
        image, opacity = _pixels_of(source, opened)
    if profile:
        image = _to_srgb(image, profile)
    if opacity is not None and opacity.min() == OPAQUE:
        opacity = None
    return DecodedImage(_turn(image, turn), None if opacity is None else _turn(opacity, turn))


def _pixels_of(source: bytes, opened: Image.Image) -> tuple[Pixels, Pixels | None]:
    if opened.format in {"JPEG", "MPO"} and opened.mode in {"RGB", "L"}:
        try:
            return simplejpeg.decode_jpeg(source, colorspace="RGB"), None
        except ValueError:
            pass  # recoverable damage, which Pillow is more patient with
    if opened.mode.startswith("I;16"):
        sixteen = np.asarray(opened, np.uint16)
        grey = ((sixteen.astype(np.uint32) * 255 + 32895) >> 16).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2), None
    has_alpha = opened.mode in {"RGBA", "LA", "PA", "La", "RGBa"} or "transparency" in opened.info
    if not has_alpha:
        return np.array(opened.convert("RGB")), None
    rgba = np.asarray(opened.convert("RGBA"))
    return np.ascontiguousarray(rgba[..., :3]), np.ascontiguousarray(rgba[..., 3])


def _orientation(opened: Image.Image) -> int:
    try:
        return int(opened.getexif().get(EXIF_ORIENTATION, 1))
    except Exception:  # noqa: BLE001 - a broken EXIF block is no reason to refuse the picture
        return 1


def _to_srgb(image: Pixels, profile: bytes) -> Pixels:
    try:
        transform = ImageCms.buildTransform(
            ImageCms.ImageCmsProfile(io.BytesIO(profile)),
            ImageCms.createProfile("sRGB"),
            "RGB",
            "RGB",
        )
    except (ImageCms.PyCMSError, OSError):
        return image  # a broken or foreign profile: the numbers are the best guess there is
    return np.asarray(ImageCms.applyTransform(Image.fromarray(image), transform))


def _turn(pixels: Pixels, orientation: int) -> Pixels:
    """Undo EXIF orientation 1-8, as a viewer does."""
    match orientation:
        case 2:
            turned = pixels[:, ::-1]
        case 3:
            turned = pixels[::-1, ::-1]
        case 4:
            turned = pixels[::-1]
        case 5:
            turned = pixels.swapaxes(0, 1)
        case 6:
            turned = pixels.swapaxes(0, 1)[:, ::-1]
        case 7:
            turned = pixels.swapaxes(0, 1)[::-1, ::-1]
        case 8:
            turned = pixels.swapaxes(0, 1)[::-1]
        case _:
            return pixels
    return np.ascontiguousarray(turned)
