"""The generated foregrounds, mapped into memory."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Pool:
    """(N, 512, 512, 3) colours and (N, 512, 512) alphas, uint8, as generate.py wrote them."""

    colours: NDArray[np.uint8]
    alphas: NDArray[np.uint8]

    @classmethod
    def open(cls, folder: Path) -> "Pool":
        """Map the pool in `folder`."""
        colours = np.load(folder / "colours.npy", mmap_mode="r")
        return cls(colours, np.load(folder / "alpha.npy", mmap_mode="r"))
