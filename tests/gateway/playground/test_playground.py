"""The playground in Chromium: a picture goes in by every door, its cutout comes out to the byte."""

import asyncio
import os
import re
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from httpx import AsyncClient
from PIL import Image
from playwright.async_api import expect

from gateway.settings import Settings
from tests.gateway.faces import needs_chromium
from tests.gateway.playground.bench import Bench, alpha_of
from tests.gateway.web import PUBLIC_URL

pytestmark = [needs_chromium, pytest.mark.browser]
STAGES = {
    "Waiting for a worker",
    "Reading the picture",
    "Finding the subject",
    "Following its edge",
    "Taking the old background out of the edge",
    "Putting it together",
    "Writing the file",
    "Storing it",
}
TASK = re.compile(r"/api/get/([0-9a-f-]{36})")


async def stored(bench: Bench) -> bytes:
    """Fetch what the gateway has stored of the cutout that the page shows."""
    shown = await bench.page.inner_text("#revid-curl")
    (name,) = re.findall(r"/output/([\w.-]+)", shown)
    async with AsyncClient(base_url=bench.visit.address) as client:
        return (await client.get(f"/output/{name}")).content


async def drop(bench: Bench, path: Path) -> None:
    """Drop a file on the stage as a desktop does: through the browser, not through a script."""
    box = await bench.page.locator("#stage").bounding_box()
    assert box is not None
    browser = await bench.page.context.new_cdp_session(bench.page)
    where = {"x": box["x"] + 40, "y": box["y"] + 40}
    files = {"items": [], "files": [str(path)], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "dragOver", "drop"):
        await browser.send("Input.dispatchDragEvent", {"type": kind, "data": files} | where)
        await bench.settle()


async def test_a_dropped_picture_can_be_saved_as_it_is_stored(
    bench: Bench, astronaut: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "eileen.jpg"
    path.write_bytes(astronaut)
    await drop(bench, path)
    await bench.reach("done")
    saved = await bench.saved()
    assert saved == await stored(bench)
    assert bench.saved_as == "eileen-cutout.png"
    alpha = alpha_of(saved)
    assert alpha.shape == (512, 512)
    assert alpha.min() == 0
    assert alpha.max() == 255


async def test_a_picked_picture_is_cut(bench: Bench, astronaut: bytes) -> None:
    await bench.cut(astronaut)
    assert await bench.saved() == await stored(bench)
    await expect(bench.page.locator("#facts")).to_contain_text("25 credits")


async def test_a_pasted_picture_is_cut(bench: Bench, astronaut: bytes) -> None:
    await bench.paste(astronaut, "image.png")
    await bench.reach("done")
    await bench.saved()
    assert bench.saved_as == "pasted-cutout.png"


async def test_a_sample_is_cut_without_a_mouse(bench: Bench) -> None:
    await bench.page.get_by_role("button", name="A cup of coffee").focus()
    await bench.page.keyboard.press("Enter")
    await bench.reach("done")
    await expect(bench.page.locator("#download")).to_be_focused()
    assert alpha_of(await bench.saved()).shape == (400, 600)


async def test_the_way_of_a_picture_is_told_by_its_stages(bench: Bench, big_picture: bytes) -> None:
    buffer = BytesIO()
    with Image.open(BytesIO(big_picture)) as picture:  # one that takes a second and more
        picture.resize((6500, 6500)).save(buffer, "JPEG", quality=80)
    heard: set[str] = set()
    await bench.pick(buffer.getvalue())
    while await bench.page.get_attribute("#stage", "data-state") != "done":
        heard.add(await bench.page.inner_text("#said"))
        await asyncio.sleep(0.02)
    assert heard & STAGES
    await expect(bench.page.locator("#said")).to_contain_text("Done. Confidence ")


async def test_what_lowers_the_confidence_is_put_into_words(bench: Bench, astronaut: bytes) -> None:
    await bench.cut(astronaut)
    assert await bench.page.inner_text("#reasons li >> nth=-1") == (
        "The subject runs out of the picture."
    )
    assert re.fullmatch(r"\d+ %", await bench.page.inner_text("#confidence"))


async def test_a_model_that_stood_in_is_told(bench: Bench, astronaut: bytes) -> None:
    await bench.page.select_option("#model", "silueta")
    await bench.cut(astronaut)
    assert await bench.page.inner_text("#warnings li") == (
        "The model silueta is not installed here, cutout-lite ran instead."
    )


async def test_every_warning_is_a_sentence(bench: Bench, astronaut: bytes) -> None:
    small = BytesIO()
    with Image.open(BytesIO(astronaut)) as picture:
        picture.resize((300, 300)).save(small, "PNG")
    await bench.cut(small.getvalue(), "small.png")
    warnings = await bench.page.locator("#warnings li").all_inner_texts()
    assert warnings
    for warning in warnings:
        assert re.fullmatch(r"[A-Z].*\.", warning), warning


async def test_another_file_format_is_another_file(bench: Bench, astronaut: bytes) -> None:
    await bench.page.select_option("#format", "webp")
    await bench.cut(astronaut, "a.b.jpg")
    saved = await bench.saved()
    assert bench.saved_as == "a.b-cutout.webp"
    assert saved[8:12] == b"WEBP"
    assert alpha_of(saved).min() == 0
    assert "-F 'format=webp'" in await bench.page.inner_text("#codia-curl")


async def test_options_are_tried_on_the_same_picture(bench: Bench, astronaut: bytes) -> None:
    await bench.cut(astronaut)
    whole = alpha_of(await bench.saved())
    await bench.page.check("#crop")
    await bench.page.fill("#crop_margin", "10px")
    await bench.page.click("#again")
    await expect(bench.page.locator("#no-slide")).to_be_visible()
    await bench.settle()
    cropped = alpha_of(await bench.saved())
    rows, columns = np.any(whole > 0, axis=1).sum(), np.any(whole > 0, axis=0).sum()
    assert cropped.shape[0] == pytest.approx(rows + 20, abs=20)
    assert cropped.shape[1] == pytest.approx(columns + 20, abs=20)


async def run(script: str, folder: Path, settings: Settings) -> str:
    """Paste `script` into a shell that has the key in its environment."""
    assert settings.playground_key is not None
    key = settings.playground_key.get_secret_value()
    shell = await asyncio.create_subprocess_exec(
        "bash",
        "-ec",
        script,
        cwd=folder,
        env=os.environ | {"CUTOUT_API_KEY": key},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, errors = await shell.communicate()
    assert shell.returncode == 0, errors.decode()
    return out.decode()


def opened(file: bytes) -> "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]":
    with Image.open(BytesIO(file)) as image:
        return np.asarray(image.convert("RGBA"))


@pytest.mark.parametrize("name", ["photo.jpg", 'my; "best" o\'picture, 1.jpg'])
async def test_the_codia_call_that_is_shown_makes_the_same_cutout(
    bench: Bench, astronaut: bytes, tmp_path: Path, settings: Settings, name: str
) -> None:
    await bench.cut(astronaut, name)
    saved = await bench.saved()
    (tmp_path / name).write_bytes(astronaut)
    shown = await bench.page.inner_text("#codia-curl")
    call, _, fetching = shown.partition("# The answer's data")
    answer = await run(call.replace(PUBLIC_URL, bench.visit.address), tmp_path, settings)
    (image_url,) = re.findall(r'"image_url":"([^"]+)"', answer)
    fetching = fetching.partition("\n")[2].replace("IMAGE_URL", image_url)
    await run(fetching.replace(PUBLIC_URL, bench.visit.address), tmp_path, settings)
    cutout = tmp_path / f"{Path(name).stem}-cutout.png"
    assert np.array_equal(opened(cutout.read_bytes()), opened(saved))


async def test_the_revid_call_that_is_shown_makes_the_same_cutout_from_nothing_but_a_sample(
    bench: Bench, tmp_path: Path, settings: Settings
) -> None:
    await bench.page.get_by_role("button", name="A cat").click()
    await bench.reach("done")
    saved = await bench.saved()
    shown = (await bench.page.inner_text("#revid-curl")).replace(PUBLIC_URL, bench.visit.address)
    printed = await run(shown, tmp_path, settings)
    assert (tmp_path / "chelsea-cutout.png").read_bytes() == saved
    begun = TASK.findall(printed)[0]
    task_before = TASK.findall(shown)[0]
    assert begun != task_before
    again = await run(
        shown.replace(task_before, begun).partition("# The answer names")[2].partition("\n")[2],
        tmp_path,
        settings,
    )
    assert '"status":"completed"' in again
    assert np.array_equal(opened((tmp_path / "chelsea-cutout.png").read_bytes()), opened(saved))


async def test_no_call_that_is_shown_holds_a_key(
    bench: Bench, astronaut: bytes, settings: Settings
) -> None:
    await bench.cut(astronaut)
    assert settings.playground_key is not None
    assert settings.playground_key.get_secret_value() not in await bench.page.content()
    assert "$CUTOUT_API_KEY" in await bench.page.inner_text("#revid-curl")


async def test_a_call_can_be_copied(bench: Bench, astronaut: bytes) -> None:
    await bench.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    await bench.cut(astronaut)
    await bench.page.get_by_role("button", name="Copy the Codia call").click()
    copied = await bench.page.evaluate("navigator.clipboard.readText()")
    assert copied == await bench.page.text_content("#codia-curl")
