"""A source that is already see-through in places."""

import numpy as np
import pytest

from core.decode import DecodedImage
from core.transparency import flatten, join, restore_own_colours, settle

IMAGE = np.full((4, 4, 3), (10, 20, 30), np.uint8)


def see_through(*values: int) -> DecodedImage:
    opacity = np.full((4, 4), 255, np.uint8)
    opacity[0, : len(values)] = values
    return DecodedImage(IMAGE, opacity)


def test_flattening_is_onto_white() -> None:
    image = flatten(see_through(0, 51))
    assert image[0, 0].tolist() == [255, 255, 255]
    assert image[0, 1].tolist() == [206, 208, 210]
    assert image[3, 3].tolist() == [10, 20, 30]


def test_flatten_forgets_the_transparency() -> None:
    assert settle(see_through(0), "flatten").opacity is None


@pytest.mark.parametrize(("subject", "ground"), [((10, 20, 30), 255), ((250, 250, 250), 40)])
def test_the_network_is_shown_a_ground_the_subject_stands_out_from(
    subject: tuple[int, int, int], ground: int
) -> None:
    decoded = DecodedImage(np.full((4, 4, 3), subject, np.uint8), see_through(0).opacity)
    assert settle(decoded, "background").image[0, 0].tolist() == [ground] * 3


def test_an_opaque_source_is_left_alone() -> None:
    decoded = DecodedImage(IMAGE, None)
    assert settle(decoded, "background") is decoded
    assert flatten(decoded) is IMAGE


def test_transparency_as_background_only_ever_takes_away() -> None:
    opacity = np.array([[0, 100, 255, 255]], np.uint8)
    alpha = np.array([[255, 255, 0, 200]], np.uint8)
    assert join(alpha, opacity, "background").tolist() == [[0, 100, 0, 200]]


def test_kept_transparency_is_kept_exactly() -> None:
    opacity = np.array([[0, 100, 255, 255]], np.uint8)
    alpha = np.array([[255, 7, 0, 200]], np.uint8)
    assert join(alpha, opacity, "keep").tolist() == [[0, 100, 0, 200]]


def test_colours_are_the_sources_own_where_its_alpha_is() -> None:
    opacity = np.array([[0, 100, 100, 255]], np.uint8)
    alpha = np.array([[0, 100, 60, 255]], np.uint8)
    image = np.full((1, 4, 3), 9, np.uint8)
    guessed = np.full((1, 4, 3), 77, np.uint8)
    restore_own_colours(guessed, image, alpha, opacity)
    assert guessed[0, :, 0].tolist() == [77, 9, 77, 77]
