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
    strips = [_strip(row) for row in rows]
    width_px = max(strip.width for strip in strips)
    sheet = Image.new("RGB", (width_px, sum(strip.height for strip in strips) + GAP_PX), PAPER)
    top_px = 0
    for strip in strips:
        sheet.paste(strip, (0, top_px))
        top_px += strip.height
    sheet.save(path)


def _strip(row: Row) -> Image.Image:
    """Draw one row: its label and its four pictures, as high as they are."""
    cells = _cells(row)
    height_px = LABEL_PX + max(cell.height for cell in cells)
    strip = Image.new("RGB", (GAP_PX + len(cells) * (CELL_PX + GAP_PX), height_px), PAPER)
    ImageDraw.Draw(strip).text((GAP_PX, LABEL_PX // 4), row.label, fill=INK)
    for column, cell in enumerate(cells):
        strip.paste(cell, (GAP_PX + column * (CELL_PX + GAP_PX), LABEL_PX))
    return strip


def _cells(row: Row) -> list[Image.Image]:
    with Image.open(row.source) as source, Image.open(row.cutout) as cutout:
        pictures = [source.convert("RGB")]
        subject = cutout.convert("RGBA")
    for ground in (
        _checkerboard(subject.size),
        Image.new("RGB", subject.size, "#111"),
        Image.new("RGB", subject.size, "#fff"),
    ):
        ground.paste(subject, mask=subject.getchannel("A"))
        pictures.append(ground)
    return [ImageOps.contain(picture, (CELL_PX, CELL_PX)) for picture in pictures]


def _checkerboard(size_px: tuple[int, int]) -> Image.Image:
    """Draw the usual ground that says "nothing here", its squares as large as the cell's."""
    width_px, height_px = size_px
    square_px = max(1, SQUARE_PX * max(size_px) // CELL_PX)
    y, x = np.ogrid[:height_px, :width_px]
    is_light = (x // square_px + y // square_px) % 2 == 0
    dark, light = CHECKER_GREYS
    return Image.fromarray(np.where(is_light, light, dark).astype(np.uint8)).convert("RGB")
