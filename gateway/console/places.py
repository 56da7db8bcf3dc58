"""Where a page of a list begins: after a row, by its time and id, or so many pages on."""

from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from gateway.web.refusals import MissingPageError

PAGE_DIGITS_MAX: Final = 6


def place_of(said: str) -> tuple[datetime, UUID]:
    """Read a place as the link to a page says it.

    Raises:
        MissingPageError: it says no place.
    """
    at, _, row_id = said.partition("_")
    try:
        return datetime.fromisoformat(at).astimezone(UTC), UUID(row_id)
    except (ValueError, OverflowError):
        raise MissingPageError from None


def page_of(said: str) -> int:
    """Read which page is meant, the first being 1; that one where none is said.

    Raises:
        MissingPageError: it says no page.
    """
    is_number = said.isascii() and said.isdigit() and len(said) <= PAGE_DIGITS_MAX
    if said and not (is_number and int(said)):
        raise MissingPageError
    return int(said or 1)
