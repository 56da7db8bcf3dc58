"""Laying one picture over another is exact."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from core.blend import STRIP_PIXELS, blend, blend_translucent, strips

SHAPE = (7, 5)
COLOURS = arrays.arrays(np.uint8, (*SHAPE, 3))
ALPHAS = arrays.arrays(np.uint8, SHAPE)


@given(COLOURS, ALPHAS, COLOURS)
def test_blending_is_the_formula_rounded(
    colour: NDArray[np.uint8], alpha: NDArray[np.uint8], under: NDArray[np.uint8]
) -> None:
    weight = alpha[..., None] / 255
    exact = colour * weight + under * (1 - weight)
    assert np.abs(blend(colour, alpha, under) - exact).max() <= 0.5 + 1e-9


@given(COLOURS, ALPHAS)
def test_opaque_and_transparent_pixels_come_through_bit_for_bit(
    colour: NDArray[np.uint8], alpha: NDArray[np.uint8]
) -> None:
    magenta = np.array([[(255, 0, 255)]], np.uint8)
    blended = blend(colour, alpha, magenta)
    assert np.array_equal(blended[alpha == 255], colour[alpha == 255])
    assert (blended[alpha == 0] == magenta[0, 0]).all()


@given(COLOURS, ALPHAS, st.integers(0, 255))
def test_a_translucent_ground_shows_the_same_over_anything(
    colour: NDArray[np.uint8], alpha: NDArray[np.uint8], opacity: int
) -> None:
    under = (10, 200, 90)
    blended, joined = blend_translucent(colour, alpha, under, opacity)
    for ground in (0.0, 255.0):
        below = np.array(under) * (opacity / 255) + ground * (1 - opacity / 255)
        weight = alpha[..., None] / 255
        exact = colour * weight + below * (1 - weight)
        shown = blended * (joined[..., None] / 255) + ground * (1 - joined[..., None] / 255)
        assert np.abs(shown - exact).max() <= 1.01


@given(st.integers(1, 5000), st.integers(1, 5000))
def test_strips_are_all_rows_once(height_px: int, width_px: int) -> None:
    cuts = list(strips((height_px, width_px)))
    assert [row for cut in cuts for row in range(cut.start, cut.stop)] == list(range(height_px))
    assert all((cut.stop - cut.start) * width_px <= max(STRIP_PIXELS, width_px) for cut in cuts)
