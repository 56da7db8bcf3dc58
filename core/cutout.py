"""What the pipeline hands from step to step, and what it answers."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from core.decontaminate import Foreground


@dataclass(frozen=True, slots=True)
class Subject:
    """What was cut out of a picture, before it is shown in one way or another.

    Attributes:
        foreground: (H, W, 3) uint8, the source's own pixels where alpha is 255; or what makes
            them when asked.
        alpha: (H, W) uint8, made together with the foreground where that is still to be made.
    """

    foreground: Foreground | NDArray[np.uint8]
    alpha: NDArray[np.uint8]
    confidence: float
    reasons: tuple[str, ...]
    warnings: tuple[str, ...]
    refinement: str
    model: str


@dataclass(frozen=True, slots=True)
class Cutout:
    """A finished cutout and what there is to say about it.

    Attributes:
        image: the bytes of the file.
        confidence: 0..1, how sure the cutout is.
        reasons: in stable words, what lowers the confidence.
        warnings: in sentences, what the caller may want to do differently.
        stages_ms: how long each step took.
        refinement: the method that brought alpha to full resolution.
        model: the weights that ran.
    """

    image: bytes
    extension: str
    media_type: str
    width_px: int
    height_px: int
    confidence: float
    reasons: tuple[str, ...]
    warnings: tuple[str, ...]
    stages_ms: Mapping[str, float]
    refinement: str
    model: str


@dataclass(frozen=True, slots=True)
class Stages:
    """Announces each step before it runs, and times it.

    Attributes:
        deadline_s: a `time.monotonic()` moment past which a step that can be cut short is.
    """

    announce: Callable[[str], None] | None = None
    deadline_s: float | None = None
    times_ms: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        if self.announce is not None:
            self.announce(name)
        started_s = time.perf_counter()
        yield
        self.times_ms[name] = (time.perf_counter() - started_s) * 1000
