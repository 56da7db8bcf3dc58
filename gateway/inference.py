"""Runs the imaging core in threads, under a deadline; owns the loaded segmenters.

A thread cannot be killed. One that outlives its deadline is left behind: it stops at the next
stage, its result is dropped, and until then it counts as one of the threads there are.
"""

import asyncio
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from io import BytesIO
from typing import Final

import structlog
from PIL import Image

import core
from core import Cutout, CutoutOptions, ImageHeader, ImageLimits, Segmenter
from core.errors import CoreError, NoForegroundError
from gateway.errors import DeadlineExceededError, OverloadedError
from gateway.settings import Settings
from gateway.source import Source

WARM_UP_PX: Final = 64
RETRY_AFTER_S: Final = 5
STUCK_S_MAX: Final = 2.0
"""A thread that was left behind usually stops within this time, at its next stage."""

log = structlog.get_logger()


class Inference:
    """Pictures in, cutouts out, at most `inference_slots` at a time."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.limits = ImageLimits(
            pixels_max=settings.image_pixels_max,
            edge_px_max=settings.image_edge_px_max,
            ratio_max=settings.image_ratio_max,
        )
        self._threads = ThreadPoolExecutor(settings.inference_slots, "inference")
        self._segmenters: OrderedDict[str, Segmenter] = OrderedDict()
        self._loading: dict[str, threading.Lock] = {}
        self._guard = threading.Lock()
        self._stuck_count = 0
        self._all_stuck_since = math.inf

    @property
    def stuck_count(self) -> int:
        """Threads that still work on what nobody waits for any more."""
        return self._stuck_count

    @property
    def loaded(self) -> tuple[str, ...]:
        """The loaded models, the least recently used first."""
        with self._guard:
            return tuple(self._segmenters)

    @property
    def providers(self) -> dict[str, str]:
        """The loaded models, and where onnxruntime really runs each."""
        with self._guard:
            return {name: segmenter.provider for name, segmenter in self._segmenters.items()}

    async def start(self) -> None:
        """Load the models named in the settings and run each once, so that no caller waits."""
        for model in self._settings.preload_models:
            await asyncio.get_running_loop().run_in_executor(self._threads, self._warm_up, model)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def inspect(self, source: Source) -> ImageHeader:
        """Read the header only. Raises what `core.inspect` raises."""
        try:
            return core.inspect(source.read(), self.limits)
        except CoreError as exc:
            # Its trace holds frames that hold the whole upload, for as long as an answer takes.
            raise exc.with_traceback(None) from None

    def inspect_background(self, background: Source) -> ImageHeader:
        """Read the header of a customer's own background. Raises as `inspect`, and says of what."""
        try:
            return self.inspect(background)
        except CoreError as exc:
            exc.field = "bg_image"
            raise

    def resolve(self, model: str) -> tuple[str, str | None]:
        """Tell which model will run when `model` is asked for, and a warning where another.

        Raises:
            UnknownModelError, WeightsNotInstalledError: none will.
        """
        asked = self._settings.default_model if model == "auto" else model
        is_substitution_allowed = self._settings.missing_weights == "substitute"
        runs, another = core.resolve_model(
            asked, self._settings.weights_dir, is_substitution_allowed=is_substitution_allowed
        )
        # The core's own words name a command, and a caller has no shell on this machine.
        return runs, f"{asked} is not installed here, {runs} ran instead" if another else None

    async def cut_out(  # noqa: PLR0913 - said by name
        self,
        source: Source,
        model: str,
        options: CutoutOptions,
        *,
        on_progress: Callable[[str], None],
        deadline_s: float,
        background: Source | None = None,
    ) -> Cutout:
        """Cut the subject of `source` out.

        Args:
            source: the picture, encoded.
            model: a name of the table, or `auto`.
            options: what the caller chose.
            on_progress: called in the thread before each stage; may raise to stop.
            deadline_s: how long all of it may take, the wait for a thread included.
            background: the customer's own; in memory for as long as the work takes.

        Raises:
            CoreError: what is wrong with the picture or the options.
            DeadlineExceededError: it took too long.
            OverloadedError: every thread is stuck, and has been for a while.
        """
        if time.monotonic() - self._all_stuck_since > STUCK_S_MAX:
            raise OverloadedError(RETRY_AFTER_S)
        give_up_at = time.monotonic() + deadline_s
        is_abandoned = threading.Event()

        def on_stage(stage: str) -> None:
            if is_abandoned.is_set() or time.monotonic() > give_up_at:
                raise DeadlineExceededError
            on_progress(stage)

        cut_out = partial(
            core.cut_out,
            limits=self.limits,
            on_stage=on_stage,
            # The last quarter is for what comes after: a coarser edge is better than a late one.
            deadline_s=give_up_at - deadline_s / 4,
        )
        future = self._threads.submit(self._work, source, model, options, background, cut_out)
        try:
            async with asyncio.timeout(deadline_s):
                return await asyncio.wrap_future(future)
        except TimeoutError as exc:
            raise DeadlineExceededError from exc
        finally:
            is_abandoned.set()
            if future.running():
                self._count_stuck(future)

    def _count_stuck(self, future: "Future[Cutout]") -> None:
        def leave(_: "Future[Cutout]") -> None:
            with self._guard:
                self._stuck_count -= 1
                self._all_stuck_since = math.inf

        with self._guard:
            self._stuck_count += 1
            if self._stuck_count == self._settings.inference_slots:
                self._all_stuck_since = time.monotonic()
        log.warning("inference.abandoned", stuck_count=self._stuck_count)
        future.add_done_callback(leave)

    def _work(
        self,
        source: Source,
        model: str,
        options: CutoutOptions,
        background: Source | None,
        cut_out: Callable[..., Cutout],
    ) -> Cutout:
        name, warning = self.resolve(model)
        if background is not None:
            options = replace(options, bg_image=background.read())
        cutout = cut_out(source.read(), self._segmenter(name), options)
        return replace(cutout, warnings=(warning, *cutout.warnings)) if warning else cutout

    def _warm_up(self, model: str) -> None:
        started_s = time.perf_counter()
        name, _ = self.resolve(model)
        square, drawn = BytesIO(), Image.new("RGB", (WARM_UP_PX, WARM_UP_PX), "white")
        drawn.paste("black", (WARM_UP_PX // 4, WARM_UP_PX // 4, WARM_UP_PX // 2, WARM_UP_PX // 2))
        drawn.save(square, "PNG")
        with suppress(NoForegroundError):  # not every network takes a square for a subject
            core.cut_out(square.getvalue(), self._segmenter(name))
        elapsed_ms = round((time.perf_counter() - started_s) * 1000)
        log.info("inference.warmed_up", model=name, elapsed_ms=elapsed_ms)

    def _segmenter(self, name: str) -> Segmenter:
        """Give the loaded segmenter of `name`; of several threads that want it, one loads it."""
        with self._guard:
            loading = self._loading.setdefault(name, threading.Lock())
        with loading:
            with self._guard:
                if name in self._segmenters:
                    self._segmenters.move_to_end(name)
                    return self._segmenters[name]
            segmenter = core.load_segmenter(
                name, self._settings.weights_dir, threads=self._settings.inference_threads
            )
            with self._guard:
                self._segmenters[name] = segmenter
                self._evict()
            return segmenter

    def _evict(self) -> None:
        """Forget the least recently used until the rest fits; the newest always stays.

        A thread that is still in a forgotten one keeps it alive until it is done.
        """
        bytes_max = self._settings.segmenter_bytes_max
        while len(self._segmenters) > 1 and self._memory_bytes() > bytes_max:
            name, _ = self._segmenters.popitem(last=False)
            log.info("segmenter.evicted", model=name)

    def _memory_bytes(self) -> int:
        return sum(segmenter.memory_bytes for segmenter in self._segmenters.values())
