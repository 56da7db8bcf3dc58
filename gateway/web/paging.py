"""Lists that are read in pages by number: which one is asked for, and where those beside it are."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from litestar import Request

from gateway.web.refusals import MissingPageError

PAGE_DIGITS_MAX: Final = 6


@dataclass(frozen=True, slots=True)
class Pager:
    """The pages beside one, empty where there is none, and which rows of how many it shows."""

    older: str
    newer: str
    note: str


def page_number(request: Request[Any, Any, Any]) -> int:
    """Read which page is meant by `page`, the first being 1; that one where none is said.

    Raises:
        MissingPageError: it says no page.
    """
    said = request.query_params.get("page", "")
    is_number = said.isascii() and said.isdigit() and len(said) <= PAGE_DIGITS_MAX
    if said and not (is_number and int(said)):
        raise MissingPageError
    return int(said or 1)


def pager_for(
    number: int, *, rows_passed: int, shown: int, count: int, address: Callable[[int], str]
) -> Pager:
    """Say where the pages beside `number` are, which shows so many rows past the first ones."""
    last = rows_passed + shown
    return Pager(
        older=address(number + 1) if shown and last < count else "",
        newer=address(number - 1) if number > 1 else "",
        note=f"{rows_passed + 1:,} to {last:,} of {count:,}" if shown else "",
    )
