"""The labelled photographs, packed for training: one size, in memory maps, without twins."""

import argparse
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from training.label import EDGE_PX, read_labels
from training.photos import Image, Photo, difference_hash, has_twin, read_manifest


@dataclass(frozen=True, slots=True)
class Store:
    """(N, 320, 320, 3) RGB and (N, 320, 320) teacher masks, uint8, and the name of each."""

    images: NDArray[np.uint8]
    masks: NDArray[np.uint8]
    names: list[str]

    @classmethod
    def open(cls, folder: Path, part: str = "train") -> "Store":
        """Map the part ("train" or "holdout") into memory."""
        return cls(
            np.load(folder / f"{part}_images.npy", mmap_mode="r"),
            np.load(folder / f"{part}_masks.npy", mmap_mode="r"),
            (folder / f"{part}_names.txt").read_text(encoding="utf-8").split(),
        )


def read_pair(photo: Photo, masks: Path) -> tuple[Image, NDArray[np.uint8]]:
    """Return the photograph and its mask at the store's size."""
    image = cv2.resize(photo.read(), (EDGE_PX, EDGE_PX), interpolation=cv2.INTER_AREA)
    mask = cv2.imread(str(masks / f"{photo.name}.png"), cv2.IMREAD_GRAYSCALE)
    return np.asarray(image, np.uint8), np.asarray(mask, np.uint8)


def write(part: str, photos: list[Photo], masks: Path, out: Path) -> None:
    """Write one part of the store."""
    form = (len(photos), EDGE_PX, EDGE_PX)
    images, answers = np.zeros((*form, 3), np.uint8), np.zeros(form, np.uint8)
    for index, photo in enumerate(photos):
        images[index], answers[index] = read_pair(photo, masks)
    out.mkdir(parents=True, exist_ok=True)
    np.save(out / f"{part}_images.npy", images)
    np.save(out / f"{part}_masks.npy", answers)
    names = "".join(f"{photo.name}\n" for photo in photos)
    (out / f"{part}_names.txt").write_text(names, encoding="utf-8")


def without_twins(photos: list[Photo], held_out: list[Photo]) -> list[Photo]:
    """Drop from `photos` whatever is, for all we can see, also among `held_out`."""
    known = [difference_hash(photo.read()) for photo in held_out]
    return [photo for photo in photos if not has_twin(difference_hash(photo.read()), known)]


def main() -> None:
    """Pack what the teacher is sure of."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("pack", type=Path, help="the unpacked photos.tar")
    arguments.add_argument("masks", type=Path, help="from label.py")
    arguments.add_argument("out", type=Path)
    given = arguments.parse_args()
    labels = read_labels(given.masks)
    photos = [
        photo
        for photo in read_manifest(given.pack)
        if photo.name in labels and labels[photo.name].is_sure
    ]
    held_out = [photo for photo in photos if photo.use == "holdout"]
    rest = [photo for photo in photos if photo.use in {"train", "unlabelled"}]
    kept = without_twins(rest, held_out)
    write("holdout", held_out, given.masks, given.out)
    write("train", kept, given.masks, given.out)
    print(
        f"{len(kept)} to train on, {len(held_out)} held out, {len(rest) - len(kept)} twins dropped"
    )


if __name__ == "__main__":
    main()
