"""Before and after, magnified: `python -m bench.pictures` writes docs/images/edges-*.png.

Generated scenes only, so that the pictures may be published; the mask is the oracle's at 320 px.
Columns: rembg plain, decontaminate, alpha matting, ours, the truth. Rows: #111, #fff, magenta.
"""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from bench import peers
from bench.metrics import BACKGROUNDS, composite
from bench.quality import as_picture, oracle_mask, ours
from bench.report import ROOT
from bench.scenes import Scene, scene

CROPS = {
    ("hair", "green"): (slice(70, 150), slice(300, 380)),
    ("lace", "clutter"): (slice(225, 305), slice(110, 190)),
    ("wire", "white"): (slice(50, 130), slice(240, 320)),
    ("glass", "dark"): (slice(90, 170), slice(140, 220)),
}
MAGNIFICATION = 3
GAP_PX = 4


def sheet(drawn: Scene, crop: tuple[slice, slice]) -> NDArray[np.uint8]:
    mask = oracle_mask(drawn.alpha)
    made = [peers.cutout(drawn.image, as_picture(mask), mode) for mode in peers.MODES]
    cutouts = [(each[..., :3], each[..., 3] / 255) for each in (*made, ours(drawn.image, mask))]
    cutouts.append((drawn.foreground, drawn.alpha))
    rows = [
        np.hstack([_magnified(composite(*each, colour)[crop]) for each in cutouts])
        for colour in BACKGROUNDS.values()
    ]
    return np.vstack(rows)


def _magnified(picture: NDArray[Any]) -> NDArray[np.uint8]:
    sharp = np.clip(np.rint(picture), 0, 255).astype(np.uint8)
    wide = sharp.repeat(MAGNIFICATION, 0).repeat(MAGNIFICATION, 1)
    margins = ((0, GAP_PX), (0, GAP_PX), (0, 0))
    return np.pad(wide, margins, constant_values=128)


def main() -> None:
    folder = ROOT / "docs" / "images"
    folder.mkdir(exist_ok=True)
    for (kind, backdrop), crop in CROPS.items():
        picture = sheet(scene(kind, backdrop, 1), crop)
        path = folder / f"edges-{kind}-{backdrop}.png"
        cv2.imwrite(str(path), picture[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 9])
        print(path.relative_to(ROOT), f"{path.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
