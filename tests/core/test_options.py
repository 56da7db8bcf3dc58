"""A choice that cannot be honoured is refused when it is made."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import CutoutOptions
from core.errors import InvalidOptionError
from core.options import parse_colour, parse_margin, parse_roi


@pytest.mark.parametrize(
    ("text", "colour"),
    [
        ("#fff", (255, 255, 255, 255)),
        ("f0f", (255, 0, 255, 255)),
        ("#0f08", (0, 255, 0, 136)),
        ("#1a2b3c", (26, 43, 60, 255)),
        ("1A2B3C80", (26, 43, 60, 128)),
        ("magenta", (255, 0, 255, 255)),
        (" RebeccaPurple ", (102, 51, 153, 255)),
    ],
)
def test_colours_are_read(text: str, colour: tuple[int, ...]) -> None:
    assert parse_colour(text) == colour


@given(st.tuples(*[st.integers(0, 255)] * 4))
def test_every_colour_can_be_said_in_hex(colour: tuple[int, int, int, int]) -> None:
    assert parse_colour("#" + bytes(colour).hex()) == colour


@pytest.mark.parametrize("text", ["", "#", "#12", "#12345", "#gggggg", "rgb(1,2,3)", "blurple"])
def test_what_is_no_colour_is_refused(text: str) -> None:
    with pytest.raises(InvalidOptionError) as refused:
        CutoutOptions(bg_color=text)
    assert refused.value.option == "bg_color"


@pytest.mark.parametrize(
    ("text", "sides_px"),
    [
        ("10px", [10, 10, 10, 10]),
        ("10% 20px", [20, 20, 20, 20]),
        ("1 2 3 4", [1, 2, 3, 4]),
        ("0.5% 0 50% 500px", [1, 0, 100, 500]),
    ],
)
def test_margins_are_read_as_in_css(text: str, sides_px: list[int]) -> None:
    assert [length.px_of(200) for length in parse_margin(text)] == sides_px


@pytest.mark.parametrize("text", ["", "1 2 3", "51%", "501px", "-1px", "1em", "1px,2px"])
def test_what_is_no_margin_is_refused(text: str) -> None:
    with pytest.raises(InvalidOptionError, match="crop_margin"):
        CutoutOptions(crop=True, crop_margin=text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("501px", "is at most 50% or 500px"),
        ("999999px", "is at most 50% or 500px"),
        ("9" * 400 + "%", "is at most 50% or 500px"),
        ("-5px", "lengths are not below 0"),
        ("5em", "lengths are numbers in px or %, as in 10px or 2.5%"),
    ],
)
def test_a_margin_is_refused_for_what_is_wrong_with_it(text: str, why: str) -> None:
    with pytest.raises(InvalidOptionError) as refused:
        CutoutOptions(crop=True, crop_margin=text)
    assert refused.value.why == why


def test_a_region_is_two_corners() -> None:
    corners = parse_roi("10px 5% 100% 200")
    assert [length.px_of(400) for length in corners] == [10, 20, 400, 200]


@pytest.mark.parametrize("text", ["", "1 2 3", "a b c d", "1 2 3 4 5", "nan 0 1 1", "1e9 0 1 1"])
def test_what_is_no_region_is_refused(text: str) -> None:
    with pytest.raises(InvalidOptionError, match="roi"):
        CutoutOptions(roi=text)


@pytest.mark.parametrize(
    ("chosen", "option"),
    [
        ({"transparency": "glass"}, "transparency"),
        ({"format": "gif"}, "format"),
        ({"channels": "red"}, "channels"),
        ({"clothes": "hat"}, "clothes"),
        ({"confidence_min": 1.5}, "confidence_min"),
        ({"confidence_min": float("nan")}, "confidence_min"),
        ({"bg_color": "red", "bg_image": b"x"}, "bg_color"),
        ({"channels": "alpha", "bg_color": "red"}, "channels"),
        ({"channels": "alpha", "format": "zip"}, "channels"),
        ({"format": "zip", "bg_color": "red"}, "format"),
        ({"crop_margin": "10px"}, "crop_margin"),
    ],
)
def test_contradictions_are_refused_by_name(chosen: dict[str, Any], option: str) -> None:
    with pytest.raises(InvalidOptionError) as refused:
        CutoutOptions(**chosen)
    assert refused.value.option == option


@given(st.text(max_size=30))
def test_any_text_is_an_option_or_an_invalid_one(text: str) -> None:
    for option in ("bg_color", "roi", "crop_margin"):
        chosen: dict[str, Any] = {option: text, "crop": True}
        try:
            CutoutOptions(**chosen)
        except InvalidOptionError as refused:
            assert refused.option == option  # noqa: PT017 - most texts are no option
