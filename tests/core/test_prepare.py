"""The network is shown what rembg's would be shown, however large the picture."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from core.prepare import prepare, reduce
from core.weights import WEIGHTS
from tests.core.conftest import opened

U2NETP = WEIGHTS["u2netp"]


def shown_by_rembg(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    side_px = U2NETP.input_px
    scaled = Image.fromarray(image).resize((side_px, side_px), Image.Resampling.LANCZOS)
    pixels = np.asarray(scaled, np.float64)
    normal = (pixels / pixels.max() - np.array(U2NETP.mean)) / np.array(U2NETP.std)
    return np.asarray(normal.transpose(2, 0, 1)[None], np.float32)


@pytest.mark.parametrize(
    "size_px", [(512, 300), (1279, 1700), (90, 1700), (1700, 300), (461, 410), (1, 700), (320, 320)]
)
def test_a_picture_is_scaled_to_pillows_own_pixels(size_px: tuple[int, int]) -> None:
    picture = np.random.default_rng(4).integers(0, 256, (*size_px, 3), np.uint8)
    away = np.abs(prepare(picture, U2NETP) - shown_by_rembg(picture))
    one_level = 1 / 255 / min(U2NETP.std)
    assert (away > 1e-5).mean() < 0.001
    assert away.max() < 2.1 * one_level


@pytest.mark.parametrize("size_px", [(1281, 1500), (2571, 2603), (3000, 1900)])
def test_a_halved_picture_is_shown_as_if_it_were_whole(
    size_px: tuple[int, int], photo: bytes
) -> None:
    enlarged = cv2.resize(opened(photo), size_px[::-1], interpolation=cv2.INTER_CUBIC)
    grain = np.random.default_rng(5).normal(0, 8, (*size_px, 1))
    picture = np.clip(enlarged + grain, 0, 255).astype(np.uint8)
    assert min(reduce(picture, 320, 1).image.shape[:2]) < 1280
    away = np.abs(prepare(picture, U2NETP) - shown_by_rembg(picture))
    assert away.mean() * 255 * max(U2NETP.std) < 1  # the brightest pixel counts for all


@pytest.mark.parametrize("size_px", [(1301, 1407), (2561, 2567), (5121, 1299)])
def test_what_is_left_over_when_halving_is_not_lost(size_px: tuple[int, int]) -> None:
    picture = np.full((*size_px, 3), 10, np.uint8)
    picture[-1], picture[:, -1] = 250, 250
    reduced = reduce(picture, 320, 2)
    assert reduced.image[-1].min() > 10
    assert reduced.image[:, -1].min() > 10
    assert (reduced.image[:-1, :-1] == 10).all()
    for shown_px, have_px in zip(reduced.size_px, reduced.image.shape[1::-1], strict=True):
        assert have_px - 1 < shown_px <= have_px
