"""The table of models: which file, how it wants its input, whose it is, what it is good for."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

from core.errors import UnknownModelError, WeightsNotInstalledError

EMBEDDED_FOLDER: Final = Path(__file__).parent / "onnx"
IMAGENET_MEAN: Final = (0.485, 0.456, 0.406)
IMAGENET_STD: Final = (0.229, 0.224, 0.225)
NO_MEAN: Final = (0.0, 0.0, 0.0)
UNIT_STD: Final = (1.0, 1.0, 1.0)
MIB: Final = 2**20


@dataclass(frozen=True, slots=True)
class Weights:
    """One row of the table.

    Attributes:
        input_px: side of the square that the network sees.
        checksums: SHA-256 of each file that is accepted under this name; the first is the released
            one.
        size_bytes: of the released file.
        working_bytes: what onnxruntime keeps for intermediate results once it has run, on one
            thread. Measured; for weights that were not at hand, on networks of the same shape.
        licence: of the weights, as their authors state it.
        source: where the weights come from.
        good_for: in the words of the table that customers see.
        mean: taken off each channel, after the picture was divided by its scale.
        std: each channel is divided by it.
        is_scaled_by_largest: the picture is divided by its own largest value, as rembg does, not
            by 255.
        is_stretched: the prediction is stretched to its own minimum and maximum, as rembg does.
        classes: the names of the output's channels, where the network tells kinds apart; the first
            is "none of them".
        is_embedded: ships with the project.
        is_edge_mended: cutout-edge wins on its masks, by measurement (docs/models/cutout-edge.md).
    """

    name: str
    input_px: int
    checksums: tuple[str, ...]
    size_bytes: int
    working_bytes: int
    licence: str
    source: str
    good_for: str
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    is_scaled_by_largest: bool = True
    is_stretched: bool = True
    classes: tuple[str, ...] = ()
    is_embedded: bool = False
    is_edge_mended: bool = True

    @property
    def file_name(self) -> str:
        return f"{self.name}.onnx"


_TABLE: Final = (
    Weights(
        name="u2net",
        input_px=320,
        checksums=("8d10d2f3bb75ae3b6d527c77944fc5e7dcd94b29809d47a739a7a728a912b491",),
        size_bytes=175_997_641,
        working_bytes=340 * MIB,
        licence="Apache-2.0",
        source="xuebinqin/U-2-Net",
        good_for="General use",
    ),
    Weights(
        name="u2net_human_seg",
        input_px=320,
        checksums=("01eb6a29a5c4d8edb30b56adad9bb3a2a0535338e480724a213e0acfd2d1c73c",),
        size_bytes=175_997_641,
        working_bytes=340 * MIB,
        licence="Apache-2.0",
        source="xuebinqin/U-2-Net",
        good_for="Human portraits",
    ),
    Weights(
        name="u2netp",
        input_px=320,
        checksums=(
            "309c8469258dda742793dce0ebea8e6dd393174f89934733ecc8b14c76f4ddd8",
            # The same numbers, rebuilt from two half-precision conversions of that file.
            "b9eb234a37ee1cba38be364a3f8c664770d5b681781c67d9147e8096f7f3031b",
        ),
        size_bytes=4_574_861,
        working_bytes=170 * MIB,
        licence="Apache-2.0",
        source="xuebinqin/U-2-Net",
        good_for="Fast processing",
    ),
    Weights(
        name="u2net_cloth_seg",
        input_px=768,
        checksums=("6d2cbc27bfbdc989e1fd325656d65902ecc6a3ccbe94b2d3655ec114efcb128e",),
        size_bytes=176_194_565,
        working_bytes=1_300 * MIB,
        licence="MIT",
        source="levindabhi/cloth-segmentation",
        good_for="Clothing items",
        is_stretched=False,
        classes=("none", "upper", "lower", "full"),
    ),
    Weights(
        name="silueta",
        input_px=320,
        checksums=("75da6c8d2f8096ec743d071951be73b4a8bc7b3e51d9a6625d63644f90ffeedb",),
        size_bytes=44_173_029,
        working_bytes=340 * MIB,
        licence="none stated (U-2-Net made smaller; Apache-2.0 upstream)",
        source="danielgatis/rembg",
        good_for="Portraits",
    ),
    Weights(
        name="isnet-general-use",
        input_px=1024,
        checksums=("60920e99c45464f2ba57bee2ad08c919a52bbf852739e96947fbb4358c0d964a",),
        size_bytes=178_648_008,
        working_bytes=600 * MIB,
        licence="Apache-2.0",
        source="xuebinqin/DIS",
        good_for="Highest quality",
        mean=(0.5, 0.5, 0.5),
        std=UNIT_STD,
    ),
    Weights(
        name="cutout-lite",
        input_px=192,
        checksums=("19f0e44939e9e117912e8601baeae6c6af23a889bd308769fe0af2e7c0abd21f",),
        size_bytes=2_425_502,
        working_bytes=60 * MIB,
        licence="Apache-2.0",
        source="this project, from xuebinqin/U-2-Net",
        good_for="Previews, and machines without other weights",
        mean=NO_MEAN,
        std=UNIT_STD,
        is_scaled_by_largest=False,
        is_stretched=False,
        is_embedded=True,
        is_edge_mended=False,
    ),
)
EDGE: Final = Weights(
    name="cutout-edge",
    input_px=320,
    checksums=("10f6f00e20bb02422f1a9debdfe19d182905f975bbc95fd24417b812a6393b64",),
    size_bytes=40_697,
    working_bytes=16 * MIB,
    licence="Apache-2.0",
    source="this project",
    good_for="Mending the edges of all others' masks",
    is_embedded=True,
)
"""Runs after any of the models, on the solver's matte (core/edge.py); not asked for by name."""
EDGE_DRAWN: Final = Weights(
    name="cutout-edge-drawn",
    input_px=320,
    checksums=("069bad91befbdc3fe5a90af0293e221263ccaa75f6db521e7f498119249f9432",),
    size_bytes=42_853,
    working_bytes=16 * MIB,
    licence="Apache-2.0",
    source="this project",
    good_for="Mending the edges of masks that were drawn hard",
    is_embedded=True,
)
"""Runs in its place where the mask is 0 or 1 right beside its edge (core/drawn.py)."""
WEIGHTS: Final[Mapping[str, Weights]] = MappingProxyType({row.name: row for row in _TABLE})
AUTO: Final = "auto"
BEST_FIRST: Final = ("isnet-general-use", "u2net", "u2netp", "silueta", "cutout-lite")
"""What `auto` tries, and what stands in for weights that are not installed."""


def find_weights(name: str, folder: Path | None) -> Path:
    """Return the file of `name`: the embedded one, or one in rembg's old or new folder layout.

    Raises:
        UnknownModelError: the table has no such name.
        WeightsNotInstalledError: the file is not there.
    """
    if name not in WEIGHTS:
        raise UnknownModelError(name)
    weights = WEIGHTS[name]
    if weights.is_embedded:
        return EMBEDDED_FOLDER / weights.file_name
    if folder is not None:
        for place in (folder, folder / "models" / name):
            if (place / weights.file_name).is_file():
                return place / weights.file_name
    raise WeightsNotInstalledError(name)


def is_installed(name: str, folder: Path | None) -> bool:
    try:
        find_weights(name, folder)
    except WeightsNotInstalledError:
        return False
    return True


def resolve_model(
    name: str, folder: Path | None, *, is_substitution_allowed: bool
) -> tuple[str, str | None]:
    """Return the model that will run when `name` is asked for, and a warning where it is another.

    Raises:
        UnknownModelError: the table has no such name.
        WeightsNotInstalledError: not installed, and no substitute is allowed.
    """
    best = next(candidate for candidate in BEST_FIRST if is_installed(candidate, folder))
    if name == AUTO:
        return best, None
    if is_installed(name, folder):
        return name, None
    if not is_substitution_allowed:
        raise WeightsNotInstalledError(name)
    return best, (
        f"{name} is not installed, {best} ran instead; `cutout models pull {name}` installs it"
    )
