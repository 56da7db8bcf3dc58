"""The segmentation network: the small U²-Net, seen at 192 pixels and answering at 384.

U²-Net (Qin et al., Pattern Recognition 106, 2020, arXiv:2005.09007) is a U-Net whose every stage
is a U-Net of its own, a residual U-block. The published weights of its small form, u2netp, are a
start that no training of ours from nothing came near (`warm_start.py`), so what is ours here is
what makes it cheap: it sees 192 pixels instead of 320, the way back is convolved before it is
enlarged, the normalisation has gone into the convolutions, and a last layer draws the outline at
twice the size.
"""

import torch
from torch import nn
from torch.nn import functional

from training.lite_samples import DETAIL

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
INNER, OUTER = 16, 64


class Step(nn.Sequential):
    """A 3 x 3 convolution and ReLU."""

    def __init__(self, inputs: int, outputs: int, dilation: int = 1) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, 3, 1, dilation, dilation), nn.ReLU(inplace=True)
        )


class Joined(nn.Module):
    """The first convolution on the way back: of what was seen, and of what comes from below.

    The published network enlarges what comes from below and then convolves both together; to
    convolve it while it is small is a quarter of the work.
    """

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.below = nn.Conv2d(width, outputs, 3, 1, 1)
        self.beside = nn.Conv2d(width, outputs, 3, 1, 1, bias=False)

    def forward(self, below: torch.Tensor, beside: torch.Tensor) -> torch.Tensor:
        """Return the sum, of the size of `beside`."""
        return functional.relu(resized(self.below(below), beside) + self.beside(beside))


class UBlock(nn.Module):
    """A residual U-block: `depth` convolutions down, each at half the size of the one before."""

    def __init__(self, depth: int, inputs: int) -> None:
        super().__init__()
        self.entry: nn.Module = Step(inputs, OUTER) if inputs else Joined(OUTER, OUTER)
        self.down = nn.ModuleList(
            Step(OUTER if i == 0 else INNER, INNER, 2 if i == depth - 1 else 1)
            for i in range(depth)
        )
        self.up = nn.ModuleList(
            Step(2 * INNER, OUTER if i == depth - 2 else INNER) for i in range(depth - 1)
        )

    def forward(self, *signals: torch.Tensor) -> torch.Tensor:
        """Return 64 planes of the size of the last of `signals`."""
        entered = self.entry(*signals)
        seen = [self.down[0](entered)]
        for step in self.down[1:-1]:
            seen.append(step(halved(seen[-1])))
        signal = self.down[-1](seen[-1])
        for step, beside in zip(self.up, reversed(seen), strict=True):
            signal = step(torch.cat([resized(signal, beside), beside], 1))
        return signal + entered


class DilatedBlock(nn.Module):
    """The block of the deepest stages: it widens its view by dilation, at one size."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.entry: nn.Module = Step(inputs, OUTER) if inputs else Joined(OUTER, OUTER)
        self.down = nn.ModuleList(Step(OUTER if i == 0 else INNER, INNER, 2**i) for i in range(4))
        self.up = nn.ModuleList(
            Step(2 * INNER, OUTER if i == 2 else INNER, 4 >> i) for i in range(3)
        )

    def forward(self, *signals: torch.Tensor) -> torch.Tensor:
        """Return 64 planes of the size of the last of `signals`."""
        entered = self.entry(*signals)
        seen = [self.down[0](entered)]
        for step in self.down[1:]:
            seen.append(step(seen[-1]))
        signal = seen.pop()
        for step, beside in zip(self.up, reversed(seen), strict=True):
            signal = step(torch.cat([signal, beside], 1))
        return signal + entered


class LiteNet(nn.Module):
    """Picture (N, 3, 192, 192) 0..1 -> the mask's logits (N, 1, 384, 384)."""

    def __init__(self) -> None:
        super().__init__()
        depths = (7, 6, 5, 4)
        self.down = nn.ModuleList(
            [UBlock(depth, 3 if i == 0 else OUTER) for i, depth in enumerate(depths)]
            + [DilatedBlock(OUTER), DilatedBlock(OUTER)]
        )
        self.up = nn.ModuleList([DilatedBlock(0), *(UBlock(d, 0) for d in reversed(depths))])
        self.sides = nn.ModuleList(nn.Conv2d(OUTER, 1, 3, 1, 1) for _ in range(6))
        self.fused = nn.Conv2d(6, 1, 1)
        self.detail = nn.Conv2d(OUTER, DETAIL**2, 3, 1, 1)
        nn.init.zeros_(self.detail.weight)
        nn.init.zeros_(self.detail.bias)
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer(
            "deviation", torch.tensor(DEVIATION).view(1, 3, 1, 1), persistent=False
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return the logits."""
        signal = (image - self.mean) / self.deviation
        seen: list[torch.Tensor] = []
        for stage in self.down:
            seen.append(stage(halved(signal) if seen else signal))
            signal = seen[-1]
        back = [signal]
        for stage, beside in zip(self.up, reversed(seen[:-1]), strict=True):
            back.append(stage(back[-1], beside))
        sides = [
            resized(side(signal), seen[0])
            for side, signal in zip(self.sides, reversed(back), strict=True)
        ]
        coarse = self.fused(torch.cat(sides, 1))
        return enlarged(coarse) + functional.pixel_shuffle(self.detail(back[-1]), DETAIL)


def halved(signal: torch.Tensor) -> torch.Tensor:
    """Return the strongest of each 2 x 2."""
    return functional.max_pool2d(signal, 2, 2, ceil_mode=True)


def resized(signal: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Return the signal at the size of `like`."""
    return functional.interpolate(signal, size=like.shape[2:], mode="bilinear", align_corners=False)


def enlarged(signal: torch.Tensor) -> torch.Tensor:
    """Return the signal at the size of the answer."""
    return functional.interpolate(
        signal, scale_factor=float(DETAIL), mode="bilinear", align_corners=False
    )
