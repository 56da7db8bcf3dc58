"""What a page's address asks for: words, ids and times, read leniently and never trusted."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final
from urllib.parse import urlencode
from uuid import UUID

from gateway.web.refusals import FormError

WORD_LENGTH_MAX: Final = 200
DAY: Final = timedelta(days=1)


def word_in(query: Mapping[str, str], name: str) -> str:
    """Read a word, without what the database can compare with nothing."""
    return query.get(name, "").replace("\x00", "").strip()[:WORD_LENGTH_MAX]


def id_in(text: str) -> UUID | None:
    """Read an id; None where it is none."""
    try:
        return UUID(text)
    except ValueError:
        return None


def moment_in(query: Mapping[str, str], name: str, *, is_end: bool = False) -> datetime | None:
    """Read a time in UTC, or a day: its beginning, or for an end the beginning of the next.

    Raises:
        FormError: it is neither.
    """
    text = word_in(query, name)
    if not text:
        return None
    try:
        at = datetime.fromisoformat(text)
        is_day = len(text) == len("2026-11-20")
        at = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
        return at + DAY if is_day and is_end else at
    except (ValueError, OverflowError):
        raise FormError(f"“{text}” is not a time: 2026-11-20, or 2026-11-20T13:30.") from None


def number_in(query: Mapping[str, str], name: str) -> int | None:
    """Read a whole number that fits the database; None where there is none."""
    text = word_in(query, name)
    return int(text) if text.isascii() and text.isdigit() and len(text) <= len("9" * 18) else None


def address(path: str, asked: Mapping[str, str], **changed: str) -> str:
    """Give the address that asks for the same, but for what is changed."""
    kept = {name: value for name, value in {**asked, **changed}.items() if value}
    return f"{path}?{urlencode(kept)}" if kept else path
