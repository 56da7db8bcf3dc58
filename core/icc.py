"""Colours of a matrix profile (Display-P3, Adobe RGB, every camera's) to sRGB, three times as fast.

Such a profile is a curve per channel and one matrix. littlecms, which reads any profile, remains
the judge: `core.decode` comes here only where both agree on a probe.
"""

import struct
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from core.blend import strips

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float64]

TAG_TABLE_AT: Final = 128
TAGS_MAX: Final = 100
COLUMNS: Final = (b"rXYZ", b"gXYZ", b"bXYZ")
CURVES: Final = (b"rTRC", b"gTRC", b"bTRC")
LEVELS: Final = np.arange(256) / 255
LIGHT_STEPS: Final = 16_383
"""Linear light is looked up in so many steps: fine enough for the darkest of 256 levels."""
XYZ_TO_SRGB: Final = np.array(
    [
        [3.1338561, -1.6168667, -0.4906146],
        [-0.9787684, 1.9161415, 0.0334540],
        [0.0719453, -0.2289914, 1.4052427],
    ]
)
"""From the profile connection space (D50, Bradford-adapted) to linear sRGB."""
PLAIN_POWER: Final = 0
POWER_OVER_LINE: Final = 3


@dataclass(frozen=True, slots=True)
class MatrixWay:
    """From a profile's numbers to sRGB's.

    Attributes:
        light: (1, 256, 3) float32, linear light of each level of each channel.
        matrix: (3, 3) float32, to linear sRGB in `LIGHT_STEPS`.
    """

    light: NDArray[np.float32]
    matrix: NDArray[np.float32]

    def convert(self, image: Pixels) -> Pixels:
        """Return (H, W, 3) uint8 sRGB; what is outside its gamut is clipped."""
        converted = np.empty_like(image)
        for rows in strips(image.shape):
            light = cv2.transform(cv2.LUT(image[rows], self.light), self.matrix)
            np.clip(light, 0, LIGHT_STEPS, out=light)
            converted[rows] = SRGB_OF_LIGHT[light.astype(np.uint16)]
        return converted


def matrix_way(profile: bytes) -> MatrixWay | None:
    """Read a profile that is curves and a matrix and nothing else; None for any other."""
    try:
        tags = _tags(profile)
        if profile[16:24] != b"RGB XYZ " or b"A2B0" in tags:
            return None
        matrix = np.array([_numbers(tags[name], 8, 3) for name in COLUMNS]).T
        light = np.array([_light(tags[name]) for name in CURVES]).T
    except (struct.error, KeyError, ValueError, IndexError):
        return None
    return MatrixWay(
        light.astype(np.float32)[None], (XYZ_TO_SRGB @ matrix * LIGHT_STEPS).astype(np.float32)
    )


def _tags(profile: bytes) -> dict[bytes, bytes]:
    (count,) = struct.unpack_from(">I", profile, TAG_TABLE_AT)
    tags = {}
    for at in range(min(count, TAGS_MAX)):
        entry = TAG_TABLE_AT + 4 + 12 * at
        name, start, length = struct.unpack_from(">4sII", profile, entry)
        tags[name] = profile[start : start + length]
    return tags


def _numbers(tag: bytes, at: int, count: int) -> list[float]:
    return [number / 65_536 for number in struct.unpack_from(f">{count}i", tag, at)]


def _light(tag: bytes) -> Floats:
    """Return the linear light, 0..1, of the 256 levels."""
    if tag[:4] == b"para":
        return _parametric(tag)
    (count,) = struct.unpack_from(">I", tag, 8)
    if count == 0:
        return LEVELS
    steps = np.array(struct.unpack_from(f">{count}H", tag, 12), float)
    if count == 1:
        return np.asarray(LEVELS ** (steps[0] / 256))
    return np.interp(LEVELS, np.linspace(0, 1, count), steps / 65_535)


def _parametric(tag: bytes) -> Floats:
    """Read a plain power, or sRGB's kind of curve; the other kinds hardly exist."""
    (kind,) = struct.unpack_from(">H", tag, 8)
    if kind == PLAIN_POWER:
        (gamma,) = _numbers(tag, 12, 1)
        return np.asarray(LEVELS**gamma)
    if kind != POWER_OVER_LINE:
        raise ValueError(f"parametric curve of kind {kind}")
    gamma, slope, shift, linear, knee = _numbers(tag, 12, 5)
    power = np.maximum(slope * LEVELS + shift, 0) ** gamma
    return np.where(knee <= LEVELS, power, linear * LEVELS)


def _srgb_of_light() -> Pixels:
    light = np.arange(LIGHT_STEPS + 1) / LIGHT_STEPS
    curve = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)  # noqa: PLR2004 - sRGB's knee
    return np.asarray(np.rint(255 * curve), np.uint8)


SRGB_OF_LIGHT: Final = _srgb_of_light()
