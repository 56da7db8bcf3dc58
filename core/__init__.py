"""Pure imaging: bytes and arrays in, bytes and arrays out.

>>> from pathlib import Path
>>> from core import cut_out, load_segmenter
>>> segmenter = load_segmenter("cutout-lite", None)
>>> Path("cutout.png").write_bytes(cut_out(Path("photo.jpg").read_bytes(), segmenter).image)
"""

from core.cutout import Cutout
from core.errors import CoreError
from core.header import ImageHeader, ImageLimits, inspect
from core.options import CutoutOptions
from core.pipeline import BYTES_PER_PIXEL_PEAK, cut_out, cut_out_many
from core.segmenter import Segmenter, load_segmenter
from core.weights import WEIGHTS, Weights, find_weights, resolve_model

__all__ = [
    "BYTES_PER_PIXEL_PEAK",
    "WEIGHTS",
    "CoreError",
    "Cutout",
    "CutoutOptions",
    "ImageHeader",
    "ImageLimits",
    "Segmenter",
    "Weights",
    "cut_out",
    "cut_out_many",
    "find_weights",
    "inspect",
    "load_segmenter",
    "resolve_model",
]
