"""Layers -> the bytes of a file. Metadata of the source never reaches it."""

import io
import struct
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final

import cv2
import numpy as np
import simplejpeg
from isal import isal_zlib
from numpy.typing import NDArray
from PIL import Image

from core.blend import strips
from core.compose import Layers
from core.errors import InvalidOptionError
from core.header import PNG_MAGIC
from core.options import Format
from core.parallel import at_once

Plane = NDArray[np.uint8]

GREY, RGB, RGBA = 0, 2, 6
UP_FILTER: Final = 2
DEFLATE_LEVEL: Final = 1
"""isa-l's own 0..3: 2 and 3 save less than 1 % of the bytes."""
RAW_DEFLATE: Final = -15
ZLIB_HEADER: Final = b"\x78\x01"
STRIPS_MIN: Final = 8
"""So that a small picture too is written while its colours are still estimated."""
ADLER_PRIME: Final = 65_521
JPEG_QUALITY: Final = 92
WEBP_EDGE_PX_MAX: Final = 16_383
ZIP_EPOCH: Final = (1980, 1, 1, 0, 0, 0)
"""The same cutout is the same bytes, so no entry carries the time."""


@dataclass(frozen=True, slots=True)
class File:
    """Encoded bytes and what to call them."""

    content: bytes
    extension: str
    media_type: str


def encode(layers: Layers, format: Format, threads: int = 1) -> File:  # noqa: A002 - the option
    """Encode `layers`: straight alpha, no metadata."""
    match format:
        case "png":
            return File(encode_png(layers, threads), "png", "image/png")
        case "webp":
            return File(_encode_webp(layers), "webp", "image/webp")
        case "jpg":
            return File(_encode_jpeg(layers), "jpg", "image/jpeg")
        case "zip":
            return File(_encode_zip(layers), "zip", "application/zip")


def encode_png(layers: Layers, threads: int = 1) -> bytes:
    """Write grey, RGB or RGBA.

    Every row is filtered against the one above and deflated by isa-l: an order of magnitude faster
    than Pillow for a somewhat larger file. Strips of rows are deflated apart, so that no second
    copy of the whole picture is made and threads can share them; the bytes do not depend on how
    many there are.
    """
    width_px, height_px = layers.size_px
    colour_type = GREY if layers.colour is None else RGB if layers.alpha is None else RGBA
    cuts = list(strips((height_px, width_px), STRIPS_MIN))

    def deflate(rows: slice) -> Deflated:
        return _deflate(_filtered(layers, rows), is_last=rows.stop == height_px)

    deflated = at_once([partial(deflate, rows) for rows in cuts], threads)
    header = struct.pack(">IIBBBBB", width_px, height_px, 8, colour_type, 0, 0, 0)
    body = [ZLIB_HEADER, *(strip.content for strip in deflated)]
    body.append(struct.pack(">I", _joined_adler32(deflated)))
    return b"".join(
        (
            PNG_MAGIC,
            *_chunk(b"IHDR", [header]),
            *_chunk(b"IDAT", body),
            *_chunk(b"IEND", []),
        )
    )


@dataclass(frozen=True, slots=True)
class Deflated:
    """A strip's part of the stream, and what the checksum of the whole needs of it."""

    content: bytes
    adler32: int
    length_bytes: int


def _deflate(filtered: Plane, *, is_last: bool) -> Deflated:
    stream = isal_zlib.compressobj(DEFLATE_LEVEL, isal_zlib.DEFLATED, RAW_DEFLATE)
    content = stream.compress(filtered)
    content += stream.flush(isal_zlib.Z_FINISH if is_last else isal_zlib.Z_SYNC_FLUSH)
    return Deflated(content, isal_zlib.adler32(filtered), filtered.size)


def _joined_adler32(strips_in_order: list[Deflated]) -> int:
    """Return the checksum of all strips together, from each one's own (RFC 1950)."""
    low, high = 1, 0
    for strip in strips_in_order:
        own_low, own_high = strip.adler32 & 0xFFFF, strip.adler32 >> 16
        high = (high + own_high + strip.length_bytes * (low - 1)) % ADLER_PRIME
        low = (low + own_low - 1) % ADLER_PRIME
    return high << 16 | low


def _filtered(layers: Layers, rows: slice) -> Plane:
    """Return the rows as bytes less the row above each, with the filter's number before each."""
    first = max(0, rows.start - 1)
    pixels = _interleaved(layers, slice(first, rows.stop))
    pixels = pixels.reshape(pixels.shape[0], -1)
    filtered = np.empty((rows.stop - rows.start, 1 + pixels.shape[1]), np.uint8)
    filtered[:, 0] = UP_FILTER
    if rows.start == 0:
        filtered[0, 1:] = pixels[0]
        np.subtract(pixels[1:], pixels[:-1], out=filtered[1:, 1:])
    else:
        np.subtract(pixels[1:], pixels[:-1], out=filtered[:, 1:])
    return filtered


def _interleaved(layers: Layers, strip: slice) -> Plane:
    if layers.colour is None or layers.alpha is None:
        plane = layers.alpha if layers.colour is None else layers.colour
        return np.ascontiguousarray(np.asarray(plane, np.uint8)[strip])
    rows = cv2.cvtColor(layers.colour[strip], cv2.COLOR_RGB2RGBA)
    cv2.insertChannel(np.ascontiguousarray(layers.alpha[strip]), rows, 3)
    return np.asarray(rows, np.uint8)


def _chunk(kind: bytes, body: list[bytes]) -> Iterator[bytes]:
    checksum = isal_zlib.crc32(kind)
    for part in body:
        checksum = isal_zlib.crc32(part, checksum)
    yield struct.pack(">I", sum(map(len, body))) + kind
    yield from body
    yield struct.pack(">I", checksum)


def _encode_webp(layers: Layers) -> bytes:
    """Lossless, the colour under alpha 0 kept: a resize of the result shows no rim either."""
    if max(layers.size_px) > WEBP_EDGE_PX_MAX:
        raise InvalidOptionError("format", f"webp holds at most {WEBP_EDGE_PX_MAX} px a side")
    target = io.BytesIO()
    whole = _interleaved(layers, slice(None))
    Image.fromarray(whole).save(target, "WEBP", lossless=True, method=0, quality=0, exact=True)
    return target.getvalue()


def _encode_jpeg(layers: Layers) -> bytes:
    if layers.colour is None:
        grey = np.ascontiguousarray(np.asarray(layers.alpha, np.uint8)[..., None])
        return bytes(simplejpeg.encode_jpeg(grey, quality=JPEG_QUALITY, colorspace="GRAY"))
    colour = np.ascontiguousarray(layers.colour[:])
    return bytes(simplejpeg.encode_jpeg(colour, quality=JPEG_QUALITY, colorsubsampling="444"))


def _encode_zip(layers: Layers) -> bytes:
    target = io.BytesIO()
    entries = {
        "color.jpg": _encode_jpeg(layers),
        "alpha.png": encode_png(Layers(None, layers.alpha)),
    }
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name, content in entries.items():
            archive.writestr(zipfile.ZipInfo(name, ZIP_EPOCH), content)
    return target.getvalue()
