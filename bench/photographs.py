"""The evaluation photographs beside the checkout, with their measured truth.

They are for measuring only and are not part of this project; without them the harness measures on
generated scenes alone and says so.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SHARED = Path(__file__).resolve().parents[1].parent / "shared"
EVAL = SHARED / "data" / "eval"
MODELS = SHARED / "models"

SOFT_SETS = ("alphamatting27", "lemur")
BINARY_SETS = ("ccp", "humanseg290", "sod")
FITTING_HALF = ("GT02", "GT06", "GT10", "GT14", "GT18", "GT22", "GT26")
"""Every second photograph with measured alpha: the only ones a constant may be chosen on.

The others are held out. The list is fixed, so that no choice can move a photograph across.
"""


@dataclass(frozen=True, slots=True)
class Photograph:
    """A picture and its measured alpha, 0..1."""

    name: str
    image: NDArray[np.uint8]
    alpha: NDArray[Any]


def photographs(sets: tuple[str, ...]) -> Iterator[Photograph]:
    for name in sets:
        for path in sorted((EVAL / name / "images").glob("*")):
            image = Image.open(path).convert("RGB")
            mask = Image.open(EVAL / name / "masks" / f"{path.stem}.png").convert("L")
            if mask.size != image.size:
                mask = mask.resize(image.size, Image.Resampling.BILINEAR)
            truth = np.asarray(mask, np.float64) / 255
            yield Photograph(f"{name}/{path.stem}", np.asarray(image), truth)
