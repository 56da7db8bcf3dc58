"""What a source's own transparency means for its cutout."""

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from core.blend import blend
from core.decode import DecodedImage
from core.options import Transparency

Plane = NDArray[np.uint8]

OPAQUE: Final = 255
WHITE: Final = np.full((1, 1, 3), 255, np.uint8)
DARK: Final = np.full((1, 1, 3), 40, np.uint8)
BRIGHT_MIN: Final = 200
"""A subject brighter than this on average would drown on white."""


def flatten(decoded: DecodedImage) -> Plane:
    """Lay the picture on white."""
    if decoded.opacity is None:
        return decoded.image
    return blend(decoded.image, decoded.opacity, WHITE)


def settle(decoded: DecodedImage, transparency: Transparency) -> DecodedImage:
    """Return the opaque picture that is segmented, and the transparency that is still to be joined.

    What lies under transparent pixels is arbitrary: black, white, or the background that an
    earlier cutout took away. The network is shown white there, or dark where white would hide the
    subject.
    """
    if decoded.opacity is None:
        return decoded
    if transparency == "flatten":
        return DecodedImage(flatten(decoded), None)
    is_visible = (decoded.opacity > OPAQUE // 2).view(np.uint8)
    brightness = np.mean(cv2.mean(decoded.image, is_visible)[:3])
    is_bright = brightness > BRIGHT_MIN
    shown = blend(decoded.image, decoded.opacity, DARK if is_bright else WHITE)
    return DecodedImage(shown, decoded.opacity)


def join(alpha: Plane, opacity: Plane, transparency: Transparency) -> Plane:
    """Join the matte with the source's own alpha.

    `background`: what was see-through stays so, and may become more so. `keep`: what was
    see-through stays exactly as it was (a drawn shadow, glass), only opaque pixels are judged.
    """
    if transparency == "keep":
        return np.where(opacity < OPAQUE, opacity, alpha)
    return np.minimum(alpha, opacity)


def restore_own_colours(foreground: Plane, image: Plane, alpha: Plane, opacity: Plane) -> None:
    """Put the source's colours back, in place, where its own alpha is the result's.

    There they are exact, and need no estimate.
    """
    own = alpha == opacity
    own &= opacity > 0
    own &= opacity < OPAQUE
    np.copyto(foreground, image, where=own[..., None])
