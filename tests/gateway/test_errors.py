"""The table of problems: whole, and of one mind about what may be tried again."""

import pytest

from billing.errors import BillingError, InsufficientCreditsError, KeyBudgetError
from core.errors import CoreError, UnsupportedFormatError
from gateway.dialects.words import words_for
from gateway.errors import (
    INTERNAL,
    PROBLEMS,
    GatewayError,
    InvalidRequestError,
    problem_for,
    title_of,
)


def kinds_below(root: type[Exception]) -> set[type[Exception]]:
    """Find every class below `root` that nothing derives from, or that has fields of its own."""
    below = set(root.__subclasses__())
    return below.union(*(kinds_below(kind) for kind in below)) if below else set()


@pytest.mark.parametrize("root", [BillingError, CoreError, GatewayError])
def test_every_error_has_an_answer(root: type[Exception]) -> None:
    lost = {
        kind.__name__
        for kind in kinds_below(root)
        if not kind.__subclasses__() and not set(kind.__mro__) & set(PROBLEMS)
    }
    assert not lost


def test_a_kind_of_its_own_is_answered_as_its_nearest_relation() -> None:
    exc = KeyBudgetError(needed=25, available=5)
    assert problem_for(exc) == PROBLEMS[InsufficientCreditsError]


def test_what_no_table_knows_is_an_internal_error_and_says_nothing() -> None:
    exc = RuntimeError("password=hunter2")
    assert problem_for(exc) is INTERNAL
    assert words_for(exc, INTERNAL) == "Internal error"


def test_facts_are_told_in_our_own_words() -> None:
    exc = UnsupportedFormatError("gif")
    assert words_for(exc, problem_for(exc)) == (
        "Unsupported image format: gif. Supported: png, jpg, jpeg, webp, bmp"
    )


def test_a_callers_own_words_come_back_at_bearable_length() -> None:
    exc = InvalidRequestError("unknown field " + "x" * 10_000)
    assert len(words_for(exc, problem_for(exc))) < 500


def test_a_problem_that_passes_by_itself_is_said_to_be_worth_another_try() -> None:
    for problem in PROBLEMS.values():
        if problem.status == 429:
            assert problem.retryable
        if problem.status in {401, 402, 403, 404, 410, 413, 415, 422}:
            assert not problem.retryable


@pytest.mark.parametrize(
    ("kind", "code", "title"),
    [
        ("UnsupportedFormatError", "unsupported_format", "Unsupported image format"),
        ("TooManyFramesError", "unsupported_format", "Animated images are not supported"),
        (None, "unsupported_format", "Unsupported image format"),
        (None, "deadline_exceeded", "Processing took too long"),
        ("RuntimeError", None, INTERNAL.title),
    ],
)
def test_a_failed_jobs_row_says_which_of_several_kinds_it_was(
    kind: str | None, code: str | None, title: str
) -> None:
    assert title_of(kind, code) == title
