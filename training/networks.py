"""The two networks. Plain 3 x 3 convolutions: on CPUs they are as fast as separable ones."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional


class Step(nn.Sequential):
    """Convolution, normalisation, ReLU."""

    def __init__(self, inputs: int, outputs: int, size: int = 3, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        )


class Residual(nn.Module):
    """Two convolutions around which the signal may pass."""

    def __init__(self, width: int, dilation: int = 1) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, 1, dilation, dilation, bias=False)
        self.first_norm = nn.BatchNorm2d(width)
        self.second = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(width)

    def forward(self, signal: torch.Tensor) -> torch.Tensor:
        """Return the signal, corrected."""
        inner = functional.relu(self.first_norm(self.first(signal)))
        return functional.relu(signal + self.second_norm(self.second(inner)))


def enlarged(signal: torch.Tensor) -> torch.Tensor:
    """Return the signal at twice its size."""
    return functional.interpolate(signal, scale_factor=2.0, mode="bilinear", align_corners=False)


class EdgeNet(nn.Module):
    """Picture, coarse mask and filtered mask (5 planes) -> a correction of the filtered mask.

    A U-Net that works from half the size down: about 10 G multiplications per megapixel.
    It starts as the guided filter (its last layer is zero) and learns where not to trust it.
    """

    def __init__(self, widths: tuple[int, int, int, int] = (16, 32, 52, 64)) -> None:
        super().__init__()
        half, quarter, eighth, sixteenth = widths
        self.at_half = nn.Sequential(Step(20, half), Step(half, half))
        self.at_quarter = nn.Sequential(Step(half, quarter, stride=2), Residual(quarter))
        self.at_eighth = nn.Sequential(
            Step(quarter, eighth, stride=2), Residual(eighth), Residual(eighth, 2)
        )
        self.at_sixteenth = nn.Sequential(
            Step(eighth, sixteenth, stride=2), Residual(sixteenth), Residual(sixteenth, 2)
        )
        self.to_eighth = Step(sixteenth, eighth, 1)
        self.to_quarter = Step(eighth, quarter, 1)
        self.to_half = Step(quarter, half, 1)
        self.join_eighth = Step(2 * eighth, eighth)
        self.join_quarter = Step(2 * quarter, quarter)
        self.join_half = nn.Sequential(Step(2 * half, half), Step(half, half))
        self.head = nn.Conv2d(half, 4, 3, 1, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, planes: torch.Tensor) -> torch.Tensor:
        """Return alpha (N, 1, H, W), not yet limited to 0..1; H and W are multiples of 16."""
        half = self.at_half(functional.pixel_unshuffle(planes * 2 - 1, 2))
        quarter = self.at_quarter(half)
        eighth = self.at_eighth(quarter)
        deep = self.at_sixteenth(eighth)
        signal = self.join_eighth(torch.cat([enlarged(self.to_eighth(deep)), eighth], 1))
        signal = self.join_quarter(torch.cat([enlarged(self.to_quarter(signal)), quarter], 1))
        signal = self.join_half(torch.cat([enlarged(self.to_half(signal)), half], 1))
        return planes[:, 4:5] + functional.pixel_shuffle(self.head(signal), 2)


@dataclass(frozen=True, slots=True)
class LiteShape:
    """How wide and how deep the segmentation network is, down and on the way back."""

    widths: tuple[int, int, int, int, int]
    depths: tuple[int, int, int, int]
    back: tuple[int, int, int, int]


LITE_SHAPES = {
    "first": LiteShape((16, 32, 48, 72, 104), (1, 2, 3, 2), (16, 24, 40, 64)),
    "wide": LiteShape((24, 48, 80, 128, 176), (1, 2, 4, 4), (24, 40, 64, 96)),
}
"""`first` is the first cutout-lite, 1.0 M numbers at 256 pixels; `wide` is for 320."""


class LiteNet(nn.Module):
    """Picture (3 planes) -> mask: a U-Net whose deepest layer is weighed by the whole picture."""

    def __init__(self, shape: LiteShape = LITE_SHAPES["wide"]) -> None:
        super().__init__()
        widths, depths, back = shape.widths, shape.depths, shape.back
        self.stem = Step(3, widths[0], stride=2)
        self.down = nn.ModuleList(
            nn.Sequential(
                Step(before, width, stride=2),
                *[Residual(width, 2 if deepest and i % 2 else 1) for i in range(depth)],
            )
            for before, width, depth, deepest in zip(
                widths[:-1], widths[1:], depths, (False, False, False, True), strict=True
            )
        )
        deep = widths[-1]
        self.attend = nn.Sequential(
            nn.Conv2d(deep, deep, 1), nn.ReLU(inplace=True), nn.Conv2d(deep, deep, 1)
        )
        self.top = Step(deep, back[3], 1)
        self.across = nn.ModuleList(Step(widths[i], back[i], 1) for i in range(4))
        inner = (back[3], back[3] + back[2], back[2] + back[1], back[1] + back[0])
        self.up = nn.ModuleList(
            Step(inputs, outputs) for inputs, outputs in zip(inner, reversed(back), strict=True)
        )
        self.head = nn.Conv2d(back[0], 4, 3, 1, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return the mask's logits (N, 1, H, W); H and W are multiples of 32."""
        seen = [self.stem(image * 4 - 2)]
        for step in self.down:
            seen.append(step(seen[-1]))
        deep = seen[-1] * torch.sigmoid(self.attend(seen[-1].mean((2, 3), keepdim=True)))
        side = self.across[3](seen[3])
        signal = self.up[0](enlarged(self.top(deep)) + side)
        for place in (2, 1, 0):
            side = self.across[place](seen[place])
            signal = self.up[3 - place](torch.cat([enlarged(signal), side], 1))
        return functional.pixel_shuffle(self.head(signal), 2)
