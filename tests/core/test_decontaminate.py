"""Spill leaves the soft pixels; everything else stays what it was."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from core.decontaminate import BLEED_PX, Foreground, decontaminate
from core.parallel import at_once

Colour = tuple[int, int, int]


def soft_disc(size_px: int = 240, blur_px: float = 4) -> NDArray[np.uint8]:
    hard = np.zeros((size_px, size_px), np.uint8)
    cv2.circle(hard, (size_px // 2, size_px // 2), size_px // 4, 255, -1)
    return np.asarray(cv2.GaussianBlur(hard, (0, 0), blur_px), np.uint8)


def mixed(alpha: NDArray[np.uint8], subject: Colour, behind: Colour) -> NDArray[np.uint8]:
    cover = alpha[..., None] / 255
    colours = cover * np.array(subject) + (1 - cover) * np.array(behind)
    return np.asarray(np.rint(colours), np.uint8)


@pytest.mark.parametrize("behind", [(0, 200, 0), (255, 255, 255), (10, 10, 10), (255, 0, 255)])
def test_spill_of_the_background_is_removed(behind: Colour) -> None:
    subject = (150, 110, 80)
    alpha = soft_disc()

    foreground = decontaminate(mixed(alpha, subject, behind), alpha)

    visible = alpha > 12
    assert np.abs(foreground[visible].astype(int) - subject).mean() < 2


@pytest.mark.parametrize("colour", [(17, 17, 17), (255, 255, 255), (255, 0, 255)])
def test_a_composite_shows_no_fringe_of_either_sign(colour: Colour) -> None:
    subject = (150, 110, 80)
    alpha = soft_disc()
    cover = alpha[..., None] / 255

    foreground = decontaminate(mixed(alpha, subject, (0, 200, 0)), alpha)

    shown = cover * foreground + (1 - cover) * np.array(colour)
    right = cover * np.array(subject) + (1 - cover) * np.array(colour)
    assert abs((shown - right).mean()) < 0.25
    assert np.abs(shown - right).max() < 8


def test_colour_is_bled_outward_and_then_there_is_none() -> None:
    alpha = soft_disc(blur_px=1)

    foreground = decontaminate(mixed(alpha, (150, 110, 80), (0, 200, 0)), alpha)

    distance_px = cv2.distanceTransform((alpha == 0).astype(np.uint8), cv2.DIST_C, 3)
    near = (distance_px > 0) & (distance_px <= BLEED_PX - 1)
    assert np.abs(foreground[near].astype(int) - (150, 110, 80)).mean() < 10
    assert (foreground[distance_px > BLEED_PX + 1] == 0).all()


@settings(deadline=None, max_examples=25)
@given(
    size=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    seed=st.integers(0, 2**16),
    levels=arrays(np.uint8, (4, 4), elements=st.sampled_from([0, 1, 128, 254, 255])),
)
def test_opaque_pixels_are_the_source_exactly(
    size: tuple[int, int], seed: int, levels: NDArray[np.uint8]
) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    alpha = np.asarray(cv2.resize(levels, size[::-1], interpolation=cv2.INTER_NEAREST), np.uint8)
    before = image.copy()

    foreground = decontaminate(image, alpha)

    opaque = alpha == 255
    assert (foreground[opaque] == image[opaque]).all()
    assert foreground.shape == image.shape
    assert (image == before).all()


@pytest.mark.parametrize("level", [0, 255])
def test_a_flat_alpha_needs_no_estimate(level: int) -> None:
    image = np.full((60, 80, 3), 99, np.uint8)

    foreground = decontaminate(image, np.full((60, 80), level, np.uint8))

    assert (foreground == (99 if level else 0)).all()


def test_a_large_picture_is_treated_like_a_small_one() -> None:
    subject, behind = (150, 110, 80), (0, 200, 0)
    alpha = soft_disc(size_px=2000, blur_px=12)

    foreground = decontaminate(mixed(alpha, subject, behind), alpha)

    visible = alpha > 12
    assert np.abs(foreground[visible].astype(int) - subject).mean() < 2


@pytest.mark.parametrize("size_px", [300, 2000])
def test_a_picture_that_may_be_overwritten_gets_the_same_colours(size_px: int) -> None:
    alpha = soft_disc(size_px=size_px, blur_px=size_px / 170)
    image = mixed(alpha, (150, 110, 80), (0, 200, 0))
    kept = decontaminate(image.copy(), alpha)

    foreground = Foreground(image, alpha, may_overwrite=True)

    assert (foreground[:] == kept).all()


def test_rows_may_be_asked_for_from_several_threads() -> None:
    alpha = soft_disc(size_px=2000, blur_px=12)
    image = mixed(alpha, (150, 110, 80), (0, 200, 0))
    expected = decontaminate(image, alpha)
    foreground = Foreground(image, alpha, may_overwrite=True)
    cuts = [slice(top, min(2000, top + 90)) for top in range(0, 2000, 90)]

    parts = at_once([partial(foreground.__getitem__, rows) for rows in reversed(cuts)], threads=3)

    assert (np.concatenate(parts[::-1]) == expected).all()


def test_a_failure_to_estimate_reaches_everyone_who_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    alpha = soft_disc(size_px=300, blur_px=2)
    foreground = Foreground(mixed(alpha, (150, 110, 80), (0, 200, 0)), alpha)
    begun, failing = threading.Event(), threading.Event()

    def fail(*_: object) -> None:
        begun.set()
        assert failing.wait(10)
        raise MemoryError

    monkeypatch.setattr("core.decontaminate._estimate_tile", fail)

    with ThreadPoolExecutor(2) as pool:
        estimating = pool.submit(foreground.__getitem__, slice(0, 300))
        assert begun.wait(10)
        waiting = pool.submit(foreground.__getitem__, slice(200, 300))
        time.sleep(0.05)
        assert not waiting.done()
        failing.set()
        for asked in (estimating, waiting):
            with pytest.raises(MemoryError):
                asked.result(10)
    with pytest.raises(MemoryError):
        foreground[:10]
