"""What a file says about itself is believed only within limits."""

import struct
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from core import CoreError, ImageLimits, inspect
from core.errors import (
    ImageTooLargeError,
    TooManyFramesError,
    UnreadableImageError,
    UnsupportedFormatError,
)
from tests.core.conftest import encoded

FORMATS = {"PNG": "png", "JPEG": "jpeg", "WEBP": "webp", "BMP": "bmp"}


def blank(width_px: int, height_px: int, file_format: str, mode: str = "RGB") -> bytes:
    buffer = BytesIO()
    Image.new(mode, (width_px, height_px)).save(buffer, file_format)
    return buffer.getvalue()


@given(
    st.integers(1, 300),
    st.integers(1, 300),
    st.sampled_from(sorted(FORMATS)),
    st.sampled_from(["alpha", "opaque"]),
)
@settings(max_examples=60, deadline=None)
def test_the_header_tells_format_size_and_alpha(
    width_px: int, height_px: int, file_format: str, wants: str
) -> None:
    has_alpha = wants == "alpha" and file_format in {"PNG", "WEBP"}
    mode = "RGBA" if has_alpha else "RGB"

    header = inspect(blank(width_px, height_px, file_format, mode), ImageLimits(ratio_max=300))

    assert (header.format, header.width_px, header.height_px, header.has_alpha) == (
        FORMATS[file_format],
        width_px,
        height_px,
        has_alpha,
    )


@pytest.mark.parametrize("options", [{"lossless": True}, {"quality": 80}])
def test_each_kind_of_webp_is_measured(options: dict[str, int]) -> None:
    for channels in (3, 4):
        pixels = np.random.default_rng(5).integers(0, 255, (41, 67, channels), np.uint8)
        header = inspect(encoded(pixels, "WEBP", **options))
        assert (header.width_px, header.height_px, header.has_alpha) == (67, 41, channels == 4)


def test_a_key_colour_counts_as_alpha() -> None:
    buffer = BytesIO()
    Image.new("P", (8, 8)).save(buffer, "PNG", transparency=0)
    assert inspect(buffer.getvalue()).has_alpha


def test_a_bitmap_stored_top_down_has_a_positive_height() -> None:
    source = bytearray(blank(7, 9, "BMP"))
    source[22:26] = struct.pack("<i", -9)
    assert inspect(bytes(source)).height_px == 9


@pytest.mark.parametrize(
    ("source", "name"),
    [
        (b"GIF89a" + bytes(20), "gif"),
        (b"II*\x00" + bytes(20), "tiff"),
        (b"MM\x00*" + bytes(20), "tiff"),
        (b"\x00\x00\x00\x18ftypheic" + bytes(20), "heic"),
        (b"\x00\x00\x00\x18ftypmif1" + bytes(20), "heic"),
        (b"\x00\x00\x00\x18ftypavif" + bytes(20), "avif"),
        (b"\x00\x00\x00\x18ftypisom" + bytes(20), "video"),
        (b"\x00\x00\x00\x0cJXL \r\n\x87\n" + bytes(20), "jxl"),
        (b"%PDF-1.7\n" + bytes(20), "pdf"),
        (b"8BPS\x00\x01" + bytes(20), "psd"),
        (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "svg"),
        (b"\xef\xbb\xbf <svg/>", "svg"),
        (b"<!DOCTYPE html><title>404</title>", "html"),
        (b"hello, I am a text", "unknown"),
        (b"BM but no bitmap at all, only text", "unknown"),
    ],
)
def test_other_formats_are_refused_by_name(source: bytes, name: str) -> None:
    with pytest.raises(UnsupportedFormatError) as refused:
        inspect(source)
    assert refused.value.format_name == name


def test_a_renamed_gif_is_still_a_gif(astronaut: bytes) -> None:
    buffer = BytesIO()
    Image.open(BytesIO(astronaut)).convert("P").save(buffer, "GIF")
    with pytest.raises(UnsupportedFormatError, match="gif"):
        inspect(buffer.getvalue())


@pytest.mark.parametrize("file_format", ["PNG", "WEBP"])
def test_animations_are_refused_with_their_frames(file_format: str) -> None:
    frames = [Image.new("RGB", (30, 20), colour) for colour in ("red", "green", "blue")]
    buffer = BytesIO()
    frames[0].save(buffer, file_format, save_all=True, append_images=frames[1:], duration=50)
    with pytest.raises(TooManyFramesError) as refused:
        inspect(buffer.getvalue())
    assert refused.value.frames == 3


@pytest.mark.parametrize(
    ("width_px", "height_px"),
    [(20_000, 10_000), (16_001, 200), (1, 101), (5_001, 50)],
    ids=["pixels", "edge", "tall", "thin"],
)
def test_limits_hold_before_any_pixel_is_there(width_px: int, height_px: int) -> None:
    header = struct.pack(">IIBBBBB", width_px, height_px, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + header + bytes(4)
    bomb += struct.pack(">I", 0) + b"IDAT" + bytes(4)
    with pytest.raises(ImageTooLargeError) as refused:
        inspect(bomb)
    assert (refused.value.width_px, refused.value.height_px) == (width_px, height_px)


@pytest.mark.parametrize(
    ("size_px", "why"),
    [
        ((8_000, 7_000), "more than 50,000,000 pixels"),
        ((17_000, 1_000), "longer than 16,000 px"),
        ((10, 1_001), "one side more than 100 times the other"),
        ((1_000, 10), None),
    ],
)
def test_the_limit_that_is_breached_is_named(size_px: tuple[int, int], why: str | None) -> None:
    assert ImageLimits().breach_of(*size_px) == why


def test_the_limits_themselves_are_allowed() -> None:
    limits = ImageLimits(pixels_max=5_000, edge_px_max=100, ratio_max=2)
    assert inspect(blank(100, 50, "PNG"), limits).width_px == 100


@pytest.mark.parametrize("file_format", sorted(FORMATS))
def test_a_file_cut_in_its_header_is_unreadable(file_format: str) -> None:
    whole = blank(40, 30, file_format)
    with pytest.raises((UnreadableImageError, UnsupportedFormatError)):
        inspect(whole[:20])


MANY = 200_000
PNG_START = blank(8, 8, "PNG")[:33]
WEBP_START = b"RIFF\0\0\0\0WEBPVP8X" + struct.pack("<I", 10) + b"\x02" + bytes(9)


@pytest.mark.parametrize(
    "source",
    [
        b"\xff\xd8" + b"\xff\x01" * MANY + blank(8, 8, "JPEG")[2:],
        b"\xff\xd8" + b"\xff\xe1\0\x02" * MANY + blank(8, 8, "JPEG")[2:],
        PNG_START + (bytes(4) + b"tEXt" + bytes(4)) * MANY + blank(8, 8, "PNG")[33:],
        WEBP_START + (b"XMP " + bytes(4)) * MANY,
    ],
    ids=["standing alone", "segments", "chunks", "webp"],
)
def test_a_file_of_endless_parts_is_refused_unwalked(source: bytes) -> None:
    with pytest.raises(UnreadableImageError, match="more than 10000 parts"):
        inspect(source)


def test_fill_before_a_marker_is_skipped_and_has_an_end() -> None:
    real = blank(9, 7, "JPEG")
    assert inspect(real[:2] + b"\xff" * 900 + real[2:]).width_px == 9
    with pytest.raises(UnreadableImageError):
        inspect(real[:2] + b"\xff" * 1_000_000 + real[2:])


def test_no_bytes_are_unreadable() -> None:
    with pytest.raises(UnreadableImageError):
        inspect(b"")


@given(
    st.sampled_from(
        [b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF\x00\x00\x00\x00WEBPVP8X", b"BM"]
    ),
    st.binary(max_size=200),
)
def test_any_bytes_are_a_header_or_a_core_error(start: bytes, rest: bytes) -> None:
    try:
        header = inspect(start + rest)
    except CoreError:
        return
    assert header.width_px > 0
    assert header.height_px > 0
