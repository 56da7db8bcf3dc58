"""The fast way through a colour profile is littlecms' way."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageCms

from core.colour import rgb_to_srgb
from core.icc import matrix_way
from tests.core.profiles import (
    gamma_curve,
    parametric_curve,
    table_curve,
    wide_gamut_profile,
)

CURVES = {
    "table": table_curve(),
    "small table": table_curve(gamma=1.8, steps=17),
    "gamma": gamma_curve(2.2),
    "linear": b"curv\x00\x00\x00\x00\x00\x00\x00\x00",
    "power": parametric_curve(0, 2.4),
    "sRGB's own": parametric_curve(3, 2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045),
}
RARE = {
    "power over a knee": parametric_curve(1, 2.2, 0.95, 0.05),
    "power, lifted": parametric_curve(2, 2.2, 0.9, 0.05, 0.02),
    "all seven": parametric_curve(4, 2.4, 0.94, 0.05, 0.08, 0.04, 0.001, 0.002),
}


def littlecms(colours: NDArray[np.uint8], profile: bytes) -> NDArray[np.uint8]:
    transform = ImageCms.buildTransform(
        ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB"), "RGB", "RGB"
    )
    return np.asarray(ImageCms.applyTransform(Image.fromarray(colours), transform))


def some_colours() -> NDArray[np.uint8]:
    return np.random.default_rng(7).integers(0, 256, (64, 64, 3), np.uint8)


@pytest.mark.parametrize("name", CURVES)
def test_every_kind_of_curve_is_read_as_littlecms_reads_it(name: str) -> None:
    profile = wide_gamut_profile(CURVES[name])
    colours = some_colours()

    way = matrix_way(profile)

    assert way is not None
    converted = way.convert(colours)
    assert np.abs(converted.astype(int) - littlecms(colours, profile)).max() <= 1
    assert np.array_equal(rgb_to_srgb(colours, profile), converted)


@pytest.mark.parametrize("name", RARE)
def test_what_is_rare_is_left_to_littlecms(name: str) -> None:
    profile = wide_gamut_profile(RARE[name])
    assert matrix_way(profile) is None
    colours = some_colours()
    assert np.array_equal(rgb_to_srgb(colours, profile), littlecms(colours, profile))


def test_a_profile_with_a_table_is_not_read_as_a_matrix() -> None:
    profile = wide_gamut_profile().replace(b"cprt", b"A2B0", 1)
    assert matrix_way(profile) is None
    assert matrix_way(wide_gamut_profile().replace(b"RGB XYZ ", b"GRAYXYZ ", 1)) is None


@given(st.binary(max_size=400), st.integers(0, 600), st.integers(1, 60))
def test_a_damaged_profile_is_read_or_passed_over(noise: bytes, at: int, length: int) -> None:
    profile = wide_gamut_profile(gamma_curve(2.2))
    damaged = profile[:at] + noise + profile[at + length :]
    colours = np.full((2, 2, 3), 90, np.uint8)
    assert rgb_to_srgb(colours, damaged).shape == colours.shape
    matrix_way(noise)
