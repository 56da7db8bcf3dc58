"""The whole recipe, from photographs to ONNX, once from nothing on a small slice."""

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from core.clues import CLUES

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None,
    reason="torch is a dependency of training/ alone: `make test-training` has it",
)
PROJECT = Path(__file__).resolve().parents[2]


def step(module: object, *arguments: object) -> str:
    """Run one script of the recipe as a person would, and return what it printed."""
    command = [sys.executable, "-W", "ignore", "-m", f"training.{module}", *map(str, arguments)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def work(slice_of_pack: Path, shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Label and generate: what both networks are trained on."""
    folder = tmp_path_factory.mktemp("work")
    teacher = shared / "models" / "u2netp.onnx"
    assert "labelled" in step("label", slice_of_pack, teacher, folder / "masks")
    step("generate", slice_of_pack, folder / "pool", "--masks", folder / "masks", "--count", 6)
    scenes = folder / "scenes.npy"
    asked = ("--teacher", teacher, "--scenes", 3)
    step("edge_scenes", slice_of_pack, folder / "pool", scenes, *asked)
    assert "3 scenes" in step("edge_pixels", scenes, "--out", folder / "pixels.npy")
    hard = folder / "drawn.npy"
    step("edge_scenes", slice_of_pack, folder / "pool", hard, *asked, "--drawn", "--lens", 0.2)
    pixels = folder / "drawn-pixels.npy"
    assert "3 scenes" in step("edge_pixels", hard, "--drawn", "--out", pixels)
    assert "to train on" in step("store", slice_of_pack, folder / "masks", folder / "store")
    return folder


def train(name: str, pack: Path, work: Path, steps: int, *more: object) -> list[dict[str, float]]:
    places = ("--pack", pack, "--pool", work / "pool", "--out", work / name)
    step("train", name, *places, "--steps", steps, "--batch", 2, "--workers", 0, *more)
    lines = (work / name / "curve.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_labelling_again_labels_nothing_twice(
    slice_of_pack: Path, shared: Path, work: Path
) -> None:
    before = (work / "masks" / "labels.csv").read_bytes()
    again = step("label", slice_of_pack, shared / "models" / "u2netp.onnx", work / "masks")
    assert again.startswith("0 labelled")
    assert (work / "masks" / "labels.csv").read_bytes() == before


@pytest.mark.parametrize(("name", "pixels"), [("edge", "pixels"), ("drawn", "drawn-pixels")])
def test_the_edge_refiner_is_trained_goes_on_and_is_exported(
    slice_of_pack: Path, work: Path, name: str, pixels: str
) -> None:
    learned = ("--pixels", work / f"{pixels}.npy")
    train(name, slice_of_pack, work, 2, *learned)
    curve = train(name, slice_of_pack, work, 4, *learned)
    assert [line["step"] for line in curve] == [2, 4], "the second run goes on from the first"
    out = work / f"cutout-{name}.onnx"
    step("export", name, work / name / "last.pt", out)
    assert out.stat().st_size <= 1_000_000
    answer = ort.InferenceSession(out).run(
        ["correction"], {"clues": np.random.default_rng(1).random((7, CLUES), np.float32)}
    )[0]
    assert answer.shape == (7, 1)
    assert np.isfinite(answer).all()


def test_the_segmentation_network_is_trained_and_exported(
    slice_of_pack: Path, shared: Path, work: Path
) -> None:
    more = ("--store", work / "store", "--start", shared / "models" / "u2netp.onnx")
    train("lite", slice_of_pack, work, 2, *more)
    first = shutil.copy(work / "lite" / "last.pt", work / "first.pt")
    curve = train("lite", slice_of_pack, work, 3, *more)
    assert curve[-1]["step"] == 3
    out = work / "cutout-lite.onnx"
    step("export", "lite", first, work / "lite" / "last.pt", out)
    assert out.stat().st_size <= 8_000_000
    seen = np.zeros((1, 3, 192, 192), np.float32)
    answer = ort.InferenceSession(out).run(["alpha"], {"input": seen})[0]
    assert answer.shape == (1, 1, 384, 384)
