"""Telling masks that were drawn, hard as an outline is, from those that a network answered."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

FLAT: Final = 1e-5
"""How near to 0 or 1 a mask is flat."""
DRAWN_FROM, DRAWN_TO = 0.35, 0.55
"""Share of the pixels in doubt where it is, from which, and beyond which wholly, it was drawn.

What was drawn is flat right beside its edge, what a network answered falls off for long: u2netp's
masks have shares of 0.00 to 0.13, those thresholded from the truth 0.69 and more.
"""


def drawn(mask: NDArray[Any], doubt: NDArray[np.bool_]) -> float:
    """Return how surely a mask (float32, 0..1) was drawn, by its pixels in doubt; 0..1."""
    flat = (np.abs(mask - np.float32(0.5)) > 0.5 - FLAT) & doubt
    share = int(np.count_nonzero(flat)) / max(1, int(np.count_nonzero(doubt)))
    return float(np.clip((share - DRAWN_FROM) / (DRAWN_TO - DRAWN_FROM), 0, 1))
