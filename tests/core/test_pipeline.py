"""From bytes to a cutout: the promises a customer would notice when broken."""

import time
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

import core
from core import (
    CoreError,
    Cutout,
    CutoutOptions,
    ImageLimits,
    Segmenter,
    cut_out,
    cut_out_many,
    load_segmenter,
)
from core.decode import decode
from core.decontaminate import coarse_colours, decontaminate
from core.errors import (
    InvalidOptionError,
    NoForegroundError,
    UnreadableImageError,
    UnsupportedFormatError,
)
from core.matting import scale_up, solve
from tests.core.conftest import encoded, opened

STAGES = ["decode", "segment", "refine", "decontaminate", "compose", "encode"]


def test_a_cutout_is_the_picture_with_alpha(photo: bytes, lite: Segmenter) -> None:
    cutout = cut_out(photo, lite)

    source, pixels = opened(photo), opened(cutout.image)
    assert (cutout.extension, cutout.media_type) == ("png", "image/png")
    assert (cutout.height_px, cutout.width_px) == source.shape[:2]
    assert pixels.shape == (*source.shape[:2], 4)
    assert 0 < cutout.confidence <= 1
    assert cutout.model == "cutout-lite"
    opaque = pixels[..., 3] == 255
    assert opaque.mean() > 0.05
    assert np.array_equal(pixels[opaque][:, :3], source[opaque])
    assert (pixels[..., 3] == 0).mean() > 0.05


def test_the_subject_is_kept_and_the_background_goes(astronaut: bytes, lite: Segmenter) -> None:
    alpha = opened(cut_out(astronaut, lite).image)[..., 3]
    assert alpha[60:160, 190:260].mean() > 250  # her face
    assert alpha[:150, 400:].mean() < 64  # the shuttle behind her


def test_the_same_picture_is_the_same_cutout(astronaut: bytes, lite: Segmenter) -> None:
    """To the bit, wherever in memory its planes come to lie."""

    def cut(index: int) -> bytes:
        between = np.ones(100_003 * (index + 1), np.uint8)
        image = cut_out(astronaut, lite).image
        del between
        return image

    with ThreadPoolExecutor(3) as pool:
        assert len(set(pool.map(cut, range(18)))) == 1


def test_each_step_is_announced_before_it_runs(astronaut: bytes, lite: Segmenter) -> None:
    announced: list[str] = []
    cutout = cut_out(astronaut, lite, on_stage=announced.append)
    assert announced == STAGES
    assert list(cutout.stages_ms) == STAGES
    assert all(time_ms >= 0 for time_ms in cutout.stages_ms.values())


@pytest.mark.parametrize("stage", STAGES)
def test_the_caller_can_stop_before_any_step(stage: str, astronaut: bytes, lite: Segmenter) -> None:
    def stop(announced: str) -> None:
        if announced == stage:
            raise TimeoutError(stage)

    with pytest.raises(TimeoutError, match=stage):
        cut_out(astronaut, lite, on_stage=stop)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_turned_photograph_comes_out_upright(
    orientation: int, lite: Segmenter, astronaut: bytes
) -> None:
    with Image.open(BytesIO(astronaut)) as image:
        upright = image.crop((60, 0, 420, 512))
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = {
        1: upright,
        3: upright.transpose(Image.Transpose.ROTATE_180),
        6: upright.transpose(Image.Transpose.ROTATE_90),
        8: upright.transpose(Image.Transpose.ROTATE_270),
    }[orientation]
    turned = cut_out(encoded(np.asarray(stored), "PNG", exif=exif.tobytes()), lite)
    straight = cut_out(encoded(np.asarray(upright), "PNG"), lite)
    assert (turned.width_px, turned.height_px) == (360, 512)
    assert turned.image == straight.image


@given(
    st.tuples(st.integers(1, 120), st.integers(1, 120)),
    st.sampled_from(["png", "webp", "jpg"]),
    st.sampled_from(["rgba", "alpha"]),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=40, deadline=None)
def test_any_picture_comes_out_at_its_own_size(
    lite: Segmenter, size_px: tuple[int, int], file_format: Any, channels: Any, seed: int
) -> None:
    width_px, height_px = size_px
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (height_px, width_px, 4), np.uint8)
    pixels[0, 0, 3] = 128  # kept, so that noise is not an empty cutout
    options = CutoutOptions(transparency="keep", format=file_format, channels=channels)
    cutout = cut_out(encoded(pixels, "PNG"), lite, options, limits=ImageLimits(ratio_max=120))
    assert (cutout.width_px, cutout.height_px) == (width_px, height_px)
    assert opened(cutout.image).shape[:2] == (height_px, width_px)


def with_opacity(source: bytes, shape: tuple[int, int] = (512, 512)) -> NDArray[np.uint8]:
    """Give the photograph a see-through half and a half-opaque stripe."""
    opacity = np.full(shape, 255, np.uint8)
    opacity[:, :200] = 0
    opacity[:, 200:240] = 128
    return np.dstack([opened(source), opacity])


def test_see_through_parts_are_background(astronaut: bytes, lite: Segmenter) -> None:
    source = with_opacity(astronaut)
    pixels = opened(cut_out(encoded(source, "PNG"), lite).image)
    assert not pixels[:, :200, 3].any()
    assert pixels[:, 200:240, 3].max() <= 128
    own = pixels[..., 3] == source[..., 3]
    assert np.array_equal(pixels[own & (pixels[..., 3] > 0)], source[own & (pixels[..., 3] > 0)])


def test_kept_transparency_survives_as_it_was(astronaut: bytes, lite: Segmenter) -> None:
    source = with_opacity(astronaut)
    pixels = opened(cut_out(encoded(source, "PNG"), lite, CutoutOptions(transparency="keep")).image)
    assert np.array_equal(pixels[:, :240, 3], source[:, :240, 3])
    assert np.array_equal(pixels[:, 200:240, :3], source[:, 200:240, :3])


def test_a_flattened_source_is_a_picture_on_white(astronaut: bytes, lite: Segmenter) -> None:
    source = with_opacity(astronaut)
    white = source[..., :3] * (source[..., 3:] / 255) + 255 * (1 - source[..., 3:] / 255)
    flattened = cut_out(encoded(source, "PNG"), lite, CutoutOptions(transparency="flatten"))
    on_white = cut_out(encoded(np.rint(white).astype(np.uint8), "PNG"), lite)
    assert flattened.image == on_white.image


def test_outside_the_region_all_is_background(astronaut: bytes, lite: Segmenter) -> None:
    cutout = cut_out(astronaut, lite, CutoutOptions(roi="0 0 50% 256px"))
    alpha = opened(cutout.image)[..., 3]
    assert alpha.shape == (512, 512)
    assert alpha[:256, :256].max() == 255
    assert not alpha[256:].any()
    assert not alpha[:, 256:].any()


@pytest.mark.parametrize("roi", ["600 0 700 100", "50% 0 50% 100%", "100% 100% 0 0"])
def test_a_region_off_the_picture_is_refused(roi: str, astronaut: bytes, lite: Segmenter) -> None:
    with pytest.raises(InvalidOptionError, match="roi"):
        cut_out(astronaut, lite, CutoutOptions(roi=roi))


def test_one_inference_gives_many_backgrounds(
    astronaut: bytes, photo: bytes, lite: Segmenter
) -> None:
    announced: list[str] = []
    variants = [
        CutoutOptions(),
        CutoutOptions(bg_color="#111", format="jpg"),
        CutoutOptions(bg_image=photo, format="webp"),
        CutoutOptions(crop=True, crop_margin="10%"),
    ]
    cutouts = cut_out_many(astronaut, lite, variants, on_stage=announced.append)
    assert announced.count("segment") == 1
    assert [cutout.extension for cutout in cutouts] == ["png", "jpg", "webp", "png"]
    for options, cutout in zip(variants, cutouts, strict=True):
        assert cutout.image == cut_out(astronaut, lite, options).image


def test_variants_of_one_cutout_share_their_subject(astronaut: bytes, lite: Segmenter) -> None:
    with pytest.raises(InvalidOptionError):
        cut_out_many(astronaut, lite, [CutoutOptions(), CutoutOptions(roi="0 0 9 9")])
    assert cut_out_many(astronaut, lite, []) == []


def test_a_background_that_is_no_picture_is_refused_before_any_work(
    astronaut: bytes, lite: Segmenter
) -> None:
    announced: list[str] = []
    options = CutoutOptions(bg_image=b"GIF89a" + bytes(20))
    with pytest.raises(UnsupportedFormatError) as refused:
        cut_out(astronaut, lite, options, on_stage=announced.append)
    assert (refused.value.field, announced) == ("bg_image", [])
    with pytest.raises(UnreadableImageError, match="bg_image"):
        cut_out(astronaut, lite, CutoutOptions(bg_image=astronaut[:5000]))


def test_a_doubtful_cutout_fails_only_where_that_is_asked_for(
    astronaut: bytes, lite: Segmenter
) -> None:
    cutout = cut_out(astronaut, lite)
    just_enough = CutoutOptions(confidence_min=cutout.confidence)
    assert cut_out(astronaut, lite, just_enough).image == cutout.image
    with pytest.raises(NoForegroundError) as refused:
        cut_out(astronaut, lite, CutoutOptions(confidence_min=cutout.confidence + 0.001))
    assert refused.value.confidence == cutout.confidence


@pytest.mark.parametrize("size_px", [(500, 500), (8, 8), (1, 1)])
@pytest.mark.parametrize("shown", [{}, {"crop": True}, {"bg_color": "red"}, {"watermark": True}])
def test_nobody_gets_an_empty_cutout(
    size_px: tuple[int, int], shown: dict[str, Any], lite: Segmenter
) -> None:
    nothing = encoded(np.full((*size_px, 3), 200, np.uint8), "PNG")
    with pytest.raises(NoForegroundError, match="empty"):
        cut_out(nothing, lite, CutoutOptions(**shown))


def test_a_region_without_the_subject_is_an_empty_cutout(lite: Segmenter) -> None:
    picture = np.full((400, 400, 3), 235, np.uint8)
    picture[250:390, 250:390] = (150, 30, 30)
    with pytest.raises(NoForegroundError):
        cut_out(encoded(picture, "PNG"), lite, CutoutOptions(roi="0 0 30% 30%"))


def test_what_was_see_through_before_and_is_kept_is_not_empty(lite: Segmenter) -> None:
    glass = np.full((300, 300, 4), 128, np.uint8)
    kept = opened(cut_out(encoded(glass, "PNG"), lite, CutoutOptions(transparency="keep")).image)
    assert (kept[..., 3] == 128).all()


def test_a_small_picture_is_worked_on_and_warned_about(photo: bytes, lite: Segmenter) -> None:
    with Image.open(BytesIO(photo)) as image:
        small = encoded(np.asarray(image.resize((200, 150))), "PNG")
    assert any("400 px" in warning for warning in cut_out(small, lite).warnings)
    assert not cut_out(photo, lite).warnings


def test_edge_work_can_be_switched_off(astronaut: bytes, lite: Segmenter) -> None:
    options = CutoutOptions(refine=False, decontaminate=False)
    cutout = cut_out(astronaut, lite, options)
    pixels, source = opened(cutout.image), opened(astronaut)
    assert cutout.refinement == "none"
    assert cut_out(astronaut, lite).refinement != "none"
    seen = pixels[..., 3] > 0
    assert np.array_equal(pixels[seen][:, :3], source[seen])
    assert not pixels[~seen].any()  # the background is not in the file at all


def test_a_segmenter_of_one_thread_keeps_to_one_core(photo: bytes, lite: Segmenter) -> None:
    cut_out(photo, lite)
    started_s, worked_s = time.perf_counter(), time.process_time()

    for _ in range(3):
        cut_out(photo, lite)

    elapsed_s = time.perf_counter() - started_s
    assert time.process_time() - worked_s < 1.1 * elapsed_s


@pytest.mark.parametrize("threads", [2, 3])
def test_more_threads_make_the_same_cutout(
    threads: int, photo: bytes, lite: Segmenter, astronaut: bytes
) -> None:
    several = load_segmenter("cutout-lite", None, threads=threads)
    for source in (photo, astronaut):
        for options in (CutoutOptions(), CutoutOptions(roi="10% 10% 90% 100%")):
            one, other = cut_out(source, lite, options), cut_out(source, several, options)
            assert one.image == other.image
            assert (one.confidence, one.reasons) == (other.confidence, other.reasons)


@pytest.mark.parametrize("threads", [1, 3])
def test_a_large_picture_is_overwritten_with_what_a_copy_of_it_would_have_given(
    threads: int, astronaut: bytes
) -> None:
    """Past 3 megapixels colours are written over the source, while alpha is still made from it."""
    large = cv2.resize(opened(astronaut), (1900, 1810), interpolation=cv2.INTER_CUBIC)
    source = encoded(large, "JPEG", quality=92)
    segmenter = load_segmenter("cutout-lite", None, threads=threads)
    variants = [
        CutoutOptions(),
        CutoutOptions(bg_color="#123456"),
        CutoutOptions(channels="alpha"),
        CutoutOptions(),
    ]

    plain, shown, alpha, again = cut_out_many(source, segmenter, variants)

    image = decode(source, ImageLimits()).image
    found = segmenter.segment(image)
    matte = solve(image, found.mask, seen=found.seen, threads=threads)
    expected_alpha = scale_up(matte, image)
    coarse = coarse_colours(matte.picture, matte.alpha, image.shape)
    expected = np.dstack([decontaminate(image, expected_alpha, coarse), expected_alpha])
    assert np.array_equal(opened(plain.image), expected)
    assert np.array_equal(opened(alpha.image), expected_alpha)
    assert plain.image == again.image
    assert plain.image == cut_out(source, segmenter).image
    assert shown.image == cut_out(source, segmenter, variants[1]).image


def test_past_its_deadline_a_picture_still_gets_an_edge_and_says_which(
    astronaut: bytes, lite: Segmenter
) -> None:
    now_s = time.monotonic()
    hurried = cut_out(astronaut, lite, deadline_s=now_s - 1)
    patient = cut_out(astronaut, lite, deadline_s=now_s + 3600)

    assert (hurried.refinement, patient.refinement) == ("guided", "closed-form")
    assert patient.image == cut_out(astronaut, lite).image
    alpha = opened(hurried.image)[..., 3]
    assert alpha[60:160, 190:260].mean() > 250  # her face
    assert alpha[:150, 400:].mean() < 64  # the shuttle behind her


def test_a_deadline_holds_for_every_showing_of_a_subject(astronaut: bytes, lite: Segmenter) -> None:
    variants = [CutoutOptions(), CutoutOptions(bg_color="#fff")]
    cutouts = cut_out_many(astronaut, lite, variants, deadline_s=time.monotonic() - 1)
    assert [cutout.refinement for cutout in cutouts] == ["guided", "guided"]


def test_the_place_where_a_photograph_was_taken_is_not_passed_on(
    astronaut: bytes, lite: Segmenter
) -> None:
    exif = Image.Exif()
    exif[0x010F] = "MakerOfTheCamera"
    exif.get_ifd(0x8825)[2] = (52.0, 31.0, 12.0)
    source = encoded(opened(astronaut), "JPEG", exif=exif.tobytes(), comment=b"SecretComment")
    assert b"MakerOfTheCamera" in source
    for file_format in ("png", "webp", "jpg", "zip"):
        cutout = cut_out(source, lite, CutoutOptions(format=file_format))
        for secret in (b"MakerOfTheCamera", b"SecretComment", b"Exif"):
            assert secret not in cutout.image


@given(st.binary(max_size=300))
@settings(max_examples=100, deadline=None)
def test_bytes_that_are_no_picture_are_core_errors(lite: Segmenter, source: bytes) -> None:
    with pytest.raises(CoreError):
        cut_out(source, lite)


def test_a_photograph_cut_short_is_unreadable(photo: bytes, lite: Segmenter) -> None:
    with pytest.raises(UnreadableImageError):
        cut_out(photo[: len(photo) // 2], lite)


def test_real_weights_find_real_subjects(shared_dir: Path) -> None:
    segmenter = load_segmenter("u2netp", shared_dir / "models", threads=2)
    folder = shared_dir / "data/eval/ccp"
    images, truths = (sorted((folder / kind).iterdir()) for kind in ("images", "masks"))
    overlaps = []
    for image, truth in zip(images[:6], truths[:6], strict=True):
        alpha = opened(cut_out(image.read_bytes(), segmenter).image)[..., 3] > 127
        with Image.open(truth) as mask:
            person = np.asarray(mask.convert("L").resize(alpha.shape[::-1])) > 127
        overlaps.append((alpha & person).sum() / (alpha | person).sum())
    assert np.median(overlaps) > 0.9


def test_the_public_names_are_these() -> None:
    assert sorted(core.__all__) == sorted(
        [
            "BYTES_PER_PIXEL_PEAK",
            "WEIGHTS",
            "CoreError",
            "Cutout",
            "CutoutOptions",
            "ImageHeader",
            "ImageLimits",
            "Segmenter",
            "Weights",
            "cut_out",
            "cut_out_many",
            "find_weights",
            "inspect",
            "load_segmenter",
            "resolve_model",
        ]
    )
    assert Cutout.__doc__
