"""The matte: solid inside, nothing outside, and sub-pixel between."""

import time

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from tests.core.mattes import refine

Image = NDArray[np.uint8]
Mask = NDArray[np.float32]


def disc(size_px: int, radius_px: float) -> NDArray[np.float64]:
    """Return the exact coverage of a disc, near enough: drawn eight times larger."""
    fine = np.zeros((size_px * 8, size_px * 8), np.uint8)
    cv2.circle(fine, (size_px * 4, size_px * 4), round(radius_px * 8), 255, -1)
    return np.asarray(cv2.resize(fine, (size_px, size_px), interpolation=cv2.INTER_AREA) / 255.0)


def picture(alpha: NDArray[np.float64], subject: int, background: int) -> Image:
    grey = alpha * subject + (1 - alpha) * background
    return np.repeat(np.rint(grey).astype(np.uint8)[..., None], 3, axis=2)


def coarse(alpha: NDArray[np.float64], side_px: int = 320) -> Mask:
    size_px = (side_px, side_px)
    return np.asarray(cv2.resize(alpha, size_px, interpolation=cv2.INTER_AREA), np.float32)


@pytest.mark.parametrize(("subject", "background"), [(20, 240), (240, 20), (90, 160)])
@pytest.mark.parametrize("size_px", [300, 1200])
def test_a_smooth_edge_is_recovered_to_a_fraction_of_a_pixel(
    size_px: int, subject: int, background: int
) -> None:
    truth = disc(size_px, size_px / 3)

    alpha, method = refine(picture(truth, subject, background), coarse(truth))

    edge = (truth > 0) & (truth < 1)
    assert np.abs(alpha[edge] / 255 - truth[edge]).mean() < 0.06
    assert method == "closed-form"


def test_inside_is_solid_and_outside_is_nothing() -> None:
    truth = disc(900, 300)
    mask = coarse(truth) * 0.96 + 0.02  # as a network says it: never quite sure

    alpha, _ = refine(picture(truth, 30, 220), mask)

    assert (alpha[disc(900, 285) == 1] == 255).all()
    assert (alpha[disc(900, 315) == 0] == 0).all()


def test_a_hair_thinner_than_a_pixel_of_the_mask_survives() -> None:
    truth = disc(1200, 300)
    hair = np.zeros_like(truth)
    cv2.line(hair, (600, 600), (600, 270), 1.0, 2)
    truth = np.maximum(truth, hair)

    alpha, _ = refine(picture(truth, 20, 230), coarse(truth))

    assert alpha[280:296, 599:602].max(axis=1).min() > 200
    assert alpha[280:296, 620:640].max() == 0


def test_a_hole_stays_open() -> None:
    truth = disc(800, 300) - disc(800, 60)

    alpha, _ = refine(picture(truth, 200, 60), coarse(truth))

    assert alpha[380:420, 380:420].max() == 0


def test_a_speck_beside_the_subject_is_gone() -> None:
    truth = disc(800, 250)
    mask = coarse(truth)
    mask[10:13, 10:13] = 0.9

    alpha, _ = refine(picture(truth, 40, 200), mask)

    assert alpha[:100, :100].max() == 0


def test_a_second_subject_is_not_a_speck() -> None:
    truth = np.maximum(disc(800, 150), np.roll(disc(800, 60), 300, axis=1))

    alpha, _ = refine(picture(truth, 40, 200), coarse(truth))

    assert alpha[400, 700] == 255


def test_a_cast_shadow_goes_with_the_background() -> None:
    truth = disc(800, 200)
    shadow = np.roll(cv2.GaussianBlur(disc(800, 200), (0, 0), 8), 60, axis=0) * (1 - truth)
    image = picture(truth, 30, 230)
    image = (image * (1 - 0.4 * shadow[..., None])).astype(np.uint8)

    alpha, _ = refine(image, coarse(truth))

    assert np.abs(alpha / 255 - truth).mean() < 0.002


def test_where_colour_cannot_tell_the_mask_decides() -> None:
    truth = disc(800, 250)
    noise = np.random.default_rng(5).integers(0, 255, (800, 800, 3), dtype=np.uint8)

    alpha, _ = refine(noise, coarse(truth))

    assert np.abs(alpha / 255 - truth).mean() < 0.02


@pytest.mark.parametrize("level", [0.0, 1.0])
def test_a_mask_without_an_edge_is_left_alone(level: float) -> None:
    image = np.full((90, 120, 3), 128, np.uint8)

    alpha, method = refine(image, np.full((320, 320), level, np.float32))

    assert (alpha == round(level * 255)).all()
    assert method == "none"


def test_past_its_deadline_one_pass_is_made() -> None:
    truth = disc(900, 300)
    image, mask = picture(truth, 30, 220), coarse(truth)

    alpha, method = refine(image, mask, deadline_s=time.monotonic() - 1)

    assert method == "guided"
    assert np.abs(alpha / 255 - truth).mean() < 0.01


@settings(deadline=None, max_examples=25)
@given(
    height_px=st.integers(1, 90),
    width_px=st.integers(1, 90),
    mask=arrays(np.float32, (16, 16), elements=st.floats(0, 1, width=32)),
    grey=st.integers(0, 255),
)
def test_any_picture_and_any_mask_make_a_matte_of_the_picture_s_size(
    height_px: int, width_px: int, mask: Mask, grey: int
) -> None:
    image = np.full((height_px, width_px, 3), grey, np.uint8)

    alpha, _ = refine(image, mask)

    assert alpha.shape == (height_px, width_px)
    assert alpha.dtype == np.uint8


def test_the_arrays_given_are_not_changed() -> None:
    truth = disc(400, 120)
    image, mask = picture(truth, 30, 220), coarse(truth)
    image_before, mask_before = image.copy(), mask.copy()

    refine(image, mask)

    assert (image == image_before).all()
    assert (mask == mask_before).all()
