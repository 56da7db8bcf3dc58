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
    total = weight.sum()
    loss = (off.abs() * weight).sum() / total
    slopes = gradient(off).abs().sum(1, keepdim=True)
    loss = loss + 0.5 * (slopes * weight).sum() / total
    for size in (2, 4, 8):
        shape = functional.avg_pool2d(off, size).abs()
        open_here = functional.avg_pool2d(weight, size)
        loss = loss + 0.5 * (shape * open_here).sum() / open_here.sum()
    return loss
