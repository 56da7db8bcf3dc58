"""What the networks are asked to make small."""

import torch
from torch.nn import functional

CARE, CARE_DRAWN = 1.0, 3.0
RIGHT = 0.06
"""Where the solver is this close, a network is to leave it: such pixels weigh 1 + care."""


def edge_loss(correction: torch.Tensor, told: torch.Tensor, care: float = CARE) -> torch.Tensor:
    """Error of the mended matte, of pixels `told` as (matte, truth, weight).

    Squares above all: the solver is right nearly everywhere, and under absolute errors alone a
    network that changes nothing is hard to leave.
    """
    matte, truth, weight = told.unbind(1)
    off = matte + correction[:, 0] - truth
    weight = weight * (1 + care * ((matte - truth).abs() < RIGHT))
    return (weight * (0.5 * off.abs() + 2 * off.square())).sum() / weight.sum()


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
