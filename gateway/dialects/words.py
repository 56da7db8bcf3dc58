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
    "UrlMalformedError": "{field} is not allowed: a URL {why}",
    "UrlNotAllowedError": "{field} is not allowed: {rule}",
    "UrlUnreachableError": "{field} is unreachable",
    "UrlStatusError": "{field} leads to an answer of HTTP status {status} instead of a picture",
    "UnsupportedFormatError": "Unsupported image format: {format_name}. Supported: " + SUPPORTED,
    "TooManyFramesError": "Animated images are not supported: {frames} frames, 1 allowed",
    "ImageTooLargeError": "The image is over the limits: {width_px} x {height_px} px, {why}",
    "NoForegroundError": "No foreground found: {why}",
    "SourceTooLargeError": "File too large: more than {bytes_max} bytes",
    "InvalidRequestError": "The request is not valid: {why}",
    "InvalidOptionError": "The request is not valid: {option}: {why}",
    "ContentTypeError": "The content type is not accepted here: send {accepted}",
    "KeyScopeError": "The API key lacks the scope for this call: {scope}",
    "UnknownModelError": "Unknown model: {name}. Known: " + ", ".join([*sorted(WEIGHTS), "auto"]),
    "WeightsNotInstalledError": "The model is not installed: {name}",
    "InsufficientCreditsError": "Insufficient credits: {needed} needed, {available} available",
    "KeyBudgetError": "The key's budget is used up: {needed} credits needed, {available} left",
    "RateLimitedError": "Rate limit exceeded, retry after {retry_after_s} s",
    "TooManyAtOnceError": "Too many requests at once: {concurrency_max} allowed",
    "OverloadedError": "Overloaded, retry after {retry_after_s} s",
}
FIELD_NAMES: Final = {"bg_image": "bg_image_url"}
"""Of options of the core, as a caller sends them."""
BY_CODE: Final[Mapping[str, Problem]] = {
    problem.code: problem
    for problem in (*reversed(PROBLEMS.values()), NOT_FOUND, METHOD_NOT_ALLOWED, INTERNAL)
}


def words_for(exc: BaseException, problem: Problem) -> str:
    """Say what was refused and why, in words fit for the caller."""
    return sentence(type(exc).__name__, facts_in(exc), problem)


def sentence(kind: str | None, facts: Mapping[str, Any], problem: Problem) -> str:
    """Say it from an exception's class name and fields; without either, the title.

    Where it is not the source that is at fault, the field that is stands in the sentence.
    """
    template, field = SENTENCES.get(kind or "", ""), facts.get("field")
    try:
        words = template.format_map(facts) or problem.title
    except KeyError:
        words = problem.title
    if field is not None and "{field}" not in template:
        words = f"{FIELD_NAMES.get(field, field)}: {words}"
    return words if len(words) <= WORDS_MAX else f"{words[:WORDS_MAX]}…"


def facts_in(exc: BaseException) -> dict[str, Any]:
    """An exception's own fields; lists as a caller reads them."""
    return {
        name: " or ".join(value) if isinstance(value, tuple) else value
        for name, value in vars(exc).items()
    }
