"""Inference: each model loaded once, a budget kept, no caller kept waiting by a thread."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import core
from core import CutoutOptions, Segmenter
from core.errors import UnknownModelError, WeightsNotInstalledError
from gateway.errors import DeadlineExceededError, OverloadedError
from gateway.inference import STUCK_S_MAX, Inference
from gateway.settings import Settings
from gateway.source import Source

LITE_BYTES = 2_000_000


@pytest.fixture
def start(make_settings: Callable[..., Settings]) -> Iterator[Callable[..., Inference]]:
    started: list[Inference] = []

    def start_one(**overrides: Any) -> Inference:
        known = {"preload_models": ["cutout-lite"], "weights_dir": None}
        started.append(Inference(make_settings(**(known | overrides))))
        return started[-1]

    yield start_one
    for one in started:
        one.close()


async def cut(
    inference: Inference, picture: bytes, *, model: str = "cutout-lite", **how: Any
) -> core.Cutout:
    known: dict[str, Any] = {"on_progress": lambda _: None, "deadline_s": 60.0}
    return await inference.cut_out(Source(picture), model, CutoutOptions(), **(known | how))


async def test_it_cuts_a_photograph_out_and_tells_each_stage(
    start: Callable[..., Inference], astronaut: bytes
) -> None:
    stages: list[str] = []

    cutout = await cut(start(), astronaut, on_progress=stages.append)

    assert cutout.model == "cutout-lite"
    assert cutout.image.startswith(b"\x89PNG")
    assert (stages[0], stages[-1]) == ("decode", "encode")


async def test_what_is_preloaded_is_ready_at_the_start(start: Callable[..., Inference]) -> None:
    inference = start()

    await inference.start()

    assert inference.loaded == ("cutout-lite",)


async def test_a_model_that_does_not_exist_fails_the_start(
    start: Callable[..., Inference],
) -> None:
    with pytest.raises(UnknownModelError):
        await start(preload_models=["no-such-model"]).start()


async def test_at_once_or_not_each_model_is_loaded_once(
    start: Callable[..., Inference], astronaut: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads: list[str] = []
    load = core.load_segmenter

    def counting_load(name: str, *rest: Any, **how: Any) -> Segmenter:
        loads.append(name)
        time.sleep(0.2)  # so that others arrive meanwhile
        return load(name, *rest, **how)

    monkeypatch.setattr(core, "load_segmenter", counting_load)
    inference = start(inference_slots=4)

    await asyncio.gather(*(cut(inference, astronaut) for _ in range(4)))
    await cut(inference, astronaut)

    assert loads == ["cutout-lite"]


async def test_a_model_that_is_not_installed_is_replaced_where_that_is_allowed(
    start: Callable[..., Inference], astronaut: bytes
) -> None:
    cutout = await cut(start(missing_weights="substitute"), astronaut, model="silueta")

    assert cutout.model == "cutout-lite"
    assert cutout.warnings[0] == "silueta is not installed here, cutout-lite ran instead"


async def test_a_model_that_is_not_installed_is_refused_where_that_is_not_allowed(
    start: Callable[..., Inference], astronaut: bytes
) -> None:
    inference = start(missing_weights="refuse")

    with pytest.raises(WeightsNotInstalledError):
        inference.resolve("silueta")
    with pytest.raises(WeightsNotInstalledError):
        await cut(inference, astronaut, model="silueta")


async def test_weights_that_come_later_run_without_a_restart(
    make_settings: Callable[..., Settings],
    shared_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("U2NET_HOME", str(tmp_path / "weights"))
    settings = make_settings()
    inference = Inference(Settings(**settings.model_dump(exclude={"weights_dir"})))
    assert inference.resolve("u2netp")[0] == "cutout-lite"

    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "u2netp.onnx").symlink_to(shared_dir / "models" / "u2netp.onnx")

    assert inference.resolve("u2netp") == ("u2netp", None)
    inference.close()


async def test_auto_is_the_default_model(start: Callable[..., Inference]) -> None:
    assert start(default_model="cutout-lite").resolve("auto") == ("cutout-lite", None)


async def test_models_beyond_the_budget_are_forgotten_oldest_first(
    start: Callable[..., Inference], astronaut: bytes, shared_dir: Path
) -> None:
    budget = LITE_BYTES + 100_000  # one of the two, never both
    inference = start(weights_dir=shared_dir / "models", segmenter_bytes_max=budget)

    await cut(inference, astronaut)
    await cut(inference, astronaut, model="u2netp")

    assert inference.loaded == ("u2netp",)


async def test_within_the_budget_models_stay(
    start: Callable[..., Inference], astronaut: bytes, shared_dir: Path
) -> None:
    inference = start(weights_dir=shared_dir / "models")

    for model in ("cutout-lite", "u2netp", "cutout-lite"):
        await cut(inference, astronaut, model=model)

    assert inference.loaded == ("u2netp", "cutout-lite")


async def test_a_thread_stops_at_the_next_stage_after_its_deadline(
    start: Callable[..., Inference], astronaut: bytes
) -> None:
    inference = start()
    stages: list[str] = []

    def dawdle(stage: str) -> None:
        stages.append(stage)
        time.sleep(0.3)

    with pytest.raises(DeadlineExceededError):
        await cut(inference, astronaut, on_progress=dawdle, deadline_s=0.5)

    await until(lambda: inference.stuck_count == 0)
    assert "encode" not in stages


async def test_a_stuck_thread_counts_until_it_is_done(
    start: Callable[..., Inference], astronaut: bytes
) -> None:
    inference = start(inference_slots=1)
    await inference.start()
    release = threading.Event()

    with pytest.raises(DeadlineExceededError):
        await cut(
            inference, astronaut, on_progress=lambda _: release.wait() and None, deadline_s=0.3
        )

    assert inference.stuck_count == 1
    with pytest.raises(DeadlineExceededError):
        await cut(inference, astronaut, deadline_s=STUCK_S_MAX + 0.1)
    with pytest.raises(OverloadedError):
        await cut(inference, astronaut)
    release.set()
    await until(lambda: inference.stuck_count == 0)
    assert (await cut(inference, astronaut)).model == "cutout-lite"


async def test_a_stuck_thread_leaves_the_others_to_work(
    start: Callable[..., Inference], astronaut: bytes
) -> None:
    inference = start(inference_slots=2)
    release = threading.Event()
    with pytest.raises(DeadlineExceededError):
        await cut(
            inference, astronaut, on_progress=lambda _: release.wait() and None, deadline_s=0.3
        )

    cutouts = [await cut(inference, astronaut) for _ in range(3)]

    assert inference.stuck_count == 1
    assert len(cutouts) == 3
    release.set()


async def test_who_is_cancelled_is_let_go_at_once(
    start: Callable[..., Inference], astronaut: bytes
) -> None:
    inference = start()
    began, release = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def hang(_: str) -> None:
        loop.call_soon_threadsafe(began.set)
        release.wait()

    cutting = asyncio.create_task(cut(inference, astronaut, on_progress=hang))
    await began.wait()

    cutting.cancel()
    done, _ = await asyncio.wait([cutting], timeout=timedelta(seconds=2).total_seconds())
    release.set()

    assert done
    assert cutting.cancelled()


async def until(is_so: Callable[[], bool], *, seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not is_so():  # noqa: ASYNC110 - it becomes so in a thread
            await asyncio.sleep(0.01)
