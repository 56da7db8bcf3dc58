"""What the caller may choose about a cutout; checked when made, before any picture is touched."""

import re
from dataclasses import dataclass
from typing import Final, Literal, get_args

from PIL import ImageColor

from core.errors import InvalidOptionError

Transparency = Literal["background", "flatten", "keep"]
Format = Literal["png", "webp", "jpg", "zip"]
Channels = Literal["rgba", "alpha"]
Clothes = Literal["all", "upper", "lower", "full"]
Colour = tuple[int, int, int, int]
"""Red, green, blue and opacity, 0..255."""

CHOICES: Final = {
    "transparency": get_args(Transparency),
    "format": get_args(Format),
    "channels": get_args(Channels),
    "clothes": get_args(Clothes),
}
CROP_MARGIN_PX_MAX: Final = 500
CROP_MARGIN_PERCENT_MAX: Final = 50
# How one, two and four values stand for top, right, bottom, left: as in CSS.
SIDES: Final = {1: (0, 0, 0, 0), 2: (0, 1, 0, 1), 4: (0, 1, 2, 3)}
HEX_COLOUR: Final = re.compile(r"#?([0-9a-fA-F]{3}|[0-9a-fA-F]{4}|[0-9a-fA-F]{6}|[0-9a-fA-F]{8})")
LENGTH: Final = re.compile(r"(-?)([0-9]+(?:\.[0-9]+)?)(px|%)?")
LENGTH_MAX: Final = 1e9
"""Far outside any picture; more is read as this, so that arithmetic stays finite."""


@dataclass(frozen=True, slots=True)
class Length:
    """Pixels, or a part of some other length."""

    number: float
    is_percent: bool

    def px_of(self, whole_px: int) -> int:
        return round(self.number * whole_px / 100 if self.is_percent else self.number)


@dataclass(frozen=True, slots=True)
class CutoutOptions:
    """One cutout's options.

    Attributes:
        transparency: what becomes of a source's own transparency. `background`: see-through pixels
            are background; `flatten`: onto white first; `keep`: see-through pixels stay exactly as
            they are and only opaque ones are judged.
        format: `zip` holds `color.jpg` and `alpha.png`.
        bg_color: hex of 3, 4, 6 or 8 digits, or a CSS name. A JPEG without one is on white.
        bg_image: bytes of a picture that is laid under the subject, scaled to cover.
        crop: crop to the subject.
        crop_margin: 1, 2 or 4 lengths (px or % of the subject) around the cropped subject.
        channels: `alpha` answers the matte alone, as a grey picture.
        roi: `x1 y1 x2 y2` (px or %): the subject is looked for in this part of the picture only.
        refine: bring alpha to full resolution along the picture's own edges.
        decontaminate: take the background's colour out of soft edges.
        confidence_min: below it `NoForegroundError` instead of a cutout, as for an empty one.
        watermark: write over the result that it is a test.
        clothes: which clothes `u2net_cloth_seg` cuts out; the other models know only `all`.

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
    clothes: Clothes = "all"

    def __post_init__(self) -> None:
        for option, choices in CHOICES.items():
            if getattr(self, option) not in choices:
                raise InvalidOptionError(option, f"is one of {', '.join(choices)}")
        if not 0 <= self.confidence_min <= 1:
            raise InvalidOptionError("confidence_min", "is between 0 and 1")
        if self.bg_color is not None:
            parse_colour(self.bg_color)
        if self.roi is not None:
            parse_roi(self.roi)
        if self.crop_margin is not None:
            parse_margin(self.crop_margin)
        self._refuse_contradictions()

    def pixels_of(self, width_px: int, height_px: int) -> int:
        """Tell how many pixels a picture of this size may come to; only a margin makes it grow."""
        if self.crop_margin is None:
            return width_px * height_px
        above, after, below, before = parse_margin(self.crop_margin)
        wide_px = width_px + before.px_of(width_px) + after.px_of(width_px)
        return wide_px * (height_px + above.px_of(height_px) + below.px_of(height_px))

    def _refuse_contradictions(self) -> None:
        has_background = self.bg_color is not None or self.bg_image is not None
        if self.bg_color is not None and self.bg_image is not None:
            raise InvalidOptionError("bg_color", "contradicts a background image")
        if self.channels == "alpha" and has_background:
            raise InvalidOptionError("channels", "alpha has no background")
        if self.channels == "alpha" and self.format == "zip":
            raise InvalidOptionError("channels", "a zip always holds colour and alpha")
        if self.format == "zip" and has_background:
            raise InvalidOptionError("format", "a zip holds the alpha, so it has no background")
        if self.crop_margin is not None and not self.crop:
            raise InvalidOptionError("crop_margin", "needs crop")


def parse_colour(text: str) -> Colour:
    """Read a hex colour of 3, 4, 6 or 8 digits (`#` optional) or a CSS name."""
    text = text.strip().lower()
    if found := HEX_COLOUR.fullmatch(text):
        digits = found[1]
        if len(digits) < 6:  # noqa: PLR2004 - the short form writes each digit once
            digits = "".join(digit * 2 for digit in digits)
        red, green, blue, opacity = bytes.fromhex(digits.ljust(8, "f"))
        return red, green, blue, opacity
    if text not in ImageColor.colormap:
        raise InvalidOptionError("bg_color", "is a hex colour of 3, 4, 6 or 8 digits or a CSS name")
    red, green, blue = ImageColor.getrgb(text)[:3]
    return red, green, blue, 255


def parse_margin(text: str) -> tuple[Length, Length, Length, Length]:
    """Read 1, 2 or 4 lengths into top, right, bottom, left."""
    lengths = _lengths("crop_margin", text)
    if len(lengths) not in SIDES:
        raise InvalidOptionError("crop_margin", "is 1, 2 or 4 lengths")
    for length in lengths:
        if length.number > (CROP_MARGIN_PERCENT_MAX if length.is_percent else CROP_MARGIN_PX_MAX):
            raise InvalidOptionError(
                "crop_margin",
                f"is at most {CROP_MARGIN_PERCENT_MAX}% or {CROP_MARGIN_PX_MAX}px",
            )
    top, right, bottom, left = (lengths[index] for index in SIDES[len(lengths)])
    return top, right, bottom, left


def parse_roi(text: str) -> tuple[Length, Length, Length, Length]:
    """Read `x1 y1 x2 y2`."""
    lengths = _lengths("roi", text)
    if len(lengths) != 4:  # noqa: PLR2004 - two corners
        raise InvalidOptionError("roi", "is four lengths: x1 y1 x2 y2")
    left, top, right, bottom = lengths
    return left, top, right, bottom


def _lengths(option: str, text: str) -> list[Length]:
    lengths = []
    for word in text.split():
        found = LENGTH.fullmatch(word)
        if found is None:
            raise InvalidOptionError(option, "lengths are numbers in px or %, as in 10px or 2.5%")
        if found[1]:
            raise InvalidOptionError(option, "lengths are not below 0")
        lengths.append(Length(min(float(found[2]), LENGTH_MAX), found[3] == "%"))
    return lengths
