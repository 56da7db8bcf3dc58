"""The colour model answers alike whatever sides a picture has."""

import numpy as np
import pytest

from core.clues import with_ones
from core.guided import ColourModel


@pytest.mark.parametrize("step_px", [1, 2])
@pytest.mark.parametrize("size_px", [(60, 80), (61, 80), (60, 81), (61, 81), (1, 1), (1, 7)])
def test_what_is_planted_is_filtered_like_the_plane_that_it_is(
    size_px: tuple[int, int], step_px: int
) -> None:
    """The solver steps with the one and begins with the other: they must be one operator."""
    rng = np.random.default_rng(11)
    picture = with_ones(rng.integers(0, 256, (*size_px, 3), dtype=np.uint8))
    wanted = (rng.random(size_px) < 0.6).astype(np.uint8)
    wanted[-1, -1] = 1
    model = ColourModel(picture, 2, 1e-4, wanted, step_px)
    values = rng.random(model.pixels.size).astype(np.float32)
    plane = np.zeros(size_px, np.float32)
    plane.reshape(-1)[model.pixels] = values

    stepped = model._filter_wanted(values)

    np.testing.assert_allclose(stepped, model.filter(plane), atol=2e-5)
