"""What the networks are asked to make small."""

import torch
from torch.nn import functional

GRADIENT_SIGMA = 1.4
"""As in the field's Grad metric."""


def _gradient_kernels() -> torch.Tensor:
    reach = torch.arange(-4, 5, dtype=torch.float32)
    bell = torch.exp(-(reach**2) / (2 * GRADIENT_SIGMA**2))
    slope = -reach * bell
    across = torch.outer(bell, slope)
    across = across / across.pow(2).sum().sqrt()
    return torch.stack([across, across.T])[:, None]


_KERNELS = _gradient_kernels()


def gradient(alpha: torch.Tensor) -> torch.Tensor:
    """Return the Gaussian derivatives (N, 2, H, W) of alpha."""
    return functional.conv2d(alpha, _KERNELS.to(alpha.device, alpha.dtype), padding=4)


def edge_loss(guess: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Error of alpha, of its gradient and of its coarser shapes, where the band is open.

    `truth` holds the exact alpha and the weight.
    """
    alpha, weight = truth[:, :1], truth[:, 1:]
    off = guess - alpha
    loss = _weighed(off.abs(), weight)
    slopes = gradient(off)
    loss = loss + 0.2 * _weighed(slopes.abs().sum(1, keepdim=True), weight)
    loss = loss + 0.6 * _weighed(slopes.square().sum(1, keepdim=True), weight)
    for size in (2, 4, 8):
        shape = functional.avg_pool2d(off, size).abs()
        loss = loss + 0.5 * _weighed(shape, functional.avg_pool2d(weight, size))
    return loss


def lite_loss(logits: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Cross-entropy and error, heavier near the rim, and one minus the overlap."""
    near = 1 + 8 * (functional.avg_pool2d(mask, 15, 1, 7) - mask).abs()
    guess = torch.sigmoid(logits)
    entropy = functional.binary_cross_entropy_with_logits(logits, mask, reduction="none")
    both = (guess * mask).sum((1, 2, 3))
    either = (guess + mask - guess * mask).sum((1, 2, 3))
    overlap = ((both + 1) / (either + 1)).mean()
    return _weighed(entropy, near) + _weighed((guess - mask).abs(), near) + 1 - overlap


def _weighed(error: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Return the weighed mean of each piece, averaged: narrow bands count like wide ones."""
    return ((error * weight).sum((1, 2, 3)) / weight.sum((1, 2, 3))).mean()
