"""What the segmentation network knows before it is trained: what u2netp knows."""

import importlib.util
from pathlib import Path

import cv2
import numpy as np
import pytest

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None,
    reason="torch is a dependency of training/ alone: `make test-training` has it",
)


def test_untrained_it_sees_what_u2netp_sees(slice_of_pack: Path, shared: Path) -> None:
    import torch  # noqa: PLC0415 - here alone

    from training import warm_start  # noqa: PLC0415
    from training.label import Teacher  # noqa: PLC0415
    from training.lite_network import LiteNet  # noqa: PLC0415
    from training.lite_samples import SEEN_PX  # noqa: PLC0415
    from training.photos import read_manifest  # noqa: PLC0415

    weights = shared / "models" / "u2netp.onnx"
    network = LiteNet().eval()
    warm_start.load(network, weights)
    teacher, overlaps = Teacher(weights), []
    for photo in (each for each in read_manifest(slice_of_pack) if each.use != "background"):
        image = photo.read()
        told = teacher.mask(image)[0] > 127
        if not 0.05 < told.mean() < 0.9:
            continue
        seen = cv2.resize(image, (SEEN_PX, SEEN_PX), interpolation=cv2.INTER_AREA)
        planes = torch.from_numpy(seen.transpose(2, 0, 1)[None].astype(np.float32) / 255)
        with torch.no_grad():
            answer = torch.sigmoid(network(planes))[0, 0].numpy()
        found = cv2.resize(answer, told.shape[::-1], interpolation=cv2.INTER_LINEAR) > 0.5
        overlaps.append((found & told).sum() / (found | told).sum())
    assert len(overlaps) >= 5
    assert np.median(overlaps) > 0.8
    assert np.mean(overlaps) > 0.7


def test_what_is_convolved_before_it_is_enlarged_is_nearly_the_same() -> None:
    import torch  # noqa: PLC0415 - here alone
    from torch.nn import functional  # noqa: PLC0415

    from training import warm_start  # noqa: PLC0415
    from training.lite_network import OUTER, Joined  # noqa: PLC0415

    rng = np.random.default_rng(1)
    kernel = rng.normal(0, 0.05, (OUTER, 2 * OUTER, 3, 3)).astype(np.float32)
    bias = rng.normal(0, 0.1, OUTER).astype(np.float32)
    blobs = torch.from_numpy(rng.normal(0, 1, (1, OUTER, 5, 5)).astype(np.float32))
    below = functional.interpolate(blobs, (24, 24), mode="bicubic")
    beside = functional.interpolate(blobs.flip(1), (48, 48), mode="bicubic")
    joined = Joined(OUTER, OUTER)
    with torch.no_grad():
        warm_start._fill(joined, kernel, bias)
        together = torch.cat([functional.interpolate(below, (48, 48), mode="bilinear"), beside], 1)
        published = functional.relu(
            functional.conv2d(together, torch.from_numpy(kernel), torch.from_numpy(bias), padding=1)
        )
        inner = (..., slice(4, -4), slice(4, -4))
        off = (joined(below, beside) - published)[inner].abs().mean()
        assert float(off) < 0.03 * float(published[inner].abs().mean())
