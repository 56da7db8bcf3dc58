"""The measures say nothing of a perfect cutout and name each fault by its sign."""

import numpy as np
import pytest

from bench import metrics
from bench.scenes import KINDS, scene

SCENE = scene("hair", "green", 1)
TRUTH = (SCENE.foreground, SCENE.alpha)


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_scene_is_its_layers_and_follows_its_seed(kind: str) -> None:
    one, same, other = scene(kind, "dark", 1), scene(kind, "dark", 1), scene(kind, "dark", 2)

    assert (one.image == same.image).all()
    assert (one.image != other.image).any()
    opaque = one.alpha == 1
    assert np.abs(one.image[opaque] - one.foreground[opaque]).max() <= 0.5


def test_the_truth_has_no_error() -> None:
    assert metrics.sad(SCENE.alpha, SCENE.alpha) == 0
    assert metrics.mse(SCENE.alpha, SCENE.alpha) == 0
    assert metrics.mad(SCENE.alpha, SCENE.alpha) == 0
    assert metrics.grad(SCENE.alpha, SCENE.alpha) == 0
    assert metrics.conn(SCENE.alpha, SCENE.alpha) == 0
    assert metrics.iou(SCENE.alpha, SCENE.alpha) == 1
    assert metrics.boundary_iou(SCENE.alpha, SCENE.alpha) == 1
    assert metrics.colour_mse(TRUTH, TRUTH) == 0
    assert set(metrics.fringe(TRUTH, TRUTH).values()) == {(0, 0)}


def test_premultiplied_colour_is_a_dark_fringe_on_every_background() -> None:
    premultiplied = (SCENE.foreground * SCENE.alpha[..., None], SCENE.alpha)

    fringes = metrics.fringe(premultiplied, TRUTH)

    assert all(signed < -0.5 for signed, _ in fringes.values())


def test_alpha_too_wide_is_worse_by_every_measure() -> None:
    wide = np.clip(SCENE.alpha + 0.2, 0, 1)

    assert metrics.mad(wide, SCENE.alpha) > 0.1
    assert metrics.sad(wide, SCENE.alpha) > 30
    assert metrics.conn(wide, SCENE.alpha) > 1


def test_a_lost_island_counts_in_connectivity_and_overlap() -> None:
    truth = np.zeros((100, 100))
    truth[10:50, 10:50] = 1
    truth[80:90, 80:90] = 1
    lost = truth.copy()
    lost[80:90, 80:90] = 0

    assert metrics.iou(lost, truth) == pytest.approx(1600 / 1700)
    assert metrics.boundary_iou(lost, truth) < 1
