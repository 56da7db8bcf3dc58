"""The network sees what rembg's would see, and its answer is read as rembg's is."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from core import Segmenter, load_segmenter
from core.decode import decode
from core.errors import (
    InvalidOptionError,
    ProviderUnavailableError,
    UnknownModelError,
    WeightsCorruptError,
    WeightsNotInstalledError,
)
from core.header import ImageLimits
from core.prepare import prepare
from core.weights import WEIGHTS
from tests.core.networks import install

RED, GREEN, BLUE, BLACK = (220, 0, 0), (0, 220, 0), (0, 0, 220), (0, 0, 0)


def quarters(*colours: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Paint one picture in four flat quarters."""
    pixels = np.array([colours[:2], colours[2:]], np.uint8)
    return pixels.repeat(300, axis=0).repeat(300, axis=1)


def test_masks_are_those_of_rembgs_own_session(shared_dir: Path, tmp_path: Path) -> None:
    pytest.importorskip("rembg", reason="rembg is the reference; the extra `models` installs it")
    folder = shared_dir / "data/eval/rembg_reference"
    photographs = sorted(path for path in folder.rglob("*.jpg") if ".out." not in path.name)
    assert len(photographs) >= 15
    target = tmp_path / "masks.npz"
    script = Path(__file__).with_name("rembg_masks.py")
    subprocess.run(
        [sys.executable, str(script), str(target), "u2netp", *map(str, photographs)],
        check=True,
        env={**os.environ, "U2NET_HOME": str(shared_dir / "models")},
    )
    segmenter = load_segmenter("u2netp", shared_dir / "models", threads=2)
    with np.load(target) as theirs:
        for path in photographs:
            mask = segmenter.segment(decode(path.read_bytes(), ImageLimits()).image).mask
            ours = (mask * 255).astype(np.uint8)  # cut off, as rembg does
            difference = np.abs(ours.astype(int) - theirs[str(path)]).mean()
            assert difference <= 0.5, path.name


@pytest.mark.parametrize("name", ["u2net", "u2net_human_seg", "silueta", "isnet-general-use"])
def test_weights_not_had_here_are_read_by_their_signature(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(name, tmp_path, monkeypatch)
    segmenter = load_segmenter(name, tmp_path)

    prediction = segmenter.segment(quarters((255, 255, 255), BLACK, BLACK, (128, 128, 128)))

    side_px = WEIGHTS[name].input_px
    assert prediction.mask.shape == prediction.raw.shape == (side_px, side_px)
    assert prediction.mask.dtype == np.float32
    # The first output, stretched: the side outputs are upside down.
    assert prediction.mask[10, 10] == pytest.approx(1, abs=1e-3)
    assert prediction.mask[10, -10] == pytest.approx(0, abs=1e-3)
    assert 0.2 < prediction.mask[-10, -10] < 0.95
    assert prediction.raw.max() < 1
    assert segmenter.edge is not None


def test_the_small_network_keeps_its_own_edges(lite: Segmenter) -> None:
    assert lite.edge is None


def test_clothes_are_joined_or_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install("u2net_cloth_seg", tmp_path, monkeypatch)
    segmenter = load_segmenter("u2net_cloth_seg", tmp_path)
    picture = quarters(RED, GREEN, BLUE, BLACK)

    def found(clothes: str) -> list[bool]:
        mask = segmenter.segment(picture, clothes).mask  # type: ignore[arg-type]  # a plain word
        assert mask.shape == (768, 768)
        return [bool(mask[y, x]) for y in (100, 600) for x in (100, 600)]

    assert found("upper") == [True, False, False, False]
    assert found("lower") == [False, True, False, False]
    assert found("full") == [False, False, True, False]
    assert found("all") == [True, True, True, False]


def test_other_weights_do_not_tell_clothes_apart(lite: Segmenter) -> None:
    with pytest.raises(InvalidOptionError):
        lite.segment(quarters(RED, GREEN, BLUE, BLACK), "upper")


def test_a_dark_picture_is_lifted_as_rembg_lifts_it() -> None:
    dark = quarters((40, 40, 40), (80, 80, 80), (10, 10, 10), (0, 0, 0))
    bright = np.clip(dark.astype(int) * 3, 0, 255).astype(np.uint8)
    lifted = prepare(dark, WEIGHTS["u2netp"])
    assert np.abs(lifted - prepare(bright, WEIGHTS["u2netp"])).max() < 0.05
    unlifted = prepare(dark, WEIGHTS["cutout-lite"])
    assert unlifted.max() < 0.4


@pytest.mark.parametrize(
    "size_px", [(512, 300), (3001, 2003), (90, 1700), (461, 410), (1, 700), (700, 1)]
)
def test_threads_share_the_scaling_to_the_same_result(size_px: tuple[int, int]) -> None:
    picture = np.random.default_rng(4).integers(0, 256, (*size_px, 3), np.uint8)
    alone = prepare(picture, WEIGHTS["u2netp"])
    for threads in (2, 3):
        assert (prepare(picture, WEIGHTS["u2netp"], threads) == alone).all()


def test_a_black_picture_is_no_division_by_zero(lite: Segmenter) -> None:
    black = np.zeros((50, 60, 3), np.uint8)
    assert np.isfinite(lite.segment(black).mask).all()
    assert np.isfinite(prepare(black, WEIGHTS["u2netp"])).all()


def test_a_uniform_answer_is_no_subject(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install("u2net", tmp_path, monkeypatch)
    mask = load_segmenter("u2net", tmp_path).segment(quarters(RED, RED, RED, RED)).mask
    assert not mask.any()


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 90, 3), (2000, 21, 3)])
def test_any_shape_of_picture_is_segmented(shape: tuple[int, ...], lite: Segmenter) -> None:
    mask = lite.segment(np.full(shape, 90, np.uint8)).mask
    assert mask.shape == (384, 384)
    assert mask.min() >= 0
    assert mask.max() <= 1


def test_one_segmenter_serves_threads_at_once(lite: Segmenter, photo: bytes) -> None:
    image = decode(photo, ImageLimits()).image
    alone = lite.segment(image).mask
    masks: list[NDArray[np.float32]] = []
    threads = [
        threading.Thread(target=lambda: masks.append(lite.segment(image).mask)) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(masks) == 4
    assert all(np.array_equal(mask, alone) for mask in masks)


def test_a_file_that_is_not_the_tables_is_refused(tmp_path: Path) -> None:
    whole = (Path(__file__).parents[2] / "core/onnx/cutout-lite.onnx").read_bytes()
    (tmp_path / "u2net.onnx").write_bytes(whole)
    with pytest.raises(WeightsCorruptError):
        load_segmenter("u2net", tmp_path)


def test_missing_and_unknown_weights_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(WeightsNotInstalledError):
        load_segmenter("silueta", tmp_path)
    with pytest.raises(UnknownModelError):
        load_segmenter("bria-rmbg", tmp_path)


def test_a_provider_that_is_not_there_is_no_silent_cpu() -> None:
    with pytest.raises(ProviderUnavailableError):
        load_segmenter("cutout-lite", None, provider="CUDAExecutionProvider")


def test_a_provider_that_steps_aside_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    # As with missing CUDA libraries: listed as available, then passed over by the session.
    listed = [*onnxruntime.get_available_providers(), "CUDAExecutionProvider"]
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: listed)
    monkeypatch.setattr("onnxruntime.InferenceSession", FallenBackSession)
    with pytest.raises(ProviderUnavailableError) as refused:
        load_segmenter("cutout-lite", None, provider="CUDAExecutionProvider")
    assert refused.value.got == "CPUExecutionProvider"


class FallenBackSession:
    """What onnxruntime leaves of a session whose provider could not be loaded."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def get_providers(self) -> list[str]:
        return ["CPUExecutionProvider"]


def test_the_warm_up_needs_no_picture(lite: Segmenter) -> None:
    lite.warm_up()
    assert lite.provider == "CPUExecutionProvider"
    assert lite.memory_bytes >= 2_000_000


def test_weights_that_cannot_be_rearranged_run_as_they_are_and_say_so(
    lite: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: bytes) -> bytes:
        raise ValueError("an unknown step")

    monkeypatch.setattr("core.segmenter.rearranged", fail)

    with pytest.warns(RuntimeWarning, match="an unknown step"):
        released = load_segmenter("cutout-lite", None)

    picture = quarters(RED, GREEN, BLUE, BLACK)
    expected = lite.segment(picture).raw
    np.testing.assert_allclose(released.segment(picture).raw, expected, atol=1e-5)
