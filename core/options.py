"""What the caller may choose about a cutout; checked when made, before any picture is touched."""

from dataclasses import dataclass
from typing import Final, Literal, get_args

from core.errors import InvalidOptionError

Transparency = Literal["background", "flatten", "keep"]
Format = Literal["png", "webp", "jpg", "zip"]
Channels = Literal["rgba", "alpha"]

CHOICES: Final = {
    "transparency": get_args(Transparency),
    "format": get_args(Format),
    "channels": get_args(Channels),
}


@dataclass(frozen=True, slots=True)
class CutoutOptions:
    """One cutout's options.

    Raises:
        InvalidOptionError: a value is not one of the choices, or two options contradict each other.
    """

    transparency: Transparency = "background"
    format: Format = "png"
    bg_color: str | None = None
    bg_image: bytes | None = None
    crop: bool = False
    crop_margin: str | None = None
    channels: Channels = "rgba"
    roi: str | None = None
    refine: bool = True
    decontaminate: bool = True
    confidence_min: float = 0.0
    watermark: bool = False

    def __post_init__(self) -> None:
        for option, choices in CHOICES.items():
            if getattr(self, option) not in choices:
                raise InvalidOptionError(option, f"is one of {', '.join(choices)}")
