"""rembg's three modes, run as its users run them: `rembg.remove()` with a session.

Its first import compiles for about a minute; the server never imports it.
"""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import rembg
from numpy.typing import NDArray
from PIL import Image
from pymatting import estimate_foreground_ml

from bench.photographs import MODELS

MODES: Mapping[str, Mapping[str, bool]] = {
    "rembg plain": {},
    "rembg decontaminate": {"decontaminate": True},
    "rembg alpha matting": {"alpha_matting": True},
}


class KnownMask:
    """A session that answers with a mask it was given, so that only the edge work is measured."""

    def __init__(self, mask: Image.Image) -> None:
        self._mask = mask

    def predict(self, image: Image.Image, *_: Any, **__: Any) -> list[Image.Image]:
        resample = Image.Resampling.LANCZOS  # as all its sessions scale their masks up
        same = self._mask.size == image.size
        return [self._mask if same else self._mask.resize(image.size, resample)]


def session() -> Any:
    """Return rembg's own u2netp session on the weights beside the checkout."""
    os.environ["U2NET_HOME"] = str(MODELS)
    os.environ["MODEL_CHECKSUM_DISABLED"] = "1"
    return rembg.new_session("u2netp")


def cutout(image: NDArray[np.uint8], mask: Image.Image, mode: str) -> NDArray[np.uint8]:
    """Return the RGBA cutout that a mode of rembg makes of `image` with this mask."""
    source = Image.fromarray(image)
    return np.asarray(rembg.remove(source, session=KnownMask(mask), **MODES[mode]))


def reference_foreground(image: NDArray[np.uint8], alpha: NDArray[Any]) -> NDArray[Any]:
    """Return F of a photograph from its true alpha, by the estimate that rembg itself uses.

    Nobody measured the true colours; if this choice favours anybody, it is the peer.
    """
    estimate = estimate_foreground_ml(image / 255, alpha)
    return np.asarray(np.where(alpha[..., None] == 1, image, estimate * 255))


def remove(source: bytes, session_of_weights: Any, mode: str) -> Any:
    """Return what a mode of rembg makes of a file: the bytes of a PNG."""
    return rembg.remove(source, session=session_of_weights, **MODES[mode])
