"""The contact sheet: each source beside its cutout on a checkerboard, on #111 and on #fff.

On #111 a bright fringe would show, on #fff a dark one: the test that the Codia contract names.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image, ImageDraw, ImageOps

CELL_PX: Final = 280
LABEL_PX: Final = 24
GAP_PX: Final = 8
SQUARE_PX: Final = 14
CHECKER_GREYS: Final = (204, 255)
INK: Final = "#333"
PAPER: Final = "#f4f4f2"


@dataclass(frozen=True, slots=True)
class Row:
    label: str
    source: Path
    cutout: Path


def write_contact_sheet(rows: Sequence[Row], path: Path) -> None:
    """Draw the sheet, one row a cutout, and write it as a PNG."""
    columns = 4
    width_px = columns * (CELL_PX + GAP_PX) + GAP_PX
    row_px = CELL_PX + LABEL_PX + GAP_PX
    sheet = Image.new("RGB", (width_px, len(rows) * row_px + GAP_PX), PAPER)
    pen = ImageDraw.Draw(sheet)
    for index, row in enumerate(rows):
        top_px = GAP_PX + index * row_px
        pen.text((GAP_PX, top_px + 4), row.label, fill=INK)
        for column, cell in enumerate(_cells(row)):
            left_px = GAP_PX + column * (CELL_PX + GAP_PX)
            sheet.paste(cell, (left_px, top_px + LABEL_PX))
    sheet.save(path)


def _cells(row: Row) -> list[Image.Image]:
    with Image.open(row.source) as source, Image.open(row.cutout) as cutout:
        pictures = [_fit(source.convert("RGB"))]
        subject = cutout.convert("RGBA")
    grounds = (
        _checkerboard(subject.size),
        Image.new("RGB", subject.size, "#111"),
        Image.new("RGB", subject.size, "#fff"),
    )
    for ground in grounds:
        ground.paste(subject, mask=subject.getchannel("A"))
        pictures.append(_fit(ground))
    return pictures


def _fit(picture: Image.Image) -> Image.Image:
    return ImageOps.pad(picture, (CELL_PX, CELL_PX), color=PAPER)


def _checkerboard(size_px: tuple[int, int]) -> Image.Image:
    """Draw the usual ground that says "nothing here", its squares as large as the cell's."""
    width_px, height_px = size_px
    square_px = max(1, SQUARE_PX * max(size_px) // CELL_PX)
    y, x = np.ogrid[:height_px, :width_px]
    is_light = (x // square_px + y // square_px) % 2 == 0
    dark, light = CHECKER_GREYS
    return Image.fromarray(np.where(is_light, light, dark).astype(np.uint8)).convert("RGB")
