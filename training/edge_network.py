"""The edge network, which looks at pixels one by one."""

import torch
from torch import nn

from core.clues import ALPHA, CLUES, COARSE

NOISE = 0.25
"""On each clue in training, in deviations."""
BACK_AT_FIRST = -2.0
"""The logit of how far to go back to a drawn mask, before anything is learned."""


class EdgeNet(nn.Module):
    """The clues of core/clues.py about a pixel -> a correction of the solved matte there.

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


class DrawnEdgeNet(EdgeNet):
    """The same for drawn masks, which are right where they are sure.

    It also answers how far to go back to the mask.
    """

    def __init__(self, widths: tuple[int, int, int] = (64, 64, 32)) -> None:
        super().__init__(widths)
        self.head = nn.Linear(widths[-1], 2)
        nn.init.zeros_(self.head.weight)
        with torch.no_grad():
            self.head.bias.copy_(torch.tensor([BACK_AT_FIRST, 0.0]))

    def forward(self, clues: torch.Tensor) -> torch.Tensor:
        """Return (n, 1), to be added to the matte."""
        answer = super().forward(clues)
        to_mask = clues[:, COARSE : COARSE + 1] - clues[:, ALPHA : ALPHA + 1]
        return torch.sigmoid(answer[:, :1]) * to_mask + answer[:, 1:]
