"""Whatever a file's own way of storing it, the picture comes out upright and in sRGB."""

import struct
import zlib
from io import BytesIO

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from PIL import Image, ImageCms

from core import CoreError, ImageLimits
from core.decode import EXIF_ORIENTATION, JPEG_SCANS_MAX, DecodedImage, decode
from core.errors import ImageTooLargeError, UnreadableImageError
from tests.core.conftest import encoded
from tests.core.profiles import gamma_curve, grey_profile, wide_gamut_profile

# Pillow warns about what it forgives; so do we forgive it.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")

LIMITS = ImageLimits()
PIXELS = arrays.arrays(
    np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40), st.sampled_from([3, 4]))
)


def decoded(source: bytes) -> DecodedImage:
    return decode(source, LIMITS)


def pillow(source: bytes, mode: str = "RGB") -> NDArray[np.uint8]:
    with Image.open(BytesIO(source)) as image:
        return np.asarray(image.convert(mode))


def saved(image: Image.Image, file_format: str, **options: object) -> bytes:
    buffer = BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


@given(PIXELS, st.sampled_from(["PNG", "WEBP"]))
@settings(max_examples=60, deadline=None)
def test_lossless_files_come_back_bit_for_bit(pixels: NDArray[np.uint8], file_format: str) -> None:
    options = {"lossless": True, "exact": True} if file_format == "WEBP" else {}
    picture = decoded(encoded(pixels, file_format, **options))
    assert np.array_equal(picture.image, pixels[..., :3])
    if pixels.shape[2] == 4 and pixels[..., 3].min() < 255:
        assert picture.opacity is not None
        assert np.array_equal(picture.opacity, pixels[..., 3])
    else:
        assert picture.opacity is None


def test_a_photograph_is_what_every_viewer_shows(photo: bytes) -> None:
    assert np.array_equal(decoded(photo).image, pillow(photo))


@pytest.mark.parametrize("quality", [30, 80])
def test_a_lossy_webp_is_what_every_viewer_shows(quality: int, photo: bytes) -> None:
    with Image.open(BytesIO(photo)) as image:
        source = saved(image, "WEBP", quality=quality)
    assert np.array_equal(decoded(source).image, pillow(source))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP"])
def test_each_exif_orientation_is_turned_upright(orientation: int, file_format: str) -> None:
    corners = np.zeros((32, 48, 3), np.uint8)
    corners[:16, :24], corners[:16, 24:], corners[16:, :24] = (250, 0, 0), (0, 250, 0), (0, 0, 250)
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    # How a camera held this way would have stored the upright picture.
    stored = {
        1: corners,
        2: corners[:, ::-1],
        3: corners[::-1, ::-1],
        4: corners[::-1],
        5: corners.swapaxes(0, 1),
        6: corners.swapaxes(0, 1)[::-1],
        7: corners.swapaxes(0, 1)[::-1, ::-1],
        8: corners.swapaxes(0, 1)[:, ::-1],
    }[orientation]
    options = {"quality": 95, "subsampling": 0} if file_format == "JPEG" else {"lossless": True}
    source = encoded(np.ascontiguousarray(stored), file_format, exif=exif.tobytes(), **options)

    image = decoded(source).image

    assert image.shape == corners.shape
    assert np.abs(image.astype(int) - corners).max() < 12


def test_a_broken_exif_block_does_not_spoil_the_picture(astronaut: bytes) -> None:
    with Image.open(BytesIO(astronaut)) as image:
        source = saved(image, "JPEG", exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff")
    assert decoded(source).image.shape == (512, 512, 3)


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP"])
def test_display_p3_is_converted_to_srgb(file_format: str) -> None:
    options = {"quality": 100, "subsampling": 0} if file_format == "JPEG" else {"lossless": True}
    patch = np.full((16, 16, 3), (180, 120, 90), np.uint8)
    source = encoded(patch, file_format, icc_profile=wide_gamut_profile(), **options)
    # By the published matrices of P3 and sRGB, from linear light and back.
    assert np.abs(decoded(source).image[8, 8].astype(int) - (190, 117, 84)).max() <= 2


def test_a_wide_profile_keeps_the_opacity() -> None:
    pixels = np.full((8, 8, 4), (180, 120, 90, 77), np.uint8)
    picture = decoded(encoded(pixels, "PNG", icc_profile=wide_gamut_profile()))
    assert picture.opacity is not None
    assert set(np.unique(picture.opacity)) == {77}
    assert abs(int(picture.image[0, 0, 0]) - 190) <= 2


@pytest.mark.parametrize("kind", ["opaque", "alpha", "key colour"])
def test_a_grey_profile_is_heeded_with_and_without_opacity(kind: str) -> None:
    linear = grey_profile(gamma_curve(1.0))
    if kind == "alpha":
        source = saved(Image.new("LA", (8, 8), (100, 77)), "PNG", icc_profile=linear)
    else:
        key = {"transparency": 7} if kind == "key colour" else {}
        source = saved(Image.new("L", (8, 8), 100), "PNG", icc_profile=linear, **key)
    # Linear light of 100 / 255, by sRGB's curve.
    assert np.abs(decoded(source).image.astype(int) - 168).max() <= 1
    opacity = decoded(source).opacity
    assert (opacity is None) == (kind != "alpha")
    if opacity is not None:
        assert set(np.unique(opacity)) == {77}


def test_an_srgb_profile_changes_no_value(photo: bytes) -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    with Image.open(BytesIO(photo)) as image:
        source = saved(image, "PNG", icc_profile=srgb)
    assert np.array_equal(decoded(source).image, pillow(photo))


@pytest.mark.parametrize("profile", [b"nonsense", wide_gamut_profile()[:200]])
def test_a_broken_profile_is_passed_over(profile: bytes, astronaut: bytes) -> None:
    with Image.open(BytesIO(astronaut)) as image:
        source = saved(image, "PNG", icc_profile=profile)
    assert np.array_equal(decoded(source).image, pillow(astronaut))


def test_a_cmyk_jpeg_has_the_colours_it_was_made_from() -> None:
    patch = np.full((32, 32, 3), (200, 60, 40), np.uint8)
    source = saved(Image.fromarray(patch).convert("CMYK"), "JPEG", quality=98)
    assert b"Adobe" in source[:200]  # and so stored inverted
    assert np.abs(decoded(source).image.astype(int) - patch).max() <= 6


def test_sixteen_bits_a_channel_keep_their_upper_eight() -> None:
    colour = np.full((6, 5, 3), (0x1234, 0x8080, 0xFFFF), np.uint16)
    _, content = cv2.imencode(".png", np.ascontiguousarray(colour[..., ::-1]))
    assert decoded(content.tobytes()).image[3, 3].tolist() == [0x12, 0x80, 0xFF]


def test_sixteen_bit_grey_is_scaled_and_not_clipped() -> None:
    grey = (np.arange(256, dtype=np.uint16) * 257).reshape(16, 16)
    image = decoded(encoded(grey, "PNG")).image
    assert np.array_equal(image[..., 0], np.arange(256, dtype=np.uint8).reshape(16, 16))


def test_sixteen_bit_grey_with_a_key_colour_is_see_through_there() -> None:
    grey = np.array([[100, 40_000]], np.uint16)
    source = bytearray(encoded(grey, "PNG"))
    at = source.index(b"IDAT") - 4
    body = b"tRNS" + struct.pack(">H", 100)
    source[at:at] = struct.pack(">I", 2) + body + struct.pack(">I", zlib.crc32(body))
    opacity = decoded(bytes(source)).opacity
    assert opacity is not None
    assert opacity.tolist() == [[0, 255]]


def test_a_palette_is_looked_up(photo: bytes) -> None:
    with Image.open(BytesIO(photo)) as image:
        source = saved(image.quantize(64), "PNG")
    assert np.array_equal(decoded(source).image, pillow(source))
    assert decoded(source).opacity is None


def test_a_palette_with_opacities_is_see_through() -> None:
    image = Image.new("P", (3, 1))
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    image.putdata([0, 1, 2])
    picture = decoded(saved(image, "PNG", transparency=bytes([0, 128, 255])))
    assert picture.opacity is not None
    assert picture.opacity.tolist() == [[0, 128, 255]]
    assert picture.image[0, 1].tolist() == [0, 255, 0]


def test_a_key_colour_is_see_through() -> None:
    pixels = np.array([[(255, 0, 255), (1, 2, 3)]], np.uint8)
    picture = decoded(encoded(pixels, "PNG", transparency=(255, 0, 255)))
    assert picture.opacity is not None
    assert picture.opacity.tolist() == [[0, 255]]


@pytest.mark.parametrize("mode", ["1", "L", "LA"])
@pytest.mark.parametrize("file_format", ["PNG", "BMP"])
def test_grey_becomes_three_equal_channels(mode: str, file_format: str, astronaut: bytes) -> None:
    if mode == "LA" and file_format == "BMP":
        return  # there is no such bitmap
    with Image.open(BytesIO(astronaut)) as image:
        grey = image.convert("L")
        source = saved(grey.convert(mode), file_format)
    image_pixels = decoded(source).image
    assert image_pixels.shape == (512, 512, 3)
    assert np.array_equal(image_pixels[..., 0], image_pixels[..., 2])
    assert decoded(source).opacity is None


def test_a_grey_jpeg_becomes_three_equal_channels(astronaut: bytes) -> None:
    with Image.open(BytesIO(astronaut)) as image:
        source = saved(image.convert("L"), "JPEG")
    assert np.array_equal(decoded(source).image, pillow(source))


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP", "BMP"])
@pytest.mark.parametrize("part", [0.3, 0.7, 0.95])
def test_a_file_cut_short_is_unreadable(file_format: str, part: float, astronaut: bytes) -> None:
    with Image.open(BytesIO(astronaut)) as image:
        whole = saved(image, file_format)
    with pytest.raises(UnreadableImageError):
        decoded(whole[: int(len(whole) * part)])


def test_damage_that_viewers_forgive_is_forgiven(astronaut: bytes) -> None:
    middle = astronaut.index(b"\xff\xda")
    padded = astronaut[:middle] + b"\x00\x00\x00" + astronaut[middle:]
    assert decoded(padded).image.shape == (512, 512, 3)


def test_a_jpeg_of_endless_scans_is_refused(astronaut: bytes) -> None:
    with Image.open(BytesIO(astronaut)) as image:
        progressive = saved(image, "JPEG", progressive=True)
    assert decoded(progressive).image.shape == (512, 512, 3)
    start, end = progressive.rindex(b"\xff\xda"), len(progressive) - 2
    with pytest.raises(UnreadableImageError):
        decoded(progressive[:end] + progressive[start:end] * JPEG_SCANS_MAX + b"\xff\xd9")


def test_limits_are_checked_before_decoding(photo: bytes) -> None:
    with pytest.raises(ImageTooLargeError):
        decode(photo, ImageLimits(pixels_max=1000))


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_damaged_files_are_pictures_or_core_errors(astronaut: bytes, data: st.DataObject) -> None:
    small = np.asarray(Image.open(BytesIO(astronaut)).resize((48, 48)))
    rgba = np.dstack([small, small[..., 0]])
    source = bytearray(
        data.draw(
            st.sampled_from(
                [
                    encoded(rgba, "PNG"),
                    encoded(small, "JPEG", progressive=True),
                    encoded(rgba, "WEBP"),
                    encoded(small, "BMP"),
                ]
            )
        )
    )
    for _ in range(data.draw(st.integers(1, 6))):
        source[data.draw(st.integers(0, len(source) - 1))] = data.draw(st.integers(0, 255))
    del source[data.draw(st.integers(8, len(source))) :]
    try:
        picture = decoded(bytes(source))
    except CoreError:
        return
    assert picture.image.dtype == np.uint8
    assert picture.image.ndim == 3
