"""What a file says about itself before a pixel is decoded: format, size, alpha, frames.

Formats are told by magic bytes and parsed here, not by an imaging library, so that a hostile file
is refused for the price of reading its first bytes.
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from core.errors import (
    ImageTooLargeError,
    TooManyFramesError,
    UnreadableImageError,
    UnsupportedFormatError,
)

PNG_MAGIC: Final = b"\x89PNG\r\n\x1a\n"
BMP_HEADER_SIZES: Final = frozenset({12, 16, 40, 52, 56, 64, 108, 124})
# Start-of-frame markers; C4, C8 and CC are tables and extensions.
JPEG_SOF: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
JPEG_STANDALONE: Final = frozenset({0x01, *range(0xD0, 0xD9)})
FOREIGN_MAGIC: Final = (
    (b"GIF8", "gif"),
    (b"II*\x00", "tiff"),
    (b"MM\x00*", "tiff"),
    (b"II+\x00", "tiff"),
    (b"MM\x00+", "tiff"),
    (b"%PDF", "pdf"),
    (b"8BPS", "psd"),
    (b"\x00\x00\x01\x00", "ico"),
    (b"\x00\x00\x00\x0cjP", "jp2"),
    (b"\xff\x4f\xff\x51", "jp2"),
    (b"\x00\x00\x00\x0cJXL", "jxl"),
    (b"\xff\x0a", "jxl"),
)
FTYP_BRANDS: Final = {
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1"), "heic"),
    **dict.fromkeys((b"avif", b"avis"), "avif"),
    **dict.fromkeys((b"isom", b"iso2", b"mp41", b"mp42", b"avc1", b"qt  "), "video"),
}
TEXT_PROBE_BYTES: Final = 1024
PARTS_MAX: Final = 10_000
"""Chunks or segments before the picture: real files have some dozens, a hostile one millions."""
JPEG_MARKER: Final = re.compile(rb"\xff{1,1000}([^\xff])")
"""Fill may stand before a marker; Pillow steps over it byte by byte, so it has an end here."""


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """What is refused by its header alone."""

    pixels_max: int = 50_000_000
    edge_px_max: int = 16_000
    ratio_max: int = 100

    def breach_of(self, width_px: int, height_px: int) -> str | None:
        """Say which limit a picture of this size is over; None where it is within them all."""
        short_px, long_px = sorted((width_px, height_px))
        if width_px * height_px > self.pixels_max:
            return f"more than {self.pixels_max:,} pixels"
        if long_px > self.edge_px_max:
            return f"longer than {self.edge_px_max:,} px"
        if long_px > short_px * self.ratio_max:
            return f"one side more than {self.ratio_max} times the other"
        return None


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """A file's own account of itself; width and height as stored, before any EXIF turn."""

    format: str
    width_px: int
    height_px: int
    has_alpha: bool
    frames: int = 1


def inspect(source: bytes, limits: ImageLimits = ImageLimits()) -> ImageHeader:
    """Read the header of `source` and hold it against `limits`; no pixel is decoded.

    Raises:
        UnsupportedFormatError: not PNG, JPEG, WebP or BMP; names what it is, where that is known.
        UnreadableImageError: one of them, with a header that makes no sense or is cut off.
        TooManyFramesError: an animated PNG or WebP.
        ImageTooLargeError: too many pixels, too long an edge, or too thin.
    """
    read = READERS[sniff(source)]
    try:
        header = read(source)
    except (struct.error, IndexError) as exc:
        raise UnreadableImageError("the header is cut off") from exc
    width_px, height_px = header.width_px, header.height_px
    if width_px < 1 or height_px < 1 or header.frames < 1:
        raise UnreadableImageError(f"{header.frames} frames of {width_px} x {height_px} px")
    if header.frames > 1:
        raise TooManyFramesError(header.frames)
    if why := limits.breach_of(width_px, height_px):
        raise ImageTooLargeError(width_px, height_px, why)
    return header


def sniff(source: bytes) -> str:
    """Name the format by magic bytes: png, jpeg, webp or bmp; anything else is refused by name."""
    if not source:
        raise UnreadableImageError("no bytes")
    if source.startswith(PNG_MAGIC):
        return "png"
    if source.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if source[:4] == b"RIFF" and source[8:12] == b"WEBP":
        return "webp"
    if source[:2] == b"BM" and int.from_bytes(source[14:18], "little") in BMP_HEADER_SIZES:
        return "bmp"
    raise UnsupportedFormatError(_foreign_format(source))


def _foreign_format(source: bytes) -> str:
    for magic, name in FOREIGN_MAGIC:
        if source.startswith(magic):
            return name
    if source[4:8] == b"ftyp":
        return FTYP_BRANDS.get(source[8:12], "unknown")
    text = source[:TEXT_PROBE_BYTES].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype html", b"<html")):
        return "html"
    if text.startswith((b"<svg", b"<?xml", b"<!--")) and b"<svg" in text:
        return "svg"
    return "unknown"


def _read_png(source: bytes) -> ImageHeader:
    length, kind, width_px, height_px, _, colour_type = struct.unpack_from(">I4sIIBB", source, 8)
    if kind != b"IHDR" or length != 13:  # noqa: PLR2004 - IHDR is 13 bytes by the standard
        raise UnreadableImageError("PNG without IHDR")
    has_alpha, frames, at = colour_type in {4, 6}, 1, 8
    for _ in _parts():
        length, kind = struct.unpack_from(">I4s", source, at)
        if kind == b"IDAT":
            break
        if kind == b"tRNS":
            has_alpha = True
        elif kind == b"acTL":
            (frames,) = struct.unpack_from(">I", source, at + 8)
        at += length + 12
    return ImageHeader("png", width_px, height_px, has_alpha, frames)


def _parts() -> Iterator[int]:
    """Count the parts of a file that are walked through; too many are refused."""
    yield from range(PARTS_MAX)
    raise UnreadableImageError(f"more than {PARTS_MAX} parts before the picture")


def _read_jpeg(source: bytes) -> ImageHeader:
    at = 2
    for _ in _parts():
        found = JPEG_MARKER.match(source, at)
        if found is None:
            raise UnreadableImageError("JPEG segment without marker")
        at, marker = found.end(), found[1][0]
        if marker in JPEG_STANDALONE:
            continue
        if marker in JPEG_SOF:
            height_px, width_px = struct.unpack_from(">HH", source, at + 3)
            return ImageHeader("jpeg", width_px, height_px, has_alpha=False)
        (length,) = struct.unpack_from(">H", source, at)
        if length < 2 or marker in {0xD9, 0xDA}:  # noqa: PLR2004 - length counts itself
            break
        at += length
    raise UnreadableImageError("JPEG without a frame header")


def _read_webp(source: bytes) -> ImageHeader:
    kind = source[12:16]
    if kind == b"VP8 ":
        start, width, height = struct.unpack_from("<3sHH", source, 23)
        if start != b"\x9d\x01\x2a":
            raise UnreadableImageError("WebP without a key frame")
        return ImageHeader("webp", width & 0x3FFF, height & 0x3FFF, has_alpha=False)
    if kind == b"VP8L":
        signature, bits = struct.unpack_from("<BI", source, 20)
        if signature != 0x2F:  # noqa: PLR2004 - by the standard
            raise UnreadableImageError("WebP without a lossless signature")
        width_px, height_px = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
        return ImageHeader("webp", width_px, height_px, has_alpha=bool(bits >> 28 & 1))
    if kind == b"VP8X":
        flags, size = source[20], source[24:30]
        width_px = 1 + int.from_bytes(size[:3], "little")
        height_px = 1 + int.from_bytes(size[3:6], "little")
        frames = _count_webp_frames(source) if flags & 0x02 else 1
        if len(size) < 6:  # noqa: PLR2004 - two sizes of three bytes
            raise UnreadableImageError("WebP cut off")
        return ImageHeader("webp", width_px, height_px, bool(flags & 0x10), frames)
    raise UnreadableImageError("WebP without a picture")


def _count_webp_frames(source: bytes) -> int:
    at, frames = 12, 0
    for _ in _parts():
        if at + 8 > len(source):
            break
        kind, length = struct.unpack_from("<4sI", source, at)
        frames += kind == b"ANMF"
        at += 8 + length + (length & 1)
    return frames


def _read_bmp(source: bytes) -> ImageHeader:
    (header_bytes,) = struct.unpack_from("<I", source, 14)
    if header_bytes == 12:  # noqa: PLR2004 - the OS/2 header, with short sizes
        width_px, height_px = struct.unpack_from("<HH", source, 18)
        return ImageHeader("bmp", width_px, height_px, has_alpha=False)
    width_px, height_px = struct.unpack_from("<ii", source, 18)
    has_alpha_mask = header_bytes >= 56 and struct.unpack_from("<I", source, 66) != (0,)  # noqa: PLR2004 - V3 and later
    return ImageHeader("bmp", width_px, abs(height_px), has_alpha_mask)


READERS: Final = {
    "png": _read_png,
    "jpeg": _read_jpeg,
    "webp": _read_webp,
    "bmp": _read_bmp,
}
