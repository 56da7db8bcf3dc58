"""Generated truth is exact, repeatable, and spoilt only where it is meant to be."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.coarse import coarse_mask, guided
from training.generate import MAKERS, compose, foreground, scene
from training.lite_samples import sharpened
from training.photos import TWIN_BITS_MAX, difference_hash, has_twin
from training.surfaces import noise


@pytest.mark.parametrize("kind", MAKERS)
def test_every_kind_of_foreground_has_a_subject_with_a_rim(kind: str) -> None:
    thing = foreground(np.random.default_rng(3), [], kind)
    soft = (thing.alpha > 0) & (thing.alpha < 255)
    assert thing.kind == kind
    assert thing.alpha.max() > 100
    assert 20 < np.count_nonzero(soft) < soft.size
    assert not thing.alpha[0].any(), "the rim of the canvas belongs to the background"


@pytest.mark.parametrize("kind", MAKERS)
def test_the_same_seed_generates_the_same_scene(kind: str) -> None:
    first, second = (scene(np.random.default_rng(7), [], kind) for _ in range(2))
    assert np.array_equal(first[0], second[0])
    assert np.array_equal(first[1], second[1])


def test_a_composite_is_foreground_where_opaque_and_background_where_clear() -> None:
    colours, behind = np.full((8, 8, 3), 200.0), np.full((8, 8, 3), 40.0)
    alpha = np.tile(np.linspace(0, 1, 8), (8, 1))
    mixed = compose(colours, alpha, behind)
    assert (mixed[:, 0] == 40).all()
    assert (mixed[:, -1] == 200).all()
    assert np.abs(mixed[..., 0] - (40 + 160 * alpha)).max() <= 0.5


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_a_coarse_mask_is_a_mask_and_resembles_the_truth(seed: int) -> None:
    truth = np.zeros((96, 96), np.float32)
    truth[24:80, 24:80] = 1
    coarse = coarse_mask(np.random.default_rng(seed), truth)
    assert coarse.shape == truth.shape
    assert 0 <= coarse.min() <= coarse.max() <= 1
    assert coarse[45:60, 45:60].mean() > coarse[:8, :8].mean() + 0.2


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), grey=st.booleans())
def test_the_guided_filter_leaves_a_plain_mask_plain(seed: int, grey: bool) -> None:  # noqa: FBT001
    rng = np.random.default_rng(seed)
    image = rng.random((40, 40, 3), np.float32)
    if grey:  # all three channels alike: where the filter is hardest to solve
        image[...] = (image[..., :1] > 0.5).astype(np.float32)
    filtered = guided(image, np.ones((40, 40), np.float32))
    assert np.abs(filtered - 1).max() < 1e-3


def test_the_guided_filter_sharpens_a_soft_mask_at_the_pictures_edge() -> None:
    image = np.full((64, 64, 3), 0.1, np.float32)
    image[:, 32:] = (0.9, 0.7, 0.5)
    truth = np.tile(np.arange(64) >= 32, (64, 1)).astype(np.float32)
    coarse = cv2.GaussianBlur(truth, (0, 0), 1.5)
    before, after = (np.abs(np.diff(each)).max() for each in (coarse, guided(image, coarse)))
    assert after > 2.5 * before


def test_a_student_is_not_taught_the_teachers_haze() -> None:
    mask = np.array([[0, 40, 128, 220, 255]], np.uint8)
    assert sharpened(mask).tolist()[0][:2] == [0, 0]
    assert sharpened(mask).tolist()[0][3:] == [1, 1]


def test_a_photograph_saved_again_is_known_as_a_twin_and_another_is_not() -> None:
    one, other = (
        np.dstack([noise(np.random.default_rng(seed), 128, (3, 6, 9)) * 40 + 128] * 3)
        for seed in (1, 2)
    )
    again = one[::2, ::2] * 0.9 + np.random.default_rng(3).normal(0, 4, (64, 64, 3))
    fingerprint, of_again, of_other = (
        difference_hash(np.clip(each, 0, 255).astype(np.uint8)) for each in (one, again, other)
    )
    assert has_twin(of_again, [fingerprint])
    assert (of_other ^ fingerprint).bit_count() > TWIN_BITS_MAX
