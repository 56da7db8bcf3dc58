"""Crop, background and watermark do what their names say."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from core.compose import Layers, compose, cover, crop_to_subject, subject_box, watermark
from core.errors import InvalidOptionError
from core.header import ImageLimits
from core.options import CutoutOptions

RED = np.full((60, 80, 3), (200, 30, 20), np.uint8)


def subject(left: int, top: int, right: int, bottom: int) -> NDArray[np.uint8]:
    alpha = np.zeros((60, 80), np.uint8)
    alpha[top:bottom, left:right] = 255
    return alpha


@given(st.integers(0, 79), st.integers(0, 59), st.integers(1, 80), st.integers(1, 60))
def test_the_box_holds_the_subject_and_nothing_else(
    left: int, top: int, width_px: int, height_px: int
) -> None:
    right, bottom = min(80, left + width_px), min(60, top + height_px)
    box = subject_box(subject(left, top, right, bottom))
    assert box == (left, top, right - left, bottom - top)


def test_a_haze_does_not_stretch_the_crop() -> None:
    alpha = np.maximum(subject(20, 10, 40, 30), 12)
    assert subject_box(alpha) == (20, 10, 20, 20)


def test_a_crop_keeps_the_pixels_of_the_subject() -> None:
    picture = np.random.default_rng(1).integers(0, 255, RED.shape, np.uint8)
    colour, alpha = crop_to_subject(picture, subject(20, 10, 40, 30), None)
    assert np.array_equal(colour, picture[10:30, 20:40])
    assert alpha.min() == 255


def test_a_margin_is_added_side_by_side_even_past_the_frame() -> None:
    colour, alpha = crop_to_subject(RED, subject(0, 10, 20, 30), "5px 10% 0px 50%")
    assert alpha.shape == (25, 32)
    assert alpha[5:, 10:30].min() == 255
    assert not alpha[:5].any()
    assert not alpha[:, :10].any()
    assert not colour[:, :10].any()  # what the picture never had


@pytest.mark.parametrize(
    "limits", [ImageLimits(pixels_max=2_000), ImageLimits(edge_px_max=65)], ids=["pixels", "edge"]
)
def test_a_margin_makes_no_picture_past_the_limits(limits: ImageLimits) -> None:
    alpha = subject(0, 10, 20, 30)
    options = CutoutOptions(crop=True, crop_margin="10px 23px")
    with pytest.raises(InvalidOptionError, match=r"crop_margin.*66 x 40"):
        compose(RED, alpha, options, None, limits)
    compose(RED, alpha, CutoutOptions(crop=True, crop_margin="2px"), None, limits)


@given(st.integers(1, 80), st.integers(1, 60), st.integers(0, 50), st.integers(0, 30))
def test_a_crop_has_no_more_pixels_than_its_options_said(
    right: int, bottom: int, percent: int, margin_px: int
) -> None:
    options = CutoutOptions(crop=True, crop_margin=f"{percent}% {margin_px}px")
    width_px, height_px = compose(RED, subject(0, 0, right, bottom), options, None).size_px
    assert width_px * height_px <= options.pixels_of(80, 60)


def test_without_a_subject_there_is_nothing_to_crop_to() -> None:
    colour, _ = crop_to_subject(RED, np.zeros((60, 80), np.uint8), "10px")
    assert colour.shape == RED.shape


@pytest.mark.parametrize(
    ("background_px", "size_px"),
    [((30, 40), (80, 60)), ((500, 100), (80, 60)), ((61, 901), (80, 60)), ((1, 1), (7, 9))],
)
def test_a_background_covers_all_and_keeps_its_middle(
    background_px: tuple[int, int], size_px: tuple[int, int]
) -> None:
    height_px, width_px = background_px
    across = np.abs(np.linspace(-1, 1, width_px))[None, :, None]
    down = np.abs(np.linspace(-1, 1, height_px))[:, None, None]
    hill = np.broadcast_to(255 * (1 - np.maximum(across, down)), (*background_px, 3))
    covered = cover(hill.astype(np.uint8), size_px)
    assert covered.shape == (size_px[1], size_px[0], 3)
    rows, columns = np.nonzero(covered[..., 0] == covered[..., 0].max())
    assert rows.mean() == pytest.approx(size_px[1] / 2, abs=2)
    assert columns.mean() == pytest.approx(size_px[0] / 2, abs=2)


def test_a_colour_fills_what_is_not_subject() -> None:
    layers = compose(RED, subject(20, 10, 40, 30), CutoutOptions(bg_color="lime"), None)
    assert layers.alpha is None
    assert layers.colour is not None
    assert layers.colour[:][0, 0].tolist() == [0, 255, 0]
    assert layers.colour[:][20, 30].tolist() == [200, 30, 20]


def test_a_translucent_colour_leaves_alpha() -> None:
    layers = compose(RED, subject(20, 10, 40, 30), CutoutOptions(bg_color="#00f8"), None)
    assert layers.alpha is not None
    assert (layers.alpha[0, 0], layers.alpha[20, 30]) == (136, 255)


def test_a_jpeg_is_on_white_where_nothing_else_was_said() -> None:
    layers = compose(RED, subject(20, 10, 40, 30), CutoutOptions(format="jpg"), None)
    assert layers.alpha is None
    assert layers.colour is not None
    assert layers.colour[:][0, 0].tolist() == [255, 255, 255]


def test_alpha_alone_is_one_plane() -> None:
    alpha = subject(20, 10, 40, 30)
    layers = compose(RED, alpha, CutoutOptions(channels="alpha", crop=True), None)
    assert layers.colour is None
    assert layers.alpha is not None
    assert layers.alpha.shape == (20, 20)


@pytest.mark.parametrize("value", [0, 128, 255])
@pytest.mark.parametrize("kind", ["cutout", "opaque", "alpha"])
def test_a_watermark_is_seen_on_every_kind_of_result(value: int, kind: str) -> None:
    colour = None if kind == "alpha" else np.full((400, 400, 3), value, np.uint8)
    alpha = None if kind == "opaque" else np.full((400, 400), value, np.uint8)

    marked = watermark(Layers(colour, alpha))

    before = colour if colour is not None else alpha
    after = marked.colour if marked.colour is not None else marked.alpha
    assert before is not None
    assert after is not None
    changed = np.abs(after[:].astype(int) - before[:]) > 40
    for rows in (slice(0, 200), slice(200, 400)):
        for columns in (slice(0, 200), slice(200, 400)):
            assert changed[rows, columns].mean() > 0.02
    if marked.alpha is not None and kind == "cutout":
        assert marked.alpha.max() >= 128


@pytest.mark.parametrize(
    "size_px", [(16, 16), (40, 40), (76, 76), (400, 41), (26, 400), (20, 90)], ids=str
)
@pytest.mark.parametrize("value", [0, 128, 255])
def test_a_small_result_is_marked_too(size_px: tuple[int, int], value: int) -> None:
    width_px, height_px = size_px
    colour = np.full((height_px, width_px, 3), value, np.uint8)
    alpha = np.zeros((height_px, width_px), np.uint8)
    written = watermark(Layers(colour, None)).colour
    matte = watermark(Layers(None, alpha)).alpha
    assert written is not None
    assert matte is not None
    assert (np.abs(written[:].astype(int) - value) > 40).mean() > 0.02
    assert (matte > 40).mean() > 0.02


def test_layers_without_any_plane_have_no_size() -> None:
    with pytest.raises(ValueError, match="no layer"):
        _ = Layers(None, None).size_px
