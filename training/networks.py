"""The two networks: one looks at pixels alone, one is of plain 3 x 3 convolutions.

On CPUs these are as fast as separable ones.
"""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from core.edge import CLUES

NOISE = 0.25
"""On each clue in training, in deviations."""


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
    """The clues of core/edge.py about a pixel -> a correction of the solved matte there.

    It starts as the solver (its last layer is zero) and learns where not to trust it. What is said
    of a whole picture is alike for all its pixels and could be learned by heart: hence the noise.
    """

    def __init__(self, widths: tuple[int, int, int] = (64, 64, 32)) -> None:
        super().__init__()
        first, second, third = widths
        self.evened = nn.BatchNorm1d(CLUES, affine=False)
        self.layers = nn.Sequential(
            nn.Linear(CLUES, first),
            nn.ReLU(inplace=True),
            nn.Linear(first, second),
            nn.ReLU(inplace=True),
            nn.Linear(second, third),
            nn.ReLU(inplace=True),
        )
        self.head = nn.Linear(third, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, clues: torch.Tensor) -> torch.Tensor:
        """Return (n, 1), to be added to the matte."""
        evened = self.evened(clues)
        if self.training:
            evened = evened + NOISE * torch.randn_like(evened)
        return self.head(self.layers(evened))


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
