"""The photographs that may train what ships: the pack, its manifest, and what we leave out."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Plane = NDArray[Any]
"""A plane or a stack of planes; OpenCV and numpy disagree on how narrowly to type floats."""

SOURCES_LEFT_OUT = frozenset(
    {
        "oxford_pets",  # share-alike upstream
        "facemask",  # an MIT file over photographs scraped from elsewhere
        "raccoon",  # the same
        "shop_contoso",  # manufacturers' press pictures
        "shop_tailwind",  # the same
        "darknet",  # origin of the single pictures unknown
        "anau",  # licence differs per picture and is not recorded
    }
)
"""Sources whose licence file allows commercial use but whose origin a model card cannot defend."""

TWIN_BITS_MAX = 6
"""Two photographs whose 64-bit difference hashes differ in so few bits are one picture."""


@dataclass(frozen=True, slots=True)
class Photo:
    """One photograph of the pack: where it lies, whence it came, what it is for."""

    path: Path
    name: str
    source: str
    licence: str
    use: str

    def read(self) -> Image:
        """Decode to (H, W, 3) uint8 RGB."""
        decoded = cv2.imread(str(self.path), cv2.IMREAD_COLOR)
        if decoded is None:
            raise FileNotFoundError(self.path)
        return np.ascontiguousarray(decoded[..., ::-1]).astype(np.uint8, copy=False)


def read_manifest(pack: Path) -> Iterator[Photo]:
    """Yield the photographs of the unpacked `pack` whose origin the model card defends."""
    with (pack / "manifest.csv").open(encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            source = Path(row["file"]).parts[1]
            if source not in SOURCES_LEFT_OUT:
                name = str(Path(*Path(row["file"]).parts[1:]).with_suffix(""))
                yield Photo(pack / row["file"], name, source, row["licence"], row["use"])


def difference_hash(image: Image) -> int:
    """Return 64 bits that say, per cell of an 8 x 8 grid, whether it is brighter than the next."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    cells = cv2.resize(grey, (9, 8), interpolation=cv2.INTER_AREA).astype(np.int16)
    bits = (cells[:, 1:] > cells[:, :-1]).ravel()
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def has_twin(fingerprint: int, others: list[int]) -> bool:
    """Tell whether one of `others` is, for all we can see, the same picture."""
    return any((fingerprint ^ other).bit_count() <= TWIN_BITS_MAX for other in others)
