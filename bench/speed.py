"""How fast is a cutout? `python -m bench.speed [--quick] [--write]`.

Bytes to PNG, u2netp, two threads, against `rembg.remove()` on the same weights and the same JPEG,
interleaved in one process so that a busy machine slows both; the best of some runs each. The floor
is the network alone, the file as it was released; beside it stands the network as we run it
(core/graph.py). Peak memory is of a fresh process per way. The photograph is scikit-image's
astronaut, scaled to size: a portrait, whose edge is as long as most.
"""

import argparse
import functools
import io
import re
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import skimage.data
from numpy.typing import NDArray
from PIL import Image

from bench import report
from bench.photographs import MODELS
from core import CutoutOptions, ImageLimits, Segmenter, cut_out, load_segmenter
from core.decode import decode
from core.prepare import prepare

THREADS = 2
RUNS = {1: 12, 4: 6, 12: 6, 24: 4}
RUNS_QUICK = 3
MATTING_MEGAPIXELS_MAX = 1
"""Closed-form matting of the peer takes 40 s and 6 GB at 12 MP: measured at 1 MP only."""
GOALS = {
    ("rembg plain", 1): 0.75,
    ("rembg plain", 12): 0.25,
    ("rembg plain", 24): 0.2,
    ("rembg decontaminate", 1): 0.4,
    ("rembg decontaminate", 12): 0.1,
    ("rembg decontaminate", 24): 0.08,
    ("floor", 1): 1.25,
    ("floor", 12): 1.8,
}
MEMORY_GOAL = 0.8

Times = dict[str, dict[int, float]]


def photograph(megapixels: int) -> bytes:
    """Return a JPEG of that many megapixels."""
    picture = Image.fromarray(np.asarray(skimage.data.astronaut()))  # type: ignore[no-untyped-call]  # ships no types
    side_px = round((megapixels * 1e6) ** 0.5)
    output = io.BytesIO()
    scaled = picture.resize((side_px, side_px), Image.Resampling.BICUBIC)
    scaled.save(output, "JPEG", quality=92)
    return output.getvalue()


def elapsed_ms(work: Callable[[], object]) -> float:
    started_s = time.perf_counter()
    work()
    return (time.perf_counter() - started_s) * 1000


def measure(runs: dict[int, int]) -> tuple[Times, dict[int, dict[str, float]]]:
    """Return the best time per way and size, and the stages of our best run.

    Args:
        runs: how many, by size in megapixels.
    """
    from bench import peers  # noqa: PLC0415 compiles for a minute; the memory probe must not

    segmenter, session = load_segmenter("u2netp", MODELS, threads=THREADS), peers.session()
    segmenter.warm_up()
    times: Times = {}
    stages: dict[int, dict[str, float]] = {}
    for size, times_run in runs.items():
        source = photograph(size)
        ways = _ways(source, size, segmenter, session)
        for _ in range(times_run):
            for name, work in ways.items():
                took_ms = elapsed_ms(work)
                before = times.setdefault(name, {}).get(size, float("inf"))
                times[name][size] = min(before, took_ms)
            cutout = cut_out(source, segmenter)
            spent = dict(cutout.stages_ms)
            if sum(spent.values()) < sum(stages.get(size, {"": float("inf")}).values()):
                stages[size] = spent
        print(f"{size} MP done", flush=True)
    return times, stages


@functools.cache
def released_network(*, is_spinning: bool = False) -> Any:
    """Load the file as it was released, with the settings of ours; or with threads that spin.

    These are a little faster alone, and slower where several cutouts share the cores.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    options.enable_mem_pattern = False
    spinning = "session.force_spinning_stop" if is_spinning else "session.intra_op.allow_spinning"
    options.add_session_config_entry(spinning, "1" if is_spinning else "0")
    return onnxruntime.InferenceSession(
        MODELS / "u2netp.onnx", options, providers=["CPUExecutionProvider"]
    )


def run_alone(ort_session: Any, network_input: NDArray[np.float32]) -> None:
    (wanted, *_), (expected,) = ort_session.get_outputs(), ort_session.get_inputs()
    ort_session.run([wanted.name], {expected.name: network_input})


def _ways(
    source: bytes, size: int, segmenter: Segmenter, session: object
) -> dict[str, Callable[[], object]]:
    from bench import peers  # noqa: PLC0415 as above

    network_input = prepare(decode(source, ImageLimits()).image, segmenter.weights)
    plain = CutoutOptions(refine=False, decontaminate=False)
    ways: dict[str, Callable[[], object]] = {
        "floor": partial(run_alone, released_network(), network_input),
        "the same, its threads spinning": partial(
            run_alone, released_network(is_spinning=True), network_input
        ),
        "the network as we run it": partial(run_alone, segmenter.ort_session, network_input),
        "ours": lambda: cut_out(source, segmenter),
        "ours, refine and decontaminate off": lambda: cut_out(source, segmenter, plain),
    }
    for mode in peers.MODES:
        if "matting" not in mode or size <= MATTING_MEGAPIXELS_MAX:
            ways[mode] = partial(peers.remove, source, session, mode)
    return ways


def peak_memory_mib(way: str, megapixels: int) -> float:
    """Return the peak resident memory of a fresh process that makes one cutout that way."""
    command = [sys.executable, "-m", "bench.speed", "--probe", way, str(megapixels)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(answer.stdout.strip().splitlines()[-1])


def probe(way: str, megapixels: int) -> None:
    """Make one cutout and print the peak memory of this process."""
    source = photograph(megapixels)
    if way == "ours":
        cut_out(source, load_segmenter("u2netp", MODELS, threads=THREADS))
    else:
        from bench import peers  # noqa: PLC0415 ours must not pay for it

        peers.remove(source, peers.session(), way)
    status = Path("/proc/self/status").read_text()  # getrusage would remember the parent's peak
    (peak_kib,) = re.findall(r"VmHWM:\s+(\d+) kB", status)
    print(int(peak_kib) / 1024)


def times_table(times: Times) -> str:
    sizes = list(times["ours"])
    rows = [
        [way, *(f"{by_size[size]:.0f}" if size in by_size else "" for size in sizes)]
        for way, by_size in times.items()
    ]
    return report.table(["ms", *(f"{size} MP" for size in sizes)], rows)


def stages_table(stages: dict[int, dict[str, float]]) -> str:
    sizes = list(stages)
    rows = [
        [stage, *(f"{stages[size].get(stage, 0):.0f}" for size in sizes)]
        for stage in stages[sizes[0]]
    ]
    return report.table(["stage, ms", *(f"{size} MP" for size in sizes)], rows)


def goals_table(times: Times, memory: float | None) -> str:
    rows = []
    for (way, size), goal in GOALS.items():
        if size in times["ours"]:
            value = times["ours"][size] / times[way][size]
            verdict = "reached" if value <= goal else "**missed**"
            rows.append([f"time over {way}, {size} MP", f"<= {goal:g}", f"{value:.2f}", verdict])
    if memory is not None:
        verdict = "reached" if memory <= MEMORY_GOAL else "**missed**"
        rows.append(
            ["peak memory over rembg plain, 12 MP", f"<= {MEMORY_GOAL:g}", f"{memory:.2f}", verdict]
        )
    return report.table(["", "goal", "measured", ""], rows)


def memory_table() -> tuple[str, float]:
    size = 12
    peaks = {
        way: peak_memory_mib(way, size) for way in ("ours", "rembg plain", "rembg decontaminate")
    }
    rows = [[way, f"{peak:.0f}"] for way, peak in peaks.items()]
    return report.table(["peak memory, 12 MP", "MiB"], rows), peaks["ours"] / peaks["rembg plain"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="1 and 12 MP, three runs")
    parser.add_argument("--write", action="store_true", help="write docs/performance.md")
    parser.add_argument("--probe", nargs=2, metavar=("WAY", "MEGAPIXELS"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.probe:
        probe(asked.probe[0], int(asked.probe[1]))
        return
    if not MODELS.exists():
        print("no weights beside the checkout: nothing to measure")
        return
    times, stages = measure({1: RUNS_QUICK, 12: RUNS_QUICK} if asked.quick else RUNS)
    memory, memory_ratio = memory_table()
    sections = {
        "speed": f"{times_table(times)}\n\n{stages_table(stages)}\n\n{memory}",
        "speed-goals": goals_table(times, memory_ratio),
    }
    for name, markdown in sections.items():
        print(f"\n## {name}\n\n{markdown}")
        if asked.write:
            report.write_section(name, f"{report.stamp()}.\n\n{markdown}")


if __name__ == "__main__":
    main()
