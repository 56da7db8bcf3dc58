"""A refusal in public words: its title, and the facts that help the caller.

The sentences are made from an exception's fields, never from its message, so that what a library
says about our insides stays inside. A failed job keeps the same fields in its row.
"""

from collections.abc import Mapping
from typing import Any, Final

from core import WEIGHTS
from gateway.errors import INTERNAL, METHOD_NOT_ALLOWED, NOT_FOUND, PROBLEMS, Problem

SUPPORTED: Final = "png, jpg, jpeg, webp, bmp"
WORDS_MAX: Final = 400
"""A caller's own words come back in some of them."""
SENTENCES: Final[Mapping[str, str]] = {
    "MissingKeyError": "An API key is required: send it as {send_as}",
    "UrlMalformedError": "image_url is not allowed: a URL {why}",
    "UnsupportedFormatError": "Unsupported image format: {format_name}. Supported: " + SUPPORTED,
    "TooManyFramesError": "Animated images are not supported: {frames} frames, 1 allowed",
    "ImageTooLargeError": "The image has too many pixels: {width_px} x {height_px}",
    "SourceTooLargeError": "File too large: more than {bytes_max} bytes",
    "InvalidRequestError": "The request is not valid: {why}",
    "InvalidOptionError": "The request is not valid: {option}: {why}",
    "ContentTypeError": "The content type is not accepted here: send {accepted}",
    "UnknownModelError": "Unknown model: {name}. Known: " + ", ".join([*sorted(WEIGHTS), "auto"]),
    "WeightsNotInstalledError": "The model is not installed: {name}",
    "InsufficientCreditsError": "Insufficient credits: {needed} needed, {available} available",
    "KeyBudgetError": "The key's budget is used up: {needed} credits needed, {available} left",
    "RateLimitedError": "Rate limit exceeded, retry after {retry_after_s} s",
    "TooManyAtOnceError": "Too many requests at once: {concurrency_max} allowed",
    "OverloadedError": "Overloaded, retry after {retry_after_s} s",
}
BY_CODE: Final[Mapping[str, Problem]] = {
    problem.code: problem
    for problem in (*reversed(PROBLEMS.values()), NOT_FOUND, METHOD_NOT_ALLOWED, INTERNAL)
}


def words_for(exc: BaseException, problem: Problem) -> str:
    """Say what was refused and why, in words fit for the caller."""
    return sentence(type(exc).__name__, facts_in(exc), problem)


def sentence(kind: str | None, facts: Mapping[str, Any], problem: Problem) -> str:
    """Say it from an exception's class name and fields; without either, the title."""
    try:
        words = SENTENCES[kind or ""].format_map(facts)
    except KeyError:
        return problem.title
    return words if len(words) <= WORDS_MAX else f"{words[:WORDS_MAX]}…"


def facts_in(exc: BaseException) -> dict[str, Any]:
    """An exception's own fields; lists as a caller reads them."""
    return {
        name: " or ".join(value) if isinstance(value, tuple) else value
        for name, value in vars(exc).items()
    }
