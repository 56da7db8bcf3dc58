"""One picture takes no more memory than admission counts for it."""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from core import BYTES_PER_PIXEL_PEAK
from tests.core.conftest import encoded, opened

MEGAPIXELS = 12
MEASURE = """
import sys
from pathlib import Path
from core import CutoutOptions, cut_out, load_segmenter

def kib(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))

segmenter = load_segmenter("cutout-lite", None)
source = Path(sys.argv[1]).read_bytes()
segmenter.warm_up()
before = kib("VmRSS")
Path("/proc/self/clear_refs").write_text("5")  # the high-water mark begins anew
cut_out(source, segmenter, CutoutOptions(format=sys.argv[2]))
print((kib("VmHWM") - before) * 1024)
"""


@pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="needs Linux to measure its peak memory"
)
@pytest.mark.parametrize(
    ("file_format", "target", "bytes_per_pixel"),
    [
        ("JPEG", "png", 10),
        ("PNG", "png", 20),
        ("opaque PNG", "webp", 28),
        ("WEBP", "png", 22),
        ("JPEG", "webp", 28),
    ],
)
def test_the_peak_is_bounded_by_the_pixels(
    file_format: str, target: str, bytes_per_pixel: int, astronaut: bytes, tmp_path: Path
) -> None:
    side_px = round((MEGAPIXELS * 1e6) ** 0.5)
    pixels = cv2.resize(opened(astronaut), (side_px, side_px), interpolation=cv2.INTER_CUBIC)
    if file_format in {"PNG", "WEBP"}:
        opacity = np.full((side_px, side_px), 255, np.uint8)
        opacity[:, : side_px // 4] = 100
        pixels = np.dstack([pixels, opacity])
    kind = file_format.rsplit(maxsplit=1)[-1]
    options = {"compress_level": 1} if kind == "PNG" else {"quality": 90}
    path = tmp_path / "source"
    path.write_bytes(encoded(pixels, kind, **options))

    measured = subprocess.run(
        [sys.executable, "-c", MEASURE, str(path), target],
        check=True,
        capture_output=True,
        text=True,
    )

    assert bytes_per_pixel <= BYTES_PER_PIXEL_PEAK
    assert int(measured.stdout) / side_px**2 <= bytes_per_pixel
