"""What the imaging core can raise. Facts, no HTTP, nothing logged.

CoreError
├── UnsupportedFormatError       not one of the formats on the allow-list
├── UnreadableImageError         the right format, but broken or truncated
├── TooManyFramesError           an animation
├── ImageTooLargeError           too many pixels, too long an edge, or too thin
├── InvalidOptionError           an option the caller chose cannot be honoured
├── UnknownModelError            a name that is not in the table of models
├── WeightsNotInstalledError     the table knows it, this machine has no file of it
├── WeightsCorruptError          the file is there and is not the one the table names
├── ProviderUnavailableError     onnxruntime gave another provider than was asked for
└── NoForegroundError            nothing is the subject, or not as clearly as was demanded
"""


class CoreError(Exception):
    """Anything that keeps a picture from becoming a cutout.

    `field` names the option whose picture is meant, where that is not the source.
    """

    field: str | None = None

    def __str__(self) -> str:
        said = super().__str__()
        return f"{self.field}: {said}" if self.field else said


class UnsupportedFormatError(CoreError):
    """The bytes are of a format that is not on the allow-list."""

    def __init__(self, format_name: str) -> None:
        super().__init__(f"unsupported image format: {format_name}")
        self.format_name = format_name


class UnreadableImageError(CoreError):
    """The bytes begin like an image and cannot be decoded."""


class TooManyFramesError(CoreError):
    """The image is animated."""

    def __init__(self, frames: int) -> None:
        super().__init__(f"{frames} frames, 1 allowed")
        self.frames = frames


class ImageTooLargeError(CoreError):
    """The image exceeds a limit on pixels, on its long edge or on its ratio; `why` says which."""

    def __init__(self, width_px: int, height_px: int, why: str) -> None:
        super().__init__(f"{width_px} x {height_px} px: {why}")
        self.width_px = width_px
        self.height_px = height_px
        self.why = why


class InvalidOptionError(CoreError):
    """An option cannot be honoured for this image, or contradicts another."""

    def __init__(self, option: str, why: str) -> None:
        super().__init__(f"{option}: {why}")
        self.option = option
        self.why = why


class UnknownModelError(CoreError):
    """The table of models has no such name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"unknown model: {name}")
        self.name = name


class WeightsNotInstalledError(CoreError):
    """The weights of a known model are not on this machine."""

    def __init__(self, name: str) -> None:
        super().__init__(f"weights not installed: {name}")
        self.name = name


class WeightsCorruptError(CoreError):
    """A weights file does not have the checksum that the table of models names."""

    def __init__(self, name: str) -> None:
        super().__init__(f"weights do not match their checksum: {name}")
        self.name = name


class ProviderUnavailableError(CoreError):
    """onnxruntime would run on another provider than the one asked for."""

    def __init__(self, asked: str, got: str) -> None:
        super().__init__(f"asked for {asked}, got {got}")
        self.asked = asked
        self.got = got


class NoForegroundError(CoreError):
    """Nothing was found that could be seen, or nothing with the confidence that was demanded."""

    def __init__(self, confidence: float, confidence_min: float = 0.0) -> None:
        self.confidence = confidence
        self.confidence_min = confidence_min
        self.why = "the cutout would be empty"
        if confidence < confidence_min:
            self.why = f"confidence {confidence:g}, and at least {confidence_min:g} is demanded"
        super().__init__(f"no foreground found: {self.why}")
