"""What is written is what was composed, readable by everybody, and carries nothing else."""

import struct
import zipfile
from io import BytesIO

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from PIL import Image

from core.compose import Layers
from core.encode import WEBP_EDGE_PX_MAX, encode
from core.errors import InvalidOptionError
from tests.core.conftest import opened

SHAPES = st.tuples(st.integers(1, 70), st.integers(1, 70))


@st.composite
def some_layers(draw: st.DrawFn) -> Layers:
    shape = draw(SHAPES)
    colour = draw(st.none() | arrays.arrays(np.uint8, (*shape, 3)))
    alpha = draw(arrays.arrays(np.uint8, shape)) if colour is None or draw(st.booleans()) else None
    return Layers(colour, alpha)


def expected(layers: Layers) -> NDArray[np.uint8]:
    if layers.colour is None or layers.alpha is None:
        plane = layers.alpha if layers.colour is None else layers.colour
        assert plane is not None
        return plane[:]
    return np.dstack([layers.colour[:], layers.alpha])


@given(some_layers())
@settings(max_examples=80, deadline=None)
def test_a_png_is_read_back_bit_for_bit_by_two_readers(layers: Layers) -> None:
    png = encode(layers, "png").content
    assert np.array_equal(opened(png), expected(layers))
    theirs = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
    assert theirs is not None
    if theirs.ndim == 3:
        theirs = theirs[..., [2, 1, 0, 3][: theirs.shape[2]]]
    assert np.array_equal(theirs, expected(layers))


def test_a_png_of_many_strips_is_read_back_bit_for_bit() -> None:
    rng = np.random.default_rng(3)
    layers = Layers(
        rng.integers(0, 255, (1500, 1100, 3), np.uint8),
        rng.integers(0, 255, (1500, 1100), np.uint8),
    )
    assert np.array_equal(opened(encode(layers, "png").content), expected(layers))
    assert encode(layers, "png", threads=3) == encode(layers, "png")


@given(some_layers())
@settings(max_examples=40, deadline=None)
def test_a_webp_is_read_back_bit_for_bit(layers: Layers) -> None:
    pixels = opened(encode(layers, "webp").content)
    wanted = expected(layers)
    if layers.colour is None:
        wanted = np.repeat(wanted[..., None], 3, axis=2)
    elif layers.alpha is not None and layers.alpha.min() == 255:
        wanted = layers.colour[:]  # libwebp drops an alpha that says nothing
    assert np.array_equal(pixels[..., : wanted.shape[2]], wanted)


def test_a_jpeg_is_near(photo: bytes) -> None:
    colour = opened(photo)
    content = encode(Layers(colour, None), "jpg").content
    assert np.abs(opened(content).astype(int) - colour).mean() < 2.5


def test_alpha_as_a_jpeg_is_grey() -> None:
    alpha = np.tile(np.arange(256, dtype=np.uint8), (16, 1))
    pixels = opened(encode(Layers(None, alpha), "jpg").content)
    assert pixels.shape == alpha.shape
    assert np.abs(pixels.astype(int) - alpha).max() < 4


def test_a_zip_holds_colour_and_alpha_and_no_clock(photo: bytes) -> None:
    colour = opened(photo)
    alpha = np.arange(colour.shape[0] * colour.shape[1], dtype=np.uint8).reshape(colour.shape[:2])
    encoded = encode(Layers(colour, alpha), "zip")
    assert (encoded.extension, encoded.media_type) == ("zip", "application/zip")
    with zipfile.ZipFile(BytesIO(encoded.content)) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["color.jpg", "alpha.png"]
        assert np.array_equal(opened(archive.read("alpha.png")), alpha)
        assert opened(archive.read("color.jpg")).shape == colour.shape
    assert encode(Layers(colour, alpha), "zip").content == encoded.content


@pytest.mark.parametrize(
    ("file_format", "media_type"),
    [("png", "image/png"), ("webp", "image/webp"), ("jpg", "image/jpeg")],
)
def test_files_carry_no_metadata(file_format: str, media_type: str) -> None:
    colour = np.full((20, 30, 3), 90, np.uint8)
    encoded = encode(Layers(colour, None), file_format)  # type: ignore[arg-type]  # a plain word
    assert encoded.media_type == media_type
    assert encoded.extension == file_format
    with Image.open(BytesIO(encoded.content)) as image:
        assert not image.getexif()
        assert set(image.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"} | {
            "loop",
            "background",
            "timestamp",
            "duration",
        }


def test_a_webp_too_wide_is_refused_before_it_is_tried() -> None:
    with pytest.raises(InvalidOptionError):
        encode(Layers(None, np.zeros((1, WEBP_EDGE_PX_MAX + 1), np.uint8)), "webp")


def test_every_chunk_of_a_png_has_its_checksum() -> None:
    png = encode(Layers(np.zeros((3, 2, 3), np.uint8), np.zeros((3, 2), np.uint8)), "png").content
    assert struct.unpack(">II", png[16:24]) == (2, 3)
    with Image.open(BytesIO(png)) as image:
        image.verify()
