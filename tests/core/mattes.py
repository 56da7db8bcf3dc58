"""A mask brought to a picture's full size, both halves of it at once."""

import numpy as np
from numpy.typing import NDArray

from core.edge import EdgeNetwork
from core.matting import scale_up, solve


def refine(
    image: NDArray[np.uint8],
    mask: NDArray[np.float32],
    *,
    edge: EdgeNetwork | None = None,
    deadline_s: float | None = None,
) -> tuple[NDArray[np.uint8], str]:
    """Return alpha, (H, W), and the name of what made it."""
    matte = solve(image, mask, edge=edge, deadline_s=deadline_s)
    return scale_up(matte, image), matte.method
