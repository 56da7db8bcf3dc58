"""The playground's page in a test's hands: pictures in, what is seen and saved out."""

import asyncio
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from playwright.async_api import FilePayload, Page

from tests.gateway.faces import Visit

DONE_MS = 60_000
MARGIN_PX = 8
"""What lies so near to the divider or the frame is not looked at."""


@dataclass
class Bench:
    visit: Visit
    saved_as: str = ""

    @property
    def page(self) -> Page:
        return self.visit.page

    async def pick(self, content: bytes, name: str = "photo.jpg") -> None:
        payload = FilePayload(name=name, mimeType="image/jpeg", buffer=content)
        await self.page.set_input_files("#file", payload)

    async def paste(self, content: bytes, name: str) -> None:
        await self.page.evaluate(
            """([bytes, name]) => {
                const data = new DataTransfer();
                data.items.add(new File([new Uint8Array(bytes)], name, {type: "image/png"}));
                const paste = {clipboardData: data, bubbles: true, cancelable: true};
                document.body.dispatchEvent(new ClipboardEvent("paste", paste));
            }""",
            [list(content), name],
        )

    async def reach(self, state: str) -> None:
        """Wait until the stage is in `state`; what else it came to is told."""
        stage = self.page.locator(f'#stage[data-state="{state}"]')
        await stage.wait_for(timeout=DONE_MS)
        if state == "done":
            # The divider comes to rest, and the browser has drawn.
            await self.page.wait_for_function(
                "() => document.getElementById('split').value <= 50", timeout=DONE_MS
            )
            await self.settle()

    async def settle(self) -> None:
        """Let two frames pass, so that what was asked for is on the screen."""
        await self.page.evaluate(
            "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
        )

    async def cut(self, content: bytes, name: str = "photo.jpg") -> None:
        await self.pick(content, name)
        await self.reach("done")

    async def saved(self) -> bytes:
        """Press the button for it and read what the browser has saved."""
        async with self.page.expect_download() as download:
            await self.page.click("#download")
        file = await download.value
        self.saved_as = file.suggested_filename
        return await asyncio.to_thread((await file.path()).read_bytes)

    async def show_all(self, side: str) -> None:
        """Move the divider to the end by its keys, so that one side alone is seen."""
        await self.page.focus("#split")
        await self.page.keyboard.press("Home" if side == "cutout" else "End")
        await self.settle()

    async def ground(self, value: str) -> None:
        await self.page.locator(f'[name="ground"][value="{value}"]').check(force=True)
        await self.settle()

    async def view(self, value: str) -> None:
        await self.page.locator(f'[name="view"][value="{value}"]').check(force=True)
        await self.settle()

    async def seen(self) -> NDArray[np.uint8]:
        """Photograph the viewer: (height, width, 3)."""
        await self.settle()
        shot = await self.page.locator("#viewer").screenshot(animations="allow")
        with Image.open(BytesIO(shot)) as image:
            return np.asarray(image.convert("RGB"))

    async def place(self, x: int, y: int) -> tuple[int, int]:
        """Tell where in the viewer the middle of the picture's pixel (x, y) is seen."""
        at: list[float] = await self.page.evaluate(
            """([x, y]) => {
                const viewer = document.getElementById("viewer").getBoundingClientRect();
                const sheet = document.getElementById("after-sheet").getBoundingClientRect();
                const scale = sheet.width / document.getElementById("after").naturalWidth;
                return [sheet.x - viewer.x + (x + 0.5) * scale,
                        sheet.y - viewer.y + (y + 0.5) * scale];
            }""",
            [x, y],
        )
        return int(at[0]), int(at[1])

    async def colour_at(self, x: int, y: int) -> tuple[int, int, int]:
        """Read the colour on the screen of the picture's pixel (x, y)."""
        column, row = await self.place(x, y)
        red, green, blue = (int(value) for value in (await self.seen())[row, column])
        return red, green, blue


def alpha_of(file: bytes) -> NDArray[np.uint8]:
    with Image.open(BytesIO(file)) as image:
        return np.asarray(image.convert("RGBA"))[:, :, 3]


def hole_in(alpha: NDArray[np.uint8]) -> tuple[int, int]:
    """Find a pixel (x, y) amid the background, away from edges and from the viewer's tags."""
    return _amid(alpha == 0)


def body_of(alpha: NDArray[np.uint8]) -> tuple[int, int]:
    """Find a pixel (x, y) amid the subject."""
    return _amid(alpha == np.iinfo(np.uint8).max)


def _amid(is_wanted: NDArray[np.bool_]) -> tuple[int, int]:
    height, width = is_wanted.shape
    step = 2 * MARGIN_PX
    for y in range(height // 4, height - step, step):
        for x in range(step, width - step, step):
            around = is_wanted[y - MARGIN_PX : y + MARGIN_PX, x - MARGIN_PX : x + MARGIN_PX]
            if around.all():
                return x, y
    raise AssertionError("no such place in the picture")
