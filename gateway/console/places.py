"""Where a page of a list begins: after a row, by its time and id."""

from datetime import UTC, datetime
from uuid import UUID

from gateway.web.refusals import MissingPageError


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
