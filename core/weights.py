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


@dataclass(frozen=True, slots=True)
class Weights:
    """One row of the table.

    Attributes:
        input_px: side of the square that the network sees.
        mean: taken off each channel, after the picture was divided by its largest value.
        std: each channel is divided by it.
        checksums: `sha256:…` or `md5:…` of every file that is accepted under this name.
        classes: 1 for a saliency map; more where the network answers one map per class.
        is_stretched: the prediction is stretched to its own minimum and maximum, as rembg does.
        is_embedded: ships with the project.
    """

    name: str
    input_px: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    checksums: frozenset[str]
    licence: str
    good_for: str
    classes: int = 1
    is_stretched: bool = True
    is_embedded: bool = False

    @property
    def file_name(self) -> str:
        return f"{self.name}.onnx"


def _u2net(name: str, md5: str, good_for: str, *sha256: str) -> Weights:
    checksums = frozenset({f"md5:{md5}", *(f"sha256:{digest}" for digest in sha256)})
    return Weights(name, 320, IMAGENET_MEAN, IMAGENET_STD, checksums, "Apache-2.0", good_for)


_TABLE: Final = (
    _u2net("u2net", "60024c5c889badc19c04ad937298a77b", "General use"),
    _u2net("u2net_human_seg", "c09ddc2e0104f800e3e1bb4652583d1f", "Human portraits"),
    _u2net(
        "u2netp",
        "8e83ca70e441ab06c318d82300c84806",
        "Fast processing",
        "b9eb234a37ee1cba38be364a3f8c664770d5b681781c67d9147e8096f7f3031b",
    ),
    Weights(
        "u2net_cloth_seg",
        768,
        IMAGENET_MEAN,
        IMAGENET_STD,
        frozenset({"md5:2434d1f3cb744e0e49386c906e5a08bb"}),
        "MIT",
        "Clothing items",
        classes=4,
    ),
    _u2net("silueta", "55e59e0d8062d2f5d013f4725ee84782", "Portraits"),
    Weights(
        "isnet-general-use",
        1024,
        (0.5, 0.5, 0.5),
        (1.0, 1.0, 1.0),
        frozenset({"md5:fc16ebd8b0c10d971d3513d564d01e29"}),
        "Apache-2.0",
        "Highest quality",
    ),
    Weights(
        "cutout-lite",
        256,
        (0.0, 0.0, 0.0),
        (1.0, 1.0, 1.0),
        frozenset({"sha256:2f806bb780c8b6d0de572a8127b0e669cdbc7e1a864f6369988723a0a715a322"}),
        "Apache-2.0",
        "Previews, and machines without other weights",
        is_stretched=False,
        is_embedded=True,
    ),
)
WEIGHTS: Final[Mapping[str, Weights]] = MappingProxyType({row.name: row for row in _TABLE})
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
        for path in (
            folder / weights.file_name,
            folder / "models" / weights.name / weights.file_name,
        ):
            if path.is_file():
                return path
    raise WeightsNotInstalledError(name)


def resolve_model(
    name: str, folder: Path | None, *, is_substitution_allowed: bool
) -> tuple[str, str | None]:
    """Return the model that will run when `name` is asked for, and a warning where it is another.

    Raises:
        UnknownModelError: the table has no such name.
        WeightsNotInstalledError: not installed, and no substitute is allowed.
    """
    if name == "auto":
        return _best_installed(folder), None
    try:
        find_weights(name, folder)
    except WeightsNotInstalledError:
        if not is_substitution_allowed:
            raise
        substitute = _best_installed(folder)
        return substitute, (
            f"{name} is not installed, {substitute} ran instead; "
            f"`cutout models pull {name}` installs it"
        )
    return name, None


def _best_installed(folder: Path | None) -> str:
    for name in BEST_FIRST:
        try:
            find_weights(name, folder)
        except WeightsNotInstalledError:
            continue
        return name
    raise WeightsNotInstalledError("auto")
