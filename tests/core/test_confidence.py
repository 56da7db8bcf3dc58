"""Confidence follows the overlap with the truth, and doubts have names."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from core.confidence import doubt_edge, judge
from core.segmenter import load_segmenter
from tests.core.mattes import refine

SIDE_PX = 320
KNOWN = {"low_resolution", "colour_collision", "motion_blur", "touches_frame", "no_clear_subject"}


def disc(size_px: int = SIDE_PX, radius: float = 0.3) -> NDArray[np.float32]:
    drawn = np.zeros((size_px, size_px), np.float32)
    cv2.circle(drawn, (size_px // 2, size_px // 2), round(size_px * radius), 1.0, -1)
    return np.asarray(cv2.GaussianBlur(drawn, (0, 0), 0.7), np.float32)


def textured(alpha: NDArray[np.float32], *, contrast: float = 120) -> NDArray[np.uint8]:
    """Return a grainy subject on a grainy ground, `contrast` apart."""
    grain = np.random.default_rng(3).normal(0, 22, alpha.shape)
    grey = 60 + contrast * alpha + cv2.GaussianBlur(grain, (0, 0), 0.8)
    return np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[..., None], 3, axis=2)


def judged(image: NDArray[np.uint8], raw: NDArray[np.float32]) -> tuple[float, tuple[str, ...]]:
    span = float(raw.max() - raw.min())
    mask = (raw - raw.min()) / span if span else np.zeros_like(raw)
    alpha, _ = refine(image, mask)
    return judge(raw, mask, alpha, max(image.shape), doubt_edge(image, mask))


def test_a_clear_subject_is_sure_and_without_doubts() -> None:
    confidence, reasons = judged(textured(disc(800)), disc())

    assert confidence > 0.85
    assert reasons == ()


def test_a_faint_prediction_is_not_saved_by_its_stretch() -> None:
    faint = np.random.default_rng(1).random((SIDE_PX, SIDE_PX)).astype(np.float32) * 0.05

    confidence, reasons = judged(textured(disc(800)), faint)

    assert confidence < 0.1
    assert "no_clear_subject" in reasons


def test_an_undecided_prediction_is_less_sure_than_a_decided_one() -> None:
    image = textured(disc(800))

    decided, _ = judged(image, disc())
    undecided, _ = judged(image, disc() * 0.4 + 0.2)

    assert undecided < decided - 0.3


@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_a_flat_prediction_is_no_subject(level: float) -> None:
    raw = np.full((SIDE_PX, SIDE_PX), level, np.float32)

    confidence, reasons = judged(textured(disc(800)), raw)

    assert confidence == 0
    assert reasons == ("no_clear_subject",)
    assert judged(textured(disc(390)), raw)[1] == ("low_resolution", "no_clear_subject")


def test_a_small_picture_is_low_resolution() -> None:
    assert "low_resolution" in judged(textured(disc(390)), disc())[1]
    assert "low_resolution" not in judged(textured(disc(410)), disc())[1]


def test_a_subject_cut_by_the_frame_touches_it() -> None:
    raw = np.roll(disc(), SIDE_PX // 3, axis=0)
    raw[: SIDE_PX // 4] = 0

    _, reasons = judged(textured(np.asarray(cv2.resize(raw, (800, 800)), np.float32)), raw)

    assert "touches_frame" in reasons


def test_white_on_white_collides() -> None:
    assert "colour_collision" in judged(textured(disc(800), contrast=4), disc())[1]


def test_a_subject_smeared_in_one_direction_is_motion_blurred() -> None:
    smeared = cv2.blur(textured(disc(800)), (33, 1))

    assert "motion_blur" in judged(np.asarray(smeared, np.uint8), disc())[1]


def test_a_defocused_subject_is_not_motion_blurred() -> None:
    soft = cv2.GaussianBlur(textured(disc(800)), (0, 0), 5)

    assert "motion_blur" not in judged(np.asarray(soft, np.uint8), disc())[1]


@settings(deadline=None, max_examples=40)
@given(
    raw=arrays(np.float32, (16, 16), elements=st.floats(-0.5, 1.5, width=32)),
    alpha=arrays(np.uint8, (20, 30), elements=st.integers(0, 255)),
)
def test_confidence_stays_between_0_and_1_and_reasons_are_known(
    raw: NDArray[np.float32], alpha: NDArray[np.uint8]
) -> None:
    image = np.repeat(alpha[..., None], 3, axis=2)

    confidence, reasons = judge(
        raw, np.clip(raw, 0, 1), alpha, 30, doubt_edge(image, np.clip(raw, 0, 1))
    )

    assert 0 <= confidence <= 1
    assert set(reasons) <= KNOWN


def test_confidence_follows_the_overlap_on_photographs(shared_dir: Path) -> None:
    segmenter = load_segmenter("u2netp", shared_dir / "models")
    sure, overlaps = [], []
    for path in sorted((shared_dir / "data" / "eval" / "sod" / "images").glob("*.jpg"))[::2]:
        image = np.asarray(cv2.imread(str(path)), np.uint8)[..., ::-1].copy()
        truth = np.asarray(cv2.imread(str(path.parents[1] / "masks" / f"{path.stem}.png"), 0)) > 127
        found = segmenter.segment(image)
        alpha, _ = refine(image, found.mask)
        sure.append(
            judge(found.raw, found.mask, alpha, max(image.shape), doubt_edge(image, found.mask))[0]
        )
        overlaps.append(np.sum((alpha > 127) & truth) / np.sum((alpha > 127) | truth))

    assert np.corrcoef(sure, overlaps)[0, 1] > 0.6
