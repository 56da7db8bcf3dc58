"""How sure the cutout is, and in words why not.

Judged on the network's raw prediction, before it is stretched to full contrast: the stretch turns a
picture without a subject into noise that looks like a mask.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

LOW_RESOLUTION_PX = 400
"""Below this long edge there is too little signal to matte an edge with."""
SUBJECT_SHARE_MIN = 0.005
"""A subject smaller than this part of the picture is more likely a speck."""
CLEAR_MIN = 0.5

Mask = NDArray[np.float32]


def judge(
    raw: Mask, mask: Mask, alpha: NDArray[np.uint8], image: NDArray[np.uint8]
) -> tuple[float, tuple[str, ...]]:
    """Return the confidence, 0..1, and the reasons that lower it.

    Args:
        raw: (h, w) float32, the prediction before any stretch, about 0..1.
        mask: (h, w) float32, 0..1, the prediction after it.
        alpha: (H, W) uint8, the finished matte.
        image: (H, W, 3) uint8 sRGB.
    """
    decided = _decidedness(raw)
    reasons: list[str] = []
    if max(image.shape[:2]) < LOW_RESOLUTION_PX:
        reasons.append("low_resolution")
    if _touches_frame(mask):
        reasons.append("touches_frame")
    if decided < CLEAR_MIN or float(np.mean(alpha > 127)) < SUBJECT_SHARE_MIN:  # noqa: PLR2004 half
        reasons.append("no_clear_subject")
    return round(decided, 3), tuple(reasons)


def _decidedness(raw: Mask) -> float:
    """Return the part of what might be subject that the network is sure about."""
    raw = np.clip(raw, 0, 1)
    likely = float(raw.sum())
    if likely < SUBJECT_SHARE_MIN * raw.size:
        return 0.0
    return float(np.square(raw).sum()) / likely * float(raw.max())


def _touches_frame(mask: Mask) -> bool:
    small = cv2.resize(mask, (64, 64), interpolation=cv2.INTER_AREA)
    sides = (small[0], small[-1], small[:, 0], small[:, -1])
    return max(float(np.mean(side > 0.5)) for side in sides) > 0.1  # noqa: PLR2004 half; a tenth
