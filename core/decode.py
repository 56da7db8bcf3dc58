"""Bytes -> upright sRGB pixels, and the source's own transparency where it has some."""

import io
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from core.colour import image_to_srgb, rgb_to_srgb
from core.errors import CoreError, UnreadableImageError
from core.header import ImageHeader, ImageLimits, inspect

Pixels = NDArray[np.uint8]

PILLOW_NAMES: Final = {"png": "PNG", "jpeg": "JPEG", "webp": "WEBP", "bmp": "BMP"}
EXIF_ORIENTATION: Final = 0x0112
OPAQUE: Final = 255
SIXTEEN_BIT: Final = "I;16"
JPEG_MARKER: Final = 0xFF
JPEG_START_OF_SCAN: Final = 0xDA
JPEG_SCANS_MAX: Final = 100
"""Each scan of a progressive JPEG costs a pass over the whole picture; real ones have about ten."""

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
        raise UnreadableImageError("the file is cut short or broken") from exc


def _decode(source: bytes, header: ImageHeader) -> DecodedImage:
    with Image.open(io.BytesIO(source), formats=[PILLOW_NAMES[header.format]]) as opened:
        if opened.size != (header.width_px, header.height_px):
            raise UnreadableImageError("the header and the pixels disagree about the size")
        turn = _orientation(opened)
        image, opacity = _pixels_of(source, opened)
    if opacity is not None and opacity.min() == OPAQUE:
        opacity = None
    return DecodedImage(_turn(image, turn), None if opacity is None else _turn(opacity, turn))


def _pixels_of(source: bytes, opened: Image.Image) -> tuple[Pixels, Pixels | None]:
    profile = opened.info.get("icc_profile")
    if opened.format in {"JPEG", "MPO"}:
        return _jpeg_pixels(source, opened, profile), None
    if opened.format == "WEBP":
        return _webp_pixels(source, profile)
    if opened.mode.startswith(SIXTEEN_BIT):
        return _sixteen_bit_pixels(opened, profile)
    has_alpha = opened.mode in {"RGBA", "LA", "PA"} or "transparency" in opened.info
    if not has_alpha:
        return image_to_srgb(opened, profile), None
    rgba = np.asarray(opened if opened.mode == "RGBA" else opened.convert("RGBA"))
    opacity = np.asarray(cv2.extractChannel(rgba, 3), np.uint8)
    if opened.mode in {"L", "LA"}:  # a grey profile knows nothing of three channels
        grey = np.asarray(cv2.extractChannel(rgba, 0), np.uint8)
        return image_to_srgb(Image.fromarray(grey), profile), opacity
    image = np.asarray(cv2.cvtColor(rgba, cv2.COLOR_RGBA2RGB), np.uint8)
    return rgb_to_srgb(image, profile), opacity


def _jpeg_pixels(source: bytes, opened: Image.Image, profile: bytes | None) -> Pixels:
    if _scans_of(source) > JPEG_SCANS_MAX:
        raise UnreadableImageError("more scans than a picture needs")
    if opened.mode == "CMYK" or (opened.mode == "L" and profile):
        return image_to_srgb(opened, profile)
    try:
        image: Pixels = simplejpeg.decode_jpeg(source, colorspace="RGB")
    except ValueError:
        return image_to_srgb(opened, profile)  # damage that Pillow is more patient with
    return rgb_to_srgb(image, profile)


def _scans_of(source: bytes) -> int:
    """Count as `bytes.count` would, in a quarter of its time."""
    stored = np.frombuffer(source, np.uint8)
    is_start = stored[1:] == JPEG_START_OF_SCAN
    is_start &= stored[:-1] == JPEG_MARKER
    return int(np.count_nonzero(is_start))


def _webp_pixels(source: bytes, profile: bytes | None) -> tuple[Pixels, Pixels | None]:
    """Decode by OpenCV: the same library inside, less than half the time and a third of the memory.

    Pillow decodes every WebP as an animation, onto two canvases. (PNG stays with Pillow: OpenCV is
    a fifth faster there, but its libpng writes each broken file of a customer to our stderr.)
    """
    pixels = cv2.imdecode(np.frombuffer(source, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.ndim != 3:  # noqa: PLR2004 - (H, W, C)
        raise UnreadableImageError("the WebP is broken")
    has_alpha = pixels.shape[2] == 4  # noqa: PLR2004 - blue, green, red, alpha
    opacity = np.asarray(cv2.extractChannel(pixels, 3), np.uint8) if has_alpha else None
    way = cv2.COLOR_BGRA2RGB if has_alpha else cv2.COLOR_BGR2RGB
    image = np.asarray(cv2.cvtColor(pixels, way), np.uint8)
    return rgb_to_srgb(image, profile), opacity


def _sixteen_bit_pixels(opened: Image.Image, profile: bytes | None) -> tuple[Pixels, Pixels | None]:
    """Grey of 16 bits, which Pillow would clip instead of scaling."""
    sixteen = np.asarray(opened, np.uint16)
    grey = ((sixteen.astype(np.uint32) * OPAQUE + 32_895) >> 16).astype(np.uint8)
    see_through = opened.info.get("transparency")
    opacity = None
    if isinstance(see_through, int):
        opacity = np.where(sixteen == see_through, 0, OPAQUE).astype(np.uint8)
    return image_to_srgb(Image.fromarray(grey), profile), opacity


def _orientation(opened: Image.Image) -> int:
    try:
        return int(opened.getexif().get(EXIF_ORIENTATION, 1))
    except Exception:  # noqa: BLE001 - a broken EXIF block is no reason to refuse the picture
        return 1


def _turn(pixels: Pixels, orientation: int) -> Pixels:
    """Undo EXIF orientation 1-8, as a viewer does."""
    match orientation:
        case 2:
            turned = cv2.flip(pixels, 1)
        case 3:
            turned = cv2.rotate(pixels, cv2.ROTATE_180)
        case 4:
            turned = cv2.flip(pixels, 0)
        case 5:
            turned = cv2.transpose(pixels)
        case 6:
            turned = cv2.rotate(pixels, cv2.ROTATE_90_CLOCKWISE)
        case 7:
            turned = cv2.flip(cv2.transpose(pixels), -1)
        case 8:
            turned = cv2.rotate(pixels, cv2.ROTATE_90_COUNTERCLOCKWISE)
        case _:
            return pixels
    return np.asarray(turned, np.uint8)
