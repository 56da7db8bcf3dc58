"""Mending the solved matte: a small learned eye decides, pixel by pixel, where it is wrong.

The solver knows colours near the mask's edge and believes the mask where that is sure of itself.
What the mask half covers, gaps between strands or canes, it often leaves closed. So each pixel in
doubt is described by what colour says of it, near and in the picture as a whole, and how far that
may be relied on; a network of three layers, trained on scenes whose alpha is known, answers with a
correction. What was drawn, hard as an outline, and is right where it is sure, asks for other
corrections than what a network guessed: it has weights of its own. docs/models has the figures.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from core.clues import CLUES, Described, Plane, describe, in_doubt, with_ones
from core.drawn import drawn
from core.guided import ColourModel
from core.parallel import beside

MENDED_EDGE_PX: Final = 320
"""Long edge that the clues' windows are made for; larger solutions of soft masks are left alone."""
SMOOTH_STEP_PX, SMOOTH_RADIUS_STEPS, SMOOTH_EPSILON = 2, 1, 1e-3
UNDECIDED_MAX = 0.18
"""A mask greyer than this found nothing for sure; 99 in 100 of those learned from are less so."""


@dataclass(frozen=True, slots=True)
class EdgeNetwork:
    """Loaded weights of cutout-edge, for any number of threads at once.

    Attributes:
        ort_session: for soft masks, as networks answer.
        threads: how many share the work.
        drawn_session: for masks drawn hard; without it these are left alone.
    """

    ort_session: Any
    threads: int = 1
    drawn_session: Any = None

    def is_for(self, coarse: Plane, alpha: Plane) -> bool:
        """Whether a mask and the matte solved from it are of a size and a kind that is mended.

        What was drawn is mended at any size: it was measured to gain at twice the size too.
        """
        if max(alpha.shape) <= MENDED_EDGE_PX:
            return True
        return self.drawn_session is not None and drawn(coarse, in_doubt(coarse, alpha)) == 1

    def mend(self, guide: NDArray[np.uint8], coarse: Plane, alpha: Plane) -> Plane:
        """Return the matte (h, w) float32, 0..1, corrected where the network sees a reason.

        Args:
            guide: (h, w, 3) uint8, the picture at the solving size.
            coarse: the mask at that size, 0..1.
            alpha: the matte that the solver made of both, 0..1.
        """
        if 2 * float(np.minimum(coarse, 1 - coarse).mean()) > UNDECIDED_MAX:
            return alpha
        described = describe(guide, coarse, alpha, threads=self.threads)
        if not described.pixels.size:
            return alpha
        if described.drawn and self.drawn_session is not None:
            alpha = outlined(alpha, described, _asked(self.drawn_session, described))
        if not described.heard:
            return alpha
        answer, smoothing = beside(
            partial(_asked, self.ort_session, described),
            partial(_smoothing, guide, described),
            self.threads,
        )
        return corrected(alpha, described, answer, smoothing)

    def warm_up(self) -> None:
        """Run once, so that the first real picture is as fast as the rest."""
        nothing = np.zeros((1, CLUES), np.float32)
        self.ort_session.run(["correction"], {"clues": nothing})
        if self.drawn_session is not None:
            self.drawn_session.run(["correction"], {"clues": nothing})


def _asked(ort_session: Any, described: Described) -> Plane:
    """Return a network's correction of each pixel."""
    (answer,) = ort_session.run(["correction"], {"clues": described.clues})
    return np.asarray(answer[:, 0])


def outlined(alpha: Plane, described: Described, correction: Plane) -> Plane:
    """Return alpha plus the correction as it is: a drawn edge may step where colours do not."""
    mended = alpha.copy()
    mended.reshape(-1)[described.pixels] += correction * np.float32(described.drawn)
    return np.asarray(np.clip(mended, 0, 1))


def corrected(
    alpha: Plane, described: Described, correction: Plane, smoothing: ColourModel
) -> Plane:
    """Return alpha plus the correction, which is smoothed where colours are smooth."""
    change, mended = np.zeros_like(alpha), alpha.copy()
    change.reshape(-1)[described.pixels] = correction * described.heard
    seen = np.ascontiguousarray(change[described.frame])
    mended.reshape(-1)[described.pixels] += smoothing.filter(seen)
    return np.asarray(np.clip(mended, 0, 1))


def _smoothing(guide: NDArray[np.uint8], described: Described) -> ColourModel:
    wanted = np.zeros(guide.shape[:2], np.uint8)
    wanted.reshape(-1)[described.pixels] = 1
    picture = with_ones(guide[described.frame])
    marked = np.ascontiguousarray(wanted[described.frame])
    return ColourModel(picture, SMOOTH_RADIUS_STEPS, SMOOTH_EPSILON, marked, SMOOTH_STEP_PX)
