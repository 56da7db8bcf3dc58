"""The learned eye for edges: opens what the mask covers, trusts more what was drawn sharply."""

import time
from dataclasses import replace
from functools import partial
from hashlib import sha256

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core import matting
from core.clues import CLUES, describe
from core.edge import EdgeNetwork
from core.segmenter import load_edge
from core.weights import EDGE, EDGE_DRAWN, EMBEDDED_FOLDER, Weights
from tests.core.mattes import refine

SIDE_PX = 320


@pytest.fixture(scope="module")
def network() -> EdgeNetwork:
    return load_edge()


def ring(hole_px: int) -> np.ndarray:
    """Return the alpha (0..1) of a disc with a hole."""
    drawn = np.zeros((SIDE_PX, SIDE_PX), np.uint8)
    cv2.circle(drawn, (160, 160), 110, 255, -1, cv2.LINE_AA)
    cv2.circle(drawn, (160, 160), hole_px, 0, -1, cv2.LINE_AA)
    return drawn.astype(np.float32) / 255


def picture(alpha: np.ndarray, subject: int, background: int) -> np.ndarray:
    mixed = background + (subject - background) * alpha[..., None]
    grain = np.random.default_rng(1).normal(0, 2, (*alpha.shape, 3))
    return np.clip(mixed + grain, 0, 255).astype(np.uint8)


def soft(alpha: np.ndarray) -> np.ndarray:
    """Return what a network makes of it that sees no detail."""
    return cv2.GaussianBlur(alpha, (0, 0), 3)


@pytest.mark.parametrize("weights", [EDGE, EDGE_DRAWN], ids=lambda each: each.name)
def test_the_weights_that_ship_are_the_tables(weights: Weights) -> None:
    contents = (EMBEDDED_FOLDER / weights.file_name).read_bytes()
    assert sha256(contents).hexdigest() in weights.checksums
    assert len(contents) == weights.size_bytes <= 1_000_000


def strands(seed: int, thick_px: int) -> np.ndarray:
    """Return the alpha (0..1) of a head of loose strands."""
    rng, drawn = np.random.default_rng(seed), np.zeros((SIDE_PX, SIDE_PX), np.uint8)
    cv2.circle(drawn, (160, 160), 75, 255, -1, cv2.LINE_AA)
    for angle in rng.uniform(0, 2 * np.pi, 50):
        reach = 75 + rng.uniform(15, 45)
        tip = (int(160 + reach * np.cos(angle)), int(160 + reach * np.sin(angle)))
        cv2.line(drawn, (160, 160), tip, 255, thick_px, cv2.LINE_AA)
    return drawn.astype(np.float32) / 255


@pytest.mark.parametrize("thick_px", [1, 2])
@pytest.mark.parametrize("seed", [1, 2])
def test_gaps_between_strands_that_the_solver_leaves_closed_are_opened(
    network: EdgeNetwork, seed: int, thick_px: int
) -> None:
    truth = strands(seed, thick_px)
    image, covered = picture(truth, 210, 60), np.clip(1.6 * soft(truth), 0, 1).astype(np.float32)
    sharpness = matting._sharpness(covered, (SIDE_PX, SIDE_PX))
    solved, _ = matting._solve(image, covered, sharpness, None)
    mended = network.mend(image, covered, solved)
    before, after = (np.abs(alpha - truth).mean() for alpha in (solved, mended))
    assert after < 0.85 * before


def test_a_print_in_the_walls_own_colour_is_no_hole(network: EdgeNetwork) -> None:
    mask = soft(ring(0))
    mended = network.mend(picture(ring(9), 210, 60), mask, mask)
    assert mended[140:180, 140:180].min() > 0.9


def outlined(truth: np.ndarray) -> np.ndarray:
    """Return the mask that somebody draws of it: 0 or 1, then reduced."""
    large = cv2.resize(truth, (3 * SIDE_PX, 3 * SIDE_PX), interpolation=cv2.INTER_CUBIC)
    hard = (large > 0.5).astype(np.float32)
    return np.asarray(
        cv2.resize(hard, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA), np.float32
    )


def mottled(truth: np.ndarray, seed: int) -> np.ndarray:
    """Return a picture whose subject and background are mottled in the same dark colours."""
    rng = np.random.default_rng(seed)
    blobs = rng.integers(20, 120, (2, 40, 40, 3)).astype(np.float32)
    front, behind = (cv2.resize(each, (SIDE_PX, SIDE_PX)) for each in blobs)
    mixed: np.ndarray = behind + (front - behind) * truth[..., None]
    return np.clip(mixed + rng.normal(0, 2, mixed.shape), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_what_was_drawn_stays_solid_before_a_ground_of_its_own_colours(
    network: EdgeNetwork, seed: int
) -> None:
    truth = strands(seed, 5)
    image, mask = mottled(truth, seed), outlined(truth)
    solved, _ = matting._solve(image, mask, matting._sharpness(mask, (SIDE_PX, SIDE_PX)), None)
    mended = network.mend(image, mask, solved)
    before, after = (np.abs(alpha - truth).mean() for alpha in (solved, mended))
    assert after < 0.85 * before


def test_a_print_inside_a_drawn_outline_is_no_hole(network: EdgeNetwork) -> None:
    mask = outlined(ring(0))
    mended = network.mend(picture(ring(9), 210, 60), mask, mask)
    assert mended[140:180, 140:180].min() > 0.9


def test_without_weights_for_it_a_mask_drawn_sharply_is_left_alone(network: EdgeNetwork) -> None:
    sharp = (ring(0) > 0.5).astype(np.float32)
    alone = replace(network, drawn_session=None)
    assert np.array_equal(alone.mend(picture(ring(9), 210, 60), sharp, sharp), sharp)


@pytest.mark.parametrize("seed", [1, 2])
def test_a_networks_soft_mask_is_mended_the_same_with_weights_for_drawn_ones_or_without(
    network: EdgeNetwork, seed: int
) -> None:
    image, mask = picture(strands(seed, 2), 60, 210), soft(strands(seed, 2))
    alone = replace(network, drawn_session=None)
    assert np.array_equal(network.mend(image, mask, mask), alone.mend(image, mask, mask))


def test_the_softer_a_drawn_mask_the_less_it_is_heard_as_one_without_a_leap() -> None:
    truth = strands(5, 4)
    image, hard = mottled(truth, 5), outlined(truth)
    spreads = np.linspace(0.2, 2.2, 81)
    masks = [cv2.GaussianBlur(hard, (0, 0), spread) for spread in spreads]
    heard = [describe(image, mask, mask).drawn for mask in masks]
    assert heard[0] == 1
    assert heard[-1] == 0
    assert max(np.abs(np.diff(heard))) < 0.3


def test_a_mask_that_is_mostly_grey_is_left_alone(network: EdgeNetwork) -> None:
    grey = 0.3 + 0.4 * soft(ring(0))
    assert np.array_equal(network.mend(picture(ring(0), 210, 60), grey, grey), grey)


@pytest.mark.parametrize("level", [0.0, 1.0])
def test_a_mask_without_an_edge_stays_as_it_is(network: EdgeNetwork, level: float) -> None:
    flat = np.full((200, 320), level, np.float32)
    image = np.random.default_rng(2).integers(0, 256, (200, 320, 3)).astype(np.uint8)
    assert np.abs(network.mend(image, flat, flat) - level).max() < 0.5


def test_a_refined_matte_says_that_it_was_mended(network: EdgeNetwork) -> None:
    image, mask = picture(strands(3, 2), 60, 210), soft(strands(3, 2))
    plain, solved = refine(image, mask)
    mended, method = refine(image, mask, edge=network)
    assert (solved, method) == ("closed-form", "learned")
    truth = strands(3, 2) * 255
    assert np.abs(mended - truth).mean() < np.abs(plain - truth).mean()


def test_a_class_mask_at_twice_the_size_is_mended_and_a_soft_one_of_that_size_is_not(
    network: EdgeNetwork,
) -> None:
    truth = cv2.resize(strands(3, 4), (640, 640), interpolation=cv2.INTER_CUBIC)
    image, classes = picture(truth, 60, 210), (truth > 0.5).astype(np.float32)
    solved, _ = refine(image, classes)
    mended, method = refine(image, classes, edge=network)
    assert method == "learned"
    assert np.abs(mended - 255 * truth).mean() < np.abs(solved - 255 * truth).mean()
    assert refine(image, soft(truth), edge=network)[1] == "closed-form"


def test_past_its_deadline_a_matte_is_not_mended(network: EdgeNetwork) -> None:
    image, mask = picture(strands(3, 2), 60, 210), soft(strands(3, 2))
    _, method = refine(image, mask, edge=network, deadline_s=time.monotonic() - 1)
    assert method == "guided"


def test_threads_do_not_change_what_is_mended(network: EdgeNetwork) -> None:
    image, mask = picture(strands(3, 2), 60, 210), soft(strands(3, 2))
    shared = replace(network, threads=3)
    assert np.array_equal(network.mend(image, mask, mask), shared.mend(image, mask, mask))


def small_strands(seed: int, at: tuple[int, int]) -> np.ndarray:
    """Return the alpha of a small head of strands somewhere in the frame."""
    alpha = np.zeros((SIDE_PX, SIDE_PX), np.float32)
    small = cv2.resize(strands(seed, 3), (96, 96), interpolation=cv2.INTER_AREA)
    alpha[at[0] : at[0] + 96, at[1] : at[1] + 96] = small
    return alpha


@pytest.mark.parametrize("at", [(0, 0), (71, 133), (224, 224)])
def test_looking_only_around_what_is_in_doubt_changes_no_level(
    network: EdgeNetwork, at: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = small_strands(4, at)
    image, mask = picture(truth, 90, 160), soft(truth)
    boxed = network.mend(image, mask, mask)
    whole = partial(describe, margin_px=2 * SIDE_PX)
    assert whole(image, mask, mask).frame == (slice(0, SIDE_PX), slice(0, SIDE_PX))
    monkeypatch.setattr("core.edge.describe", whole)
    assert np.abs(network.mend(image, mask, mask) - boxed).max() < 1 / 255


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    size_px=st.tuples(st.integers(1, 90), st.integers(1, 90)),
)
def test_any_picture_and_mask_are_described_in_finite_numbers(
    seed: int, size_px: tuple[int, int]
) -> None:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (*size_px, 3)).astype(np.uint8)
    coarse, alpha = (cv2.blur(rng.random(size_px, np.float32), (9, 9)) for _ in range(2))
    described = describe(image, coarse.reshape(size_px), alpha.reshape(size_px))
    assert described.clues.shape == (described.pixels.size, CLUES)
    assert np.isfinite(described.clues).all()
    assert 0 <= described.heard <= 1
