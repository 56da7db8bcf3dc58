"""Label photographs with a teacher's masks, and drop what the teacher is unsure of.

The teacher is u2netp (Apache-2.0). Its soft mask of each photograph is kept at the network's size
as PNG; `labels.csv` says how much of the picture it covers and how sure it was. The run may be
stopped and started at any time: what is labelled stays labelled.
"""

import argparse
import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from training.photos import Image, Photo, read_manifest

EDGE_PX = 320
MEAN = np.array((0.485, 0.456, 0.406), np.float32)
DEVIATION = np.array((0.229, 0.224, 0.225), np.float32)
USES = ("holdout", "train", "unlabelled")
"""In the order of labelling, so that a short run has what matters most."""


@dataclass(frozen=True, slots=True)
class Label:
    """What the teacher said of one photograph, in four numbers."""

    name: str
    area: float
    soft_area: float
    peak: float

    @property
    def is_sure(self) -> bool:
        """Whether the mask is worth learning from: neither empty nor full, hardly any grey."""
        is_object = 0.03 <= self.area <= 0.9
        is_crisp = self.soft_area <= min(0.12, max(0.025, 0.36 * self.area))
        return is_object and is_crisp and self.peak >= 0.6


class Teacher:
    """u2netp, asked for the raw mask of one picture at a time."""

    def __init__(self, weights: Path, threads: int = 1) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        self._ort_session = ort.InferenceSession(weights, options)
        self._input = self._ort_session.get_inputs()[0].name
        self._output = self._ort_session.get_outputs()[0].name

    def mask(self, image: Image) -> tuple[NDArray[np.uint8], float]:
        """Return the stretched (320, 320) mask of `image`, and the peak before the stretch."""
        small = cv2.resize(image, (EDGE_PX, EDGE_PX), interpolation=cv2.INTER_AREA)
        planes = small.astype(np.float32) / max(float(small.max()), 1.0)
        planes = (planes - MEAN) / DEVIATION
        batch = np.ascontiguousarray(planes.transpose(2, 0, 1)[None], np.float32)
        raw = self._ort_session.run([self._output], {self._input: batch})[0][0, 0]
        low, high = float(raw.min()), float(raw.max())
        stretched = (raw - low) / max(high - low, 1e-8)
        return (stretched * 255 + 0.5).astype(np.uint8), high


def label_for(name: str, mask: NDArray[np.uint8], peak: float) -> Label:
    """Summarise a mask."""
    soft = (mask > 25) & (mask < 230)
    return Label(name, float((mask > 127).mean()), float(soft.mean()), peak)


def read_labels(folder: Path) -> dict[str, Label]:
    """Return what is labelled so far, by name."""
    if not (folder / "labels.csv").exists():
        return {}
    with (folder / "labels.csv").open(encoding="utf-8") as lines:
        rows = [row for row in csv.reader(lines) if len(row) == 4]
    return {name: Label(name, float(a), float(b), float(c)) for name, a, b, c in rows}


def label_photos(photos: list[Photo], teacher: Teacher, folder: Path) -> Iterator[Label]:
    """Label each of `photos` that has no label yet, writing as it goes."""
    known = read_labels(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "labels.csv").open("a", encoding="utf-8") as lines:
        for photo in photos:
            if photo.name in known:
                continue
            mask, peak = teacher.mask(photo.read())
            label = label_for(photo.name, mask, peak)
            path = folder / f"{photo.name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), mask)
            row = (label.name, f"{label.area:.4f}", f"{label.soft_area:.4f}", f"{label.peak:.4f}")
            csv.writer(lines).writerow(row)
            lines.flush()
            yield label


def main() -> None:
    """Label the pack."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("pack", type=Path, help="the unpacked photos.tar")
    arguments.add_argument("teacher", type=Path, help="u2netp.onnx")
    arguments.add_argument("out", type=Path)
    arguments.add_argument("--threads", type=int, default=1)
    arguments.add_argument("--limit", type=int, default=None, help="so many photographs at most")
    given = arguments.parse_args()
    photos = [photo for photo in read_manifest(given.pack) if photo.use in USES]
    # Within a use: by the hash in the file's name, which mixes the sources.
    photos.sort(key=lambda photo: (USES.index(photo.use), photo.path.name))
    teacher = Teacher(given.teacher, given.threads)
    kept = seen = 0
    for label in label_photos(photos[: given.limit], teacher, given.out):
        seen, kept = seen + 1, kept + label.is_sure
        if seen % 100 == 0:
            print(f"{seen} labelled, {kept} kept", flush=True)
    print(f"{seen} labelled, {kept} kept")


if __name__ == "__main__":
    main()
